"""What the ranks of a run settle among themselves before the first step."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from yayi_data.errors import YayiError
from yayi_train.engine import agree
from yayi_train.ranks import rank
from yayi_train.start import Start

T = TypeVar("T")


def first_decides(decide: Callable[[], T]) -> T:
    """Return on every rank what `decide` returned on rank 0, or raise there the YayiError it raised."""
    outcome: list[T | None] = [None]
    refusal: list[str | None] = [None]
    if rank() == 0:
        try:
            outcome = [decide()]
        except YayiError as error:
            refusal = [str(error)]
    dist.broadcast_object_list(refusal, src=0)
    if refusal[0] is not None:
        raise YayiError(refusal[0])
    dist.broadcast_object_list(outcome, src=0)
    return outcome[0]  # type: ignore[return-value]


def refuse_differences(start: Start) -> None:
    """Wait for every rank, and refuse ranks with other data, another layout or another number of steps."""
    ranks, rows, passes = start.layout
    layout = f"{ranks} processes x {rows} rows x {passes} passes"
    seen = agree(f"data {start.file.digest[:12]}, {layout}, {start.file.total_steps} steps")
    for number, value in enumerate(seen):
        if value != seen[0]:
            raise YayiError(
                f"rank {number} has {value}; rank 0 has {seen[0]}: give every node the same data and flags"
            )


def refuse_unshared(folder: Path) -> None:
    """Refuse a folder that is not the same one on every node: rank 0 leaves a file that all must see."""
    token = folder / first_decides(lambda: f"run.{secrets.token_hex(8)}.tmp")  # in no node's cache of names
    if rank() == 0:
        token.touch()
    dist.barrier()
    seen = agree("sees" if token.exists() else "misses")
    if rank() == 0:
        token.unlink()
    if "misses" in seen:
        raise YayiError(
            f"{folder}: rank {seen.index('misses')} sees another folder there than rank 0; "
            "--local-output-dir is a folder that all nodes share"
        )
