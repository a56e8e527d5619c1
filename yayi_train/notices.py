"""What a start tells before its first step: its size, and what is odd about it."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from yayi_data.console import one_line
from yayi_train.config import PackConfig
from yayi_train.data import Corpus, Entries, place_of
from yayi_train.flags import Flags
from yayi_train.start import Start


def size(start: Start) -> str:
    """Return the steps of a run and what makes one of them, in a line."""
    epoch = start.order.steps(0)
    ranks, rows, passes = start.layout
    return (
        f"{start.file.total_steps} steps, {epoch} an epoch, about {len(start.corpus.train) / epoch:.1f} "
        f"conversations a step: {ranks} processes x {rows} rows x {passes} passes"
    )


def kept_batch(start: Start) -> str | None:
    """Tell that a run keeps the rows of its steps where the flags ask for others, else None."""
    batch, layout = start.config.batch, start.layout
    asked = layout.world_size * batch.train_rows * batch.accumulation
    if asked == layout.global_rows:
        return None
    return f"this run's steps have {layout.global_rows} rows and keep them; the flags would make it {asked}"


def warnings(start: Start, positions: int | None) -> Iterator[str]:
    """Yield what is odd about a run; `positions` are those that its model was made for."""
    optimizer, corpus, total = start.config.optimizer, start.corpus, start.file.total_steps
    if optimizer.lr == 0:
        yield "the learning rate is 0, so nothing is learnt"
    if start.config.lora and start.config.lora.alpha == 0:
        yield "--lora-alpha is 0, which scales the adapters away: they learn nothing"
    if optimizer.warmup_steps >= total:
        yield (
            f"the warm-up has {optimizer.warmup_steps} steps and the run {total}: "
            "the learning rate never reaches its highest"
        )
    silent = int((corpus.index.supervised_tokens[corpus.train] == 0).sum())
    if silent:
        yield f"{silent} conversations have no supervised token, so nothing is learnt from them"
    if start.config.data.test_size and not start.evaluates:
        yield (
            f"--test-size {start.config.data.test_size:g} keeps {len(corpus.test)} of "
            f"{len(corpus.test) + len(corpus.train)} conversations and no supervised token: "
            "nothing is evaluated"
        )
    if positions:
        yield from _too_long(corpus, np.concatenate([corpus.train, corpus.test]), positions)


def _too_long(corpus: Corpus, entries: Entries, positions: int) -> Iterator[str]:
    lengths = corpus.index.tokens[entries]
    long = int(np.count_nonzero(lengths > positions))
    if long:
        place = place_of(corpus, int(entries[lengths.argmax()]))
        yield (
            f"{long} conversations are longer than the {positions} positions that the model was made for "
            f"(the longest, {one_line(place.path)}:{place.line}, has {lengths.max()} tokens)"
        )


def idle_flags(flags: Flags, start: Start) -> str | None:
    """Tell of flags of packing that were given with a packed folder, None where none was."""
    names = [field.name for field in fields(PackConfig) if getattr(flags, field.name) is not None]
    if not names or start.file.data != start.config.data.path:
        return None
    given = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    return f"{start.file.data} is packed already: {given}, for raw files, change nothing"
