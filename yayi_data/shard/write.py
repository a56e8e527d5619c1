"""Writing a shard, and beside it its part of the index.

The record batches are cut by the rows alone, so the bytes do not depend on how the writer was fed.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from yayi_data import arrow
from yayi_data.atomic import AtomicFile
from yayi_data.index import PART_SCHEMA, write_table
from yayi_data.manifest import ShardFacts
from yayi_data.shard.columns import SCHEMA, Rows, index_rows

BATCH_ROWS = 1000
BATCH_TOKENS = 1 << 20  # a batch ends with the row that reaches this many: long rows keep memory bounded too


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
                parts.append(index_rows(block.ids, block.mask, block.offsets, arrow.coded(block.domains)))
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
