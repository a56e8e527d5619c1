"""The Arrow layout of a shard: the writer, the zero-copy reader, and what `datasets` needs beside the shards.

This is the only file that knows a shard's columns. Shards are uncompressed IPC streams, which map into memory
with no copy; their record batches are cut by the rows alone, so the bytes do not depend on how the writer was
fed.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from yayi_data import arrow
from yayi_data.atomic import AtomicFile
from yayi_data.errors import DataError
from yayi_data.index import PART_SCHEMA, content_hashes, mapped, write_table
from yayi_data.index import Index as Index
from yayi_data.index import domain_counts as domain_counts
from yayi_data.index import merge_index as merge_index
from yayi_data.index import open_index as open_index
from yayi_data.index import read_index as read_index
from yayi_data.manifest import Manifest, ShardFacts, canonical, refuse_changed, refuse_resized
from yayi_data.remote.mirror import fetch_shard, fetch_shards, is_mirror

BATCH_ROWS = 1000
BATCH_TOKENS = 1 << 20  # a batch ends with the row that reaches this many: long rows keep memory bounded too

_COLUMNS: list[Any] = [
    pa.field("input_ids", pa.list_(pa.int32())),
    pa.field("assistant_masks", pa.list_(pa.bool_())),
    pa.field("supervised_tokens", pa.int32()),
    pa.field("domain", pa.string()),
    pa.field("source_file", pa.int32()),
    pa.field("source_line", pa.int64()),
    pa.field("source_record", pa.int64()),
]
SCHEMA = pa.schema(_COLUMNS)

_LABELS: list[Any] = [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))]
LABELS = pa.schema(_LABELS)
"""The columns that transformers' Trainer takes instead of a mask."""

NOT_LEARNT = -100
"""The label that PyTorch's cross-entropy leaves out."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Conversations ready to be written: flat tokens and one entry a row of everything else.

    Row i holds `ids[offsets[i]:offsets[i + 1]]` (int32) and the same range of `mask` (bool, true =
    supervised). `lines` are 1-based, `records` 0-based (int64); `source` indexes the manifest's sources, one
    for all rows or one each.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    domains: Sequence[str]
    source: int | NDArray[np.int32]
    lines: NDArray[np.int64]
    records: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Row(NamedTuple):
    """One conversation as it stands in a shard; `ids` is a view into the mapped file."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    domain: str
    source: int
    line: int
    record: int


class RowFacts(NamedTuple):
    """Where the rows of a shard come from, and a hash of each row's mask: parallel arrays."""

    source: NDArray[np.int32]
    line: NDArray[np.int64]
    record: NDArray[np.int64]
    mask_hash: NDArray[np.uint64]


def shard_name(number: int) -> str:
    """Return the file name of a folder's shard, counted from 0."""
    return f"data-{number:05d}.arrow"


def write_shard(path: Path, batches: Iterable[Rows]) -> ShardFacts:
    """Write rows to the shard `path`, and beside it their part of the index (`index_part(path)`).

    Each appears whole or not at all, the shard last. The bytes depend on the rows and their order, not on how
    they are batched; no rows make a shard of no rows. Raises YayiError where a file cannot be written.
    """
    parts = []
    with AtomicFile(path) as file:
        with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), SCHEMA) as writer:
            for block in _recut(batches):
                parts.append(_index_rows(block.ids, block.mask, block.offsets, arrow.coded(block.domains)))
                writer.write_batch(_shard_rows(block, parts[-1]["supervised_tokens"]))
        index = pa.Table.from_batches(parts, PART_SCHEMA)
        write_table(index_part(path), index.unify_dictionaries(), lasting=False)
    tokens, supervised = (_total(index[name]) for name in ("tokens", "supervised_tokens"))
    return ShardFacts(path.name, index.num_rows, tokens, supervised, file.bytes, file.sha256)


def _total(column: Any) -> int:
    return sum(int(arrow.values(chunk).sum(dtype=np.int64)) for chunk in column.chunks)


def index_part(path: Path) -> Path:
    """Return where the index rows of the shard `path` wait until `merge_index` takes them up."""
    return path.with_suffix(".part")


def _recut(batches: Iterable[Rows]) -> Iterator[Rows]:
    """Yield the same rows in blocks of BATCH_ROWS, or fewer where a block reaches BATCH_TOKENS."""
    waiting: list[Rows] = []
    rows = tokens = 0
    for batch in batches:
        waiting.append(batch)
        rows += len(batch)
        tokens += len(batch.ids)
        if rows >= BATCH_ROWS or tokens >= BATCH_TOKENS:
            *full, rest = _cut(_joined(waiting))
            yield from full
            waiting, rows, tokens = [rest], len(rest), len(rest.ids)
    if rows:
        yield _joined(waiting)


def _cut(rows: Rows) -> Iterator[Rows]:
    """Yield full blocks, then what remains for the next (perhaps nothing)."""
    start = 0
    while True:
        reach = np.searchsorted(rows.offsets, rows.offsets[start] + BATCH_TOKENS)
        end = min(start + BATCH_ROWS, int(reach))
        if end > len(rows):
            yield _slice(rows, start, len(rows))
            return
        yield _slice(rows, start, end)
        start = end


def _slice(rows: Rows, start: int, end: int) -> Rows:
    first, last = rows.offsets[start], rows.offsets[end]
    return Rows(
        ids=rows.ids[first:last],
        mask=rows.mask[first:last],
        offsets=rows.offsets[start : end + 1] - first,
        domains=rows.domains[start:end],
        source=_sources(rows)[start:end],
        lines=rows.lines[start:end],
        records=rows.records[start:end],
    )


def _joined(batches: Sequence[Rows]) -> Rows:
    if len(batches) == 1:
        return batches[0]
    sizes = np.concatenate([np.diff(b.offsets) for b in batches])
    return Rows(
        ids=np.concatenate([b.ids for b in batches]),
        mask=np.concatenate([b.mask for b in batches]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        domains=[domain for b in batches for domain in b.domains],
        source=np.concatenate([_sources(b) for b in batches]),
        lines=np.concatenate([b.lines for b in batches]),
        records=np.concatenate([b.records for b in batches]),
    )


def _sources(rows: Rows) -> NDArray[np.int32]:
    return np.broadcast_to(np.asarray(rows.source, np.int32), len(rows))


def _shard_rows(rows: Rows, supervised: Any) -> pa.RecordBatch:
    offsets = arrow.numbers(rows.offsets.astype(np.int32))
    columns = [
        pa.ListArray.from_arrays(offsets, arrow.numbers(rows.ids)),
        pa.ListArray.from_arrays(offsets, arrow.bits(rows.mask)),
        supervised,
        arrow.texts(rows.domains),
        arrow.numbers(_sources(rows)),
        arrow.numbers(rows.lines),
        arrow.numbers(rows.records),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _index_rows(
    ids: NDArray[np.int32],
    mask: NDArray[np.bool_],
    offsets: NDArray[np.integer[Any]],
    domains: Any,
) -> pa.RecordBatch:
    supervised = np.concatenate([[0], np.cumsum(mask, dtype=np.int32)])[offsets]
    columns = [
        arrow.numbers(np.diff(offsets).astype(np.int32)),
        arrow.numbers(np.diff(supervised).astype(np.int32)),
        domains,
        arrow.numbers(content_hashes(ids, offsets)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PART_SCHEMA)


def datasets_files(shards: Sequence[ShardFacts]) -> dict[str, bytes]:
    """Return the two small files, by name, that let `datasets.load_from_disk` open the folder."""
    fingerprint = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()[:16]
    state: dict[str, Any] = {
        "_data_files": [{"filename": shard.file} for shard in shards],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    return {"dataset_info.json": canonical({}), "state.json": canonical(state)}


class Shards:
    """The shards of a packed folder, mapped into memory one by one as rows are asked for.

    Sizes are checked when the folder is opened, a shard's sha256 before its first row is used; DataError says
    what differs. An open shard holds no file descriptor, so there may be many. Of a remote folder's mirror,
    shards are fetched when they are first asked for.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._facts = manifest.shards
        self._opened: dict[int, Shard] = {}
        self._remote = is_mirror(folder)
        for facts in manifest.shards if not self._remote else ():
            refuse_resized(folder / facts.file, facts.bytes)

    def fetch(self, shards: Sequence[int]) -> None:
        """Fetch those of the shards that are not here, several at a time; nothing is done where all are."""
        missing = (
            [self._facts[shard] for shard in shards if shard not in self._opened] if self._remote else []
        )
        fetch_shards(self._folder, missing)

    def row(self, shard: int, row: int) -> Row:
        """Return one conversation by the index's `shard` and `row`; IndexError where there is none."""
        opened = self._opened.get(shard)
        if opened is None:
            opened = self._opened[shard] = open_shard(self._folder, self._facts[shard])
        return opened.row(row)


def open_shard(folder: Path, facts: ShardFacts) -> "Shard":
    """Open a shard of a packed folder, fetched first where the folder is a mirror and lacks it."""
    if is_mirror(folder):
        return Shard(fetch_shard(folder, facts), facts, checked=True)
    return Shard(folder / facts.file, facts)


class Shard:
    """One shard, mapped into memory; rows are views of the file.

    Its bytes are compared with the manifest first, unless the caller has `checked` them.
    """

    def __init__(self, path: Path, facts: ShardFacts, *, checked: bool = False) -> None:
        data = mapped(path)
        if not checked:
            refuse_changed(path, data, facts.bytes, facts.sha256)
        try:
            self._batches = [_Batch(batch) for batch in pa.ipc.open_stream(data)]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: is not a shard ({error}); pack the data again") from None
        self._starts = list(accumulate((len(batch) for batch in self._batches), initial=0))
        self.tokens = sum(len(batch.ids) for batch in self._batches)
        if (len(self), self.tokens) != (facts.rows, facts.tokens):
            raise DataError(
                f"{path}: has {len(self)} rows and {self.tokens} tokens, the manifest says {facts.rows} and "
                f"{facts.tokens}; pack the data again"
            )

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, row: int) -> Row:
        """Return the conversation at `row`; IndexError where there is none."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a shard of {len(self)} rows")
        batch = bisect_right(self._starts, row) - 1
        return self._batches[batch].row(row - self._starts[batch])

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the conversations as they stand in the file."""
        yield from (batch.columns for batch in self._batches)

    def labelled(self) -> Iterator[pa.RecordBatch]:
        """Yield the conversations as LABELS has them: a token's label is its id where it is supervised."""
        yield from (batch.labelled() for batch in self._batches)

    def row_facts(self) -> RowFacts:
        """Return what the index does not have of the rows, to compare them with another folder's."""
        columns = zip(*(batch.row_facts() for batch in self._batches), strict=True)
        return RowFacts(*map(np.concatenate, columns)) if self._batches else RowFacts(*_NO_ROWS)

    def highest(self) -> tuple[int, int]:
        """Return the highest token id and the highest number of a source, -1 where there are no rows."""
        ids = max((int(batch.ids.max()) for batch in self._batches if len(batch.ids)), default=-1)
        return ids, max((int(batch.source.max()) for batch in self._batches if len(batch)), default=-1)

    def index_part(self) -> pa.Table:
        """Return the index rows that this shard's content asks for, to compare with what the index says."""
        return pa.Table.from_batches([batch.index_rows() for batch in self._batches], PART_SCHEMA)


_NO_ROWS = (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))


class _Batch:
    """A record batch as the flat arrays under its columns; nothing is copied."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        if batch.schema != SCHEMA:
            raise ValueError(f"its columns are {', '.join(batch.schema.names)}")
        batch.validate(full=True)
        self.columns = batch
        columns: list[Any] = batch.columns
        ids, masks, _, domain, *places = columns
        self.offsets = arrow.values(ids.offsets)
        self.ids = arrow.values(ids.values)
        if not np.array_equal(arrow.values(masks.offsets), self.offsets):
            raise ValueError("a mask is not as long as its ids")
        self.bits = np.frombuffer(masks.values.buffers()[1] or b"", np.uint8)
        self.domains = domain.dictionary_encode()
        self.codes, self.names = arrow.values(self.domains.indices), self.domains.dictionary.to_pylist()
        self.source, self.lines, self.records = (arrow.values(place) for place in places)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> Row:
        start, end = self.offsets[i : i + 2].tolist()
        first = start // 8
        bits = np.unpackbits(self.bits[first : (end + 7) // 8], bitorder="little")
        return Row(
            ids=self.ids[start:end],
            mask=bits[start - 8 * first : end - 8 * first].view(np.bool_),
            domain=self.names[self.codes[i]],
            source=int(self.source[i]),
            line=int(self.lines[i]),
            record=int(self.records[i]),
        )

    def labelled(self) -> pa.RecordBatch:
        labels = np.where(self._mask(), self.ids, np.int32(NOT_LEARNT))
        offsets: Any = pa.array(self.offsets)
        columns = [pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in (self.ids, labels)]
        return pa.RecordBatch.from_arrays(columns, schema=LABELS)

    def index_rows(self) -> pa.RecordBatch:
        return _index_rows(self.ids, self._mask(), self.offsets, self.domains)

    def row_facts(self) -> RowFacts:
        mask, ends = self._mask().view(np.uint8).data, self.offsets.tolist()
        hashes = [xxhash.xxh3_64_intdigest(mask[start:end]) for start, end in pairwise(ends)]
        return RowFacts(self.source, self.lines, self.records, np.array(hashes, np.uint64))

    def _mask(self) -> NDArray[np.bool_]:
        return np.unpackbits(self.bits, count=len(self.ids), bitorder="little").view(np.bool_)
