"""Which conversations are in which step of which rank: a function of (manifest, seed, step, world size).

Nothing is read but the index until a row's tokens are needed, so being at step 100,000 is arithmetic.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yayi_data import plan
from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.index import Index, open_index
from yayi_data.manifest import Manifest, load, read_listed
from yayi_data.shard import Shards
from yayi_train.config import DataConfig

Entries = NDArray[np.int64]
"""Entries of the index: the conversations of a row, a batch, a split."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A packed folder, checked, and the entries of its index that are trained and tested on."""

    folder: Path
    manifest: Manifest
    index: Index
    shards: Shards
    train: Entries
    test: Entries


class Layout(NamedTuple):
    """How a global batch is cut: `rows` a forward pass, `accumulation` passes, on `world_size` ranks."""

    world_size: int
    rows: int
    accumulation: int

    @property
    def global_rows(self) -> int:
        """Rows of a global batch."""
        return self.world_size * self.rows * self.accumulation


class Place(NamedTuple):
    """The source of a conversation."""

    path: str
    line: int
    record: int


def open_corpus(folder: Path, data: DataConfig, seed: int) -> Corpus:
    """Open a packed folder and choose what is trained and tested on.

    Raises YayiError where the choice cannot be met, DataError where the folder is not what its manifest says.
    """
    manifest = load(folder)
    for file in manifest.files:
        if file.path.startswith("tokenizer/"):
            read_listed(folder, manifest, file.path)  # refuses changed bytes
    index = open_index(folder, manifest)
    if manifest.order_version != plan.ORDER_VERSION:
        raise YayiError(
            f"{folder}: its order has version {manifest.order_version}, this one makes {plan.ORDER_VERSION}; "
            "pack the data again"
        )
    chosen = _chosen(folder, index, data)
    train, test = plan.split(index.content_hash[chosen], data.test_size, seed)
    corpus = Corpus(folder, manifest, index, Shards(folder, manifest), chosen[train], chosen[test])
    _refuse_long(corpus, data.seq_len)
    return corpus


def _chosen(folder: Path, index: Index, data: DataConfig) -> Entries:
    """Return the entries within --limit and of --train-on-domains."""
    plan.mix_weights(index.names, data.mix)
    unknown = [name for name in data.domains if name not in index.names]
    if unknown:
        raise YayiError(
            f"--train-on-domains: {folder} has no domain {one_line(', '.join(unknown))}; "
            f"it has {one_line(', '.join(index.names))}"
        )
    chosen = np.arange(min(len(index), data.limit or len(index)), dtype=np.int64)
    if data.domains:
        codes = [index.names.index(name) for name in data.domains]
        chosen = chosen[np.isin(index.domain[chosen], codes)]
    if not len(chosen):
        raise DataError(f"{folder}: holds no conversation to train on")
    return chosen


def _refuse_long(corpus: Corpus, seq_len: int) -> None:
    entries = np.concatenate([corpus.train, corpus.test])
    lengths = corpus.index.tokens[entries]
    long = int(np.count_nonzero(lengths > seq_len))
    if long:
        longest = int(entries[lengths.argmax()])
        place = place_of(corpus, longest)
        raise YayiError(
            f"{corpus.folder}: {long} of {len(entries)} conversations are longer than --seq-len {seq_len} "
            f"(the longest, {one_line(place.path)}:{place.line}, has {lengths.max()} tokens); "
            f"raise --seq-len, or pack with --max-length {seq_len}"
        )


def place_of(corpus: Corpus, entry: int) -> Place:
    """Return the source of one conversation."""
    row = corpus.shards.row(int(corpus.index.shard[entry]), int(corpus.index.row[entry]))
    return Place(corpus.manifest.sources[row.source].name, row.line, row.record)


@dataclass(frozen=True, slots=True)
class _Laid:
    """An epoch laid out: the entries that its plan's examples number, and the plan's rows in a global batch.

    A plan without packing has a global batch in each of its rows, whose conversations are rows of their own.
    """

    entries: Entries
    plan: plan.Plan
    rows: int
    packing: bool

    def batch(self, number: int) -> list[Entries]:
        """Return the rows of a global batch."""
        if not self.packing:
            entries = self.entries[self.plan.row(number)]
            return np.split(entries, len(entries))
        first = number * self.rows
        rows = range(first, min(first + self.rows, len(self.plan)))
        return [self.entries[self.plan.row(i)] for i in rows]


class Order:
    """The order of the global batches; it does not depend on the number of ranks.

    Every conversation is in one batch an epoch, so some batch of an epoch is smaller. `counted` lists the
    steps of the epochs counted so far: epochs are packed anew, so their numbers of rows differ
    slightly. Handing a later Order this list spares it from counting again. An epoch that --mix leaves
    without a conversation is a YayiError.
    """

    def __init__(
        self, corpus: Corpus, data: DataConfig, seed: int, global_rows: int, counted: Sequence[int] = ()
    ) -> None:
        self.counted = list(counted)
        self._ends = list(accumulate(counted))
        self._corpus = corpus
        self._data = data
        self._seed = seed
        self._global_rows = global_rows
        self._laid: tuple[int, _Laid] | None = None
        if data.mix and not counted:
            self._entries(0)

    def total_steps(self, epochs: int) -> int:
        """Return the number of steps in the first `epochs` epochs."""
        return sum(self.steps(epoch) for epoch in range(epochs))

    def locate(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step, counted from 1, and its number in that epoch; both from 0."""
        while not self._ends or self._ends[-1] < step:
            self.steps(len(self._ends))
        epoch = bisect_left(self._ends, step)
        return epoch, step - 1 - (self._ends[epoch - 1] if epoch else 0)

    def batch(self, step: int) -> list[Entries]:
        """Return the rows of a step's global batch, each the index entries of its conversations."""
        epoch, number = self.locate(step)
        return self._planned(epoch).batch(number)

    def epoch(self, epoch: int) -> list[list[Entries]]:
        """Return the global batches of an epoch."""
        laid = self._planned(epoch)
        return [laid.batch(number) for number in range(self.steps(epoch))]

    def steps(self, epoch: int) -> int:
        """Return the number of steps in an epoch."""
        while len(self.counted) <= epoch:
            self.counted.append(-(-self._count_rows(len(self.counted)) // self._global_rows))
            self._ends.append(self.counted[-1] + (self._ends[-1] if self._ends else 0))
        return self.counted[epoch]

    def _count_rows(self, epoch: int) -> int:
        entries = self._entries(epoch)
        if not self._data.packing:
            return len(entries)
        return plan.count_rows(self._corpus.index.tokens[entries], self._data.seq_len, self._seed, epoch)

    def _planned(self, epoch: int) -> _Laid:
        """Return an epoch laid out; that of the last one asked for is kept."""
        if self._laid is None or self._laid[0] != epoch:
            self._laid = (epoch, self._lay(epoch))
        return self._laid[1]

    def _lay(self, epoch: int) -> _Laid:
        entries, data, rows = self._entries(epoch), self._data, self._global_rows
        lengths = self._corpus.index.tokens[entries]
        if data.packing:
            planned = plan.pack(lengths, data.seq_len, self._seed, epoch)
        else:
            planned = plan.unpacked(lengths, rows, self._seed, epoch)
        return _Laid(entries, planned, rows, data.packing)

    def _entries(self, epoch: int) -> Entries:
        """Return the conversations of an epoch in ascending order, repeated as --mix says."""
        index, train = self._corpus.index, self._corpus.train
        if not self._data.mix:
            return train
        weights = plan.mix_weights(index.names, self._data.mix)
        entries = train[plan.repeat(index.domain[train], weights, self._seed, epoch)]
        if not len(entries):
            raise YayiError(
                f"--mix: its weights leave epoch {epoch + 1} none of the {len(train)} conversations; "
                "raise a weight"
            )
        return entries


def rows_of(corpus: Corpus, entries: Entries, data: DataConfig, seed: int) -> list[Entries]:
    """Return entries laid into rows for an evaluation, always the same."""
    lengths = corpus.index.tokens[entries]
    if not data.packing:
        return [entries[i : i + 1] for i in np.argsort(lengths, kind="stable")]
    packed = plan.pack(lengths, data.seq_len, seed, 0)
    return [entries[packed.row(i)] for i in range(len(packed))]


def passes(batch: Sequence[Entries], layout: Layout, rank: int) -> list[Sequence[Entries]]:
    """Return a rank's rows of each forward pass; empty where a short last batch leaves it nothing."""
    stride = layout.world_size * layout.rows
    starts = range(rank * layout.rows, layout.accumulation * stride, stride)
    return [batch[start : start + layout.rows] for start in starts]


def supervised_tokens(corpus: Corpus, batch: Sequence[Entries]) -> int:
    """Return the supervised tokens of a global batch: the loss's denominator."""
    return int(corpus.index.supervised_tokens[np.concatenate(batch)].sum())
