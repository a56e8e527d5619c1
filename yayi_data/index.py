"""The index of a packed folder: one entry a conversation, from which plans, splits and mixtures are made.

Each shard's writer leaves its part of the index beside the shard; `merge_index` puts the parts together. An
index is one record batch, so that each of its columns maps into memory as one array, with no copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from yayi_data import arrow
from yayi_data.atomic import AtomicFile
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import Counts, FileFacts, Manifest, listed, refuse_changed, refuse_resized

INDEX = "index.arrow"
_COUNTED_AT_ONCE = 1 << 18  # rows: a bound on the memory that counting takes

PART_SCHEMA = pa.schema(
    [
        ("tokens", pa.int32()),
        ("supervised_tokens", pa.int32()),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("content_hash", pa.uint64()),
    ]
)
INDEX_SCHEMA = pa.schema([pa.field("shard", pa.int32()), pa.field("row", pa.int32()), *PART_SCHEMA])


@dataclass(frozen=True, slots=True)
class Index:
    """One entry a conversation, in the order of the input: parallel arrays, and the domains' names.

    `domain` indexes `names`, which are sorted; `content_hash` is equal for conversations of equal ids.
    """

    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    tokens: NDArray[np.int32]
    supervised_tokens: NDArray[np.int32]
    domain: NDArray[np.int32]
    names: list[str]
    content_hash: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.tokens)


def content_hashes(ids: NDArray[np.int32], offsets: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Return the 64-bit XXH3 of each row's ids as little-endian int32.

    The mask is left out: the same text is the same content whichever of its turns are learnt.
    """
    view = np.ascontiguousarray(ids, "<i4").data.cast("B")
    ends = (offsets.astype(np.int64) * 4).tolist()
    hashes = [xxhash.xxh3_64_intdigest(view[start:end]) for start, end in pairwise(ends)]
    return np.array(hashes, np.uint64)


def merge_index(parts: Sequence[Path], path: Path) -> FileFacts:
    """Write the index `path` from the shards' index parts, given in the order of the shards.

    The codes of the domains follow from their names, sorted, not from who wrote which part. Each part is read
    twice, so that only the index itself is in memory.
    """
    opened = [_names_and_rows(part) for part in parts]
    names = sorted({name for found, _ in opened for name in found})
    codes = {name: code for code, name in enumerate(names)}
    total = sum(rows for _, rows in opened)
    columns = {field.name: np.empty(total, _kind(field.type)) for field in INDEX_SCHEMA}
    start = 0
    for number, (part, (_, rows)) in enumerate(zip(parts, opened, strict=True)):
        table, place = _read_table(part, PART_SCHEMA), slice(start, start + rows)
        columns["shard"][place] = number
        columns["row"][place] = np.arange(rows)
        columns["domain"][place] = np.array([codes[n] for n in _names(table)], np.int32)[_codes(table)]
        for name in ("tokens", "supervised_tokens", "content_hash"):
            columns[name][place] = _numbers(table, name)
        start += rows
    arrays = {name: arrow.numbers(values) for name, values in columns.items()}
    arrays["domain"] = pa.DictionaryArray.from_arrays(arrays["domain"], arrow.texts(names))
    return write_table(path, pa.Table.from_arrays(list(arrays.values()), schema=INDEX_SCHEMA))


def _names_and_rows(part: Path) -> tuple[list[str], int]:
    table = _read_table(part, PART_SCHEMA)
    return _names(table), table.num_rows


def _kind(column: Any) -> Any:
    return (column.index_type if pa.types.is_dictionary(column) else column).to_pandas_dtype()


def write_table(path: Path, table: pa.Table, *, lasting: bool = True) -> FileFacts:
    """Write a table as an IPC stream of exactly one record batch, which may have no rows."""
    # combine_chunks copies even what is one chunk
    columns: list[Any] = [c.chunk(0) if c.num_chunks == 1 else c.combine_chunks() for c in table.columns]
    batch = pa.RecordBatch.from_arrays(columns, schema=table.schema)
    with (
        AtomicFile(path, lasting=lasting) as file,
        pa.ipc.new_stream(pa.PythonFile(file, mode="w"), table.schema) as writer,
    ):
        writer.write_batch(batch)
    return FileFacts(path.name, file.bytes, file.sha256)


def open_index(folder: Path, manifest: Manifest) -> Index:
    """Map the index of a packed folder into memory, checked against the manifest.

    Its arrays are views of the file. Raises DataError where the file differs from what the manifest says.
    """
    path = folder / INDEX
    facts = listed(manifest, INDEX)
    refuse_resized(path, facts.bytes)
    refuse_changed(path, mapped(path), facts.bytes, facts.sha256)
    index = read_index(path)
    if len(index) != manifest.rows:
        raise DataError(f"{path}: has {len(index)} rows, the manifest {manifest.rows}; pack the data again")
    return index


def read_index(path: Path) -> Index:
    """Map an index into memory, unchecked."""
    table = _read_table(path, INDEX_SCHEMA)
    names = [field.name for field in INDEX_SCHEMA if field.name != "domain"]
    return Index(**{name: _numbers(table, name) for name in names}, domain=_codes(table), names=_names(table))


def domain_counts(index: Index) -> dict[str, Counts]:
    """Return the rows, tokens and supervised tokens of each domain, by name."""
    n = len(index.names)
    sums = np.zeros((3, n), np.int64)
    for start in range(0, len(index), _COUNTED_AT_ONCE):
        part = slice(start, start + _COUNTED_AT_ONCE)
        for i, weights in enumerate((None, index.tokens[part], index.supervised_tokens[part])):
            # float64, which weights are added up in, counts exactly up to 2**53
            sums[i] += np.bincount(index.domain[part], weights, n).astype(np.int64)
    return {name: Counts(*map(int, sums[:, i])) for i, name in enumerate(index.names)}


def mapped(path: Path) -> pa.Buffer:
    """Return a file's bytes, mapped into memory.

    The mapping lives as long as its views; the file descriptor is closed at once, so there may be many.
    """
    try:
        if path.stat().st_size == 0:
            return pa.py_buffer(b"")
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
    except OSError as error:
        raise YayiError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pa.ipc.open_stream(mapped(path)).read_all()
        table.validate(full=True)  # codes beyond the names would crash whoever counts by them
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: is not an index ({error}); pack the data again") from None
    if table.schema != schema or table["tokens"].num_chunks != 1:
        raise DataError(f"{path}: is not laid out as an index; pack the data again")
    return table


def _numbers(table: pa.Table, name: str) -> NDArray[Any]:
    return arrow.values(table[name].chunk(0))


def _codes(table: pa.Table) -> NDArray[np.int32]:
    column: Any = table["domain"].chunk(0)
    codes: NDArray[np.int32] = arrow.values(column.indices)
    return codes


def _names(table: pa.Table) -> list[str]:
    column: Any = table["domain"].chunk(0)
    names: list[str] = column.dictionary.to_pylist()
    return names
