import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from yayi_data.convert import conversation, value
from yayi_data.recordfiles import SCHEMAS, WRITERS
from yayi_data.types import DIALECTS, Conversation, Turn

ASKED, ANSWERED = Turn("user", "问\n"), Turn("assistant", "答")
PLAIN = Conversation((ASKED, ANSWERED, ASKED, ANSWERED), "系统")
CALL = '{"name": "weather", "arguments": {"city": "北京"}}'
TOOLS = '[{"name": "weather", "parameters": {"type": "object", "required": ["city"]}}]'
WITH_TOOLS = Conversation(
    (ASKED, Turn("tool_call", CALL, train=False), Turn("tool_result", "晴"), ANSWERED), tools=TOOLS
)


def written(records: list[dict[str, Any]], ending: str, dialect: str) -> bytes:
    file = io.BytesIO()
    WRITERS[ending](file, iter(records), dialect)
    return file.getvalue()


def test_lines_are_one_record_each() -> None:
    assert written([{"a": "中\n"}, {"b": 1}], ".jsonl", "alpaca") == '{"a":"中\\n"}\n{"b":1}\n'.encode()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_array_is_valid_json_for_any_number_of_records(count: int) -> None:
    records = [{"a": i} for i in range(count)]
    assert json.loads(written(records, ".json", "alpaca")) == records


@pytest.mark.parametrize(
    ("dialect", "talk"),
    [*((dialect, PLAIN) for dialect in DIALECTS), ("sharegpt", WITH_TOOLS), ("messages", WITH_TOOLS)],
)
def test_parquet_holds_every_dialect(dialect: str, talk: Conversation) -> None:
    record = value(talk, dialect)
    table = pq.read_table(io.BytesIO(written([record] * 5000, ".parquet", dialect)))
    assert table.schema == SCHEMAS[dialect]
    rows = table.to_pylist()
    assert len(rows) == 5000
    assert conversation(rows[-1], dialect) == talk
