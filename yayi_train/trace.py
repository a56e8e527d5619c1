"""Which source lines were in a step of a run, per rank."""

from pathlib import Path
from typing import Any

from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.remote.mirror import packed_at
from yayi_train.data import Order, open_corpus, passes, place_of
from yayi_train.run_folder import RUN, read_run


def trace(folder: Path, step: int) -> dict[str, Any]:
    """Return the places of a step: {"step", "epoch", "world_size", "ranks": [{"rank", "passes"}]}.

    A rank has forward passes, a pass rows, a row the places of its conversations.
    """
    file = read_run(folder)
    if file is None:
        raise YayiError(f"{folder}: holds no {RUN}; give the --local-output-dir of a run")
    if not 1 <= step <= file.total_steps:
        raise YayiError(f"--step is {step}; the run in {folder} has the steps 1 to {file.total_steps}")
    config = file.config
    corpus = open_corpus(packed_at(file.data), config.data, config.run.seed)
    if corpus.manifest.digest != file.digest:
        raise DataError(
            f"{file.data}: its digest is {corpus.manifest.digest[:12]}, the run's was {file.digest[:12]}; "
            "it was packed anew since"
        )
    order = Order(corpus, config.data, config.run.seed, file.global_rows, file.epoch_steps)
    batch, layout = order.batch(step), file.layout(step)

    def places(rank: int) -> list[list[list[dict[str, Any]]]]:
        return [
            [[place_of(corpus, int(entry))._asdict() for entry in row] for row in rows]
            for rows in passes(batch, layout, rank)
        ]

    return {
        "step": step,
        "epoch": order.locate(step)[0],
        "world_size": layout.world_size,
        "ranks": [{"rank": rank, "passes": places(rank)} for rank in range(layout.world_size)],
    }


def as_text(traced: dict[str, Any]) -> str:
    """Return a trace as lines: one a conversation, with its rank and row."""
    lines = []
    for rank in traced["ranks"]:
        rows = [row for rows in rank["passes"] for row in rows]
        for number, row in enumerate(rows):
            here = f"rank {rank['rank']}  row {number}"
            lines += [f"{here}  {one_line(place['path'])}:{place['line']}" for place in row]
    return "\n".join(lines)
