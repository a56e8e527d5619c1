"""Records -> a file of one dialect: JSON Lines, one JSON array, or parquet."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from yayi_data.errors import DataError

Value = dict[str, Any]

_BATCH = 4096

_TEXT = pa.string()
_SAID = pa.list_(pa.struct([("from", _TEXT), ("value", _TEXT), ("train", pa.bool_())]))
_FUNCTION = pa.struct([("name", _TEXT), ("arguments", _TEXT)])
_CALL = pa.struct([("id", _TEXT), ("type", _TEXT), ("function", _FUNCTION)])
_MESSAGE = pa.struct(
    [
        ("role", _TEXT),
        ("content", _TEXT),
        ("tool_calls", pa.list_(_CALL)),
        ("tool_call_id", _TEXT),
        ("weight", pa.int8()),
    ]
)

# A parquet file has one schema, so that two files of a dialect can be read together.
SCHEMAS: dict[str, pa.Schema] = {
    "alpaca": pa.schema(
        [
            ("instruction", _TEXT),
            ("input", _TEXT),
            ("output", _TEXT),
            ("system", _TEXT),
            ("history", pa.list_(pa.list_(_TEXT))),
        ]
    ),
    "multi-turn": pa.schema([("system", _TEXT), ("conversations", _SAID)]),
    "sharegpt": pa.schema([("conversations", _SAID), ("system", _TEXT), ("tools", _TEXT)]),
    "messages": pa.schema([("messages", pa.list_(_MESSAGE)), ("tools", _TEXT)]),
}


def _write_lines(file: BinaryIO, records: Iterator[Value], dialect: str) -> None:
    for record in records:
        file.write(_json(record) + b"\n")


def _write_array(file: BinaryIO, records: Iterator[Value], dialect: str) -> None:
    border = b"[\n"
    for record in records:
        file.write(border + _json(record))
        border = b",\n"
    file.write(b"[]\n" if border == b"[\n" else b"\n]\n")


def _write_parquet(file: BinaryIO, records: Iterator[Value], dialect: str) -> None:
    schema, rows = SCHEMAS[dialect], map(_columns, records)
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))


def _json(record: Value) -> bytes:
    try:
        return orjson.dumps(record)
    except orjson.JSONEncodeError as error:
        raise DataError(
            f"a record cannot be written: {error}; remove the member that nests too deep"
        ) from error


def _columns(record: Value) -> Value:
    """Write tool definitions as JSON text: each has members of its own, which no column type holds."""
    tools = record.get("tools")
    return record | {"tools": orjson.dumps(tools).decode()} if isinstance(tools, list) else record


WRITERS: dict[str, Callable[[BinaryIO, Iterator[Value], str], None]] = {
    ".jsonl": _write_lines,
    ".json": _write_array,
    ".parquet": _write_parquet,
}
"""How records are written, by the ending of the file's name."""
