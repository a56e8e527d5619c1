"""What the ranks of a run settle among themselves before the first step."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from yayi_data.errors import YayiError
from yayi_train.config import deciding
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
    """Wait for every rank, and refuse ranks with other data, another model, layout or flag that matters."""
    seen = agree(_facts(start))
    for number, facts in enumerate(seen):
        for name in sorted(facts.keys() | seen[0].keys()):
            here, first = facts.get(name), seen[0].get(name)
            if here != first:
                raise YayiError(
                    f"rank {number} has {name} {here!r}; rank 0 has {first!r}: "
                    "give every node the same data, model and flags"
                )


def _facts(start: Start) -> dict[str, Any]:
    """Return what the ranks must have in common; a node may keep the model in a place of its own."""
    flags = deciding(start.config)
    del flags["model/path"]
    file = start.file
    seen = {"data": file.digest[:12], "base model": file.base[:12], "steps": file.total_steps}
    return flags | seen | start.layout._asdict()


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
