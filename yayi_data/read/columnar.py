"""Parquet files and Arrow streams as lines of JSON: a row is a record, and its line is its number from 1.

A column that is null is a member that is absent: every row has all columns, whatever its record held.
"""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal

import orjson

Layout = Literal["parquet", "arrow"]
MAGIC: dict[bytes, Layout] = {b"PAR1": "parquet", b"\xff\xff\xff\xff": "arrow"}
"""What the files begin with; `arrow` is an IPC stream, as `datasets` saves it."""

_ROWS = 1000


class DamagedTableError(Exception):
    """A file whose rows cannot be read to the end."""


def json_lines(file: BinaryIO, layout: Layout) -> Iterator[bytes]:
    """Yield the rows as JSON Lines, many at a time; raise DamagedTableError behind the last sound batch.

    What JSON has no form for (bytes, decimals) is written as text.
    """
    import pyarrow as pa  # as long to import as a small file to validate

    try:
        for batch in _batches(file, layout):
            rows = [orjson.dumps(_present(row), default=str) for row in batch.to_pylist()]
            yield b"".join([row + b"\n" for row in rows])
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedTableError(f"the {layout} file cannot be read: {error}") from error


def _batches(file: Any, layout: Layout) -> Iterable[Any]:
    if layout == "arrow":
        import pyarrow as pa

        return pa.ipc.open_stream(file)
    import pyarrow.parquet as pq

    return pq.ParquetFile(file).iter_batches(_ROWS)


def _present(value: Any) -> Any:
    """Return a value without its null members, at any depth."""
    if isinstance(value, dict):
        return {name: _present(member) for name, member in value.items() if member is not None}
    return [_present(item) for item in value] if isinstance(value, list) else value
