"""Real files, converted to every dialect and back: the differences are the documented ones and no others."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from yayi_data.convert import conversation, value
from yayi_data.converting import ConvertOptions, convert_files
from yayi_data.errors import ConversionError
from yayi_data.types import DIALECTS

SHARED = Path(os.environ.get("YAYI_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared"))
CORPUS = SHARED / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real files is not on this machine")

Value = dict[str, Any]


def records(name: str) -> list[Value]:
    text = (CORPUS / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)


def as_documented(record: Value, dialect: str) -> Value:
    """What comes back: an input as the end of the instruction, an empty list of tools as none."""
    if dialect == "alpaca" and record["input"]:
        return record | {"instruction": f"{record['instruction']}\n{record['input']}", "input": ""}
    return {member: content for member, content in record.items() if (member, content) != ("tools", "[]")}


@pytest.mark.parametrize("to", DIALECTS)
@pytest.mark.parametrize(
    ("name", "dialect", "dropped"),
    [
        ("sft50k.jsonl", "alpaca", {}),
        ("alpaca_zh_demo.json", "alpaca", {}),
        ("multi_turn_moss.json", "multi-turn", {}),
        ("sharegpt_toolcall_zh.json", "sharegpt", {"alpaca": 200, "multi-turn": 200}),
    ],
)
def test_there_and_back_is_the_same_record(name: str, dialect: str, dropped: dict[str, int], to: str) -> None:
    reasons: Counter[str] = Counter()
    for record in records(name):
        talk = conversation(record, dialect)
        try:
            there = value(talk, to)
        except ConversionError as error:
            reasons[error.reason] += 1
            continue
        assert conversation(there, to) == talk
        assert value(conversation(there, to), dialect) == as_documented(record, dialect)
    assert reasons == ({"tools": dropped[to]} if to in dropped else {})


@pytest.mark.parametrize("to", DIALECTS)
def test_a_malformed_file_loses_only_its_empty_replies(to: str, tmp_path: Path) -> None:
    source, there, back = CORPUS / "wild_malformed.json", tmp_path / "there.parquet", tmp_path / "back.jsonl"
    ledger = convert_files(ConvertOptions((str(source),), to, there, on_problem="drop"))
    assert (ledger.read, ledger.dropped) == (2801, {"schema-empty": 2})
    convert_files(ConvertOptions((str(there),), "alpaca", back))
    text = source.read_text(encoding="utf-8").rstrip()
    published = json.loads(text[: text.rindex(",")] + "]")  # its array ends in a comma
    assert [json.loads(line) for line in back.read_text(encoding="utf-8").splitlines()] == [
        as_documented(record, "alpaca") for record in published if record["output"]
    ]
