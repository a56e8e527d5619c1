"""Laws of validate: no input crashes it, nothing a strict parser refuses is clean, the two engines agree."""

import json
import random
from collections.abc import Iterator
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yayi_data.domains import load_registry
from yayi_data.read.arrays import ArrayReader
from yayi_data.read.buffer import Place
from yayi_data.read.lines import LineReader
from yayi_data.read.scan import scan_record
from yayi_data.read.sources import Source
from yayi_data.schema import accepts, explain, load_schema
from yayi_data.types import DIALECTS, Chunk, Problem
from yayi_data.validate import check
from yayi_data.validate.batch import Batch
from yayi_data.validate.findings import find
from yayi_data.validate.prefilter import suspicious
from yayi_data.validate.ruleset import RuleSet

RULES = RuleSet(registry=load_registry())
ALPACA = [
    {"instruction": "【媒宣领域任务】写\\u4e00句", "input": "", "output": '你好，"世界"\n🙂'},
    {"instruction": "1+1", "output": "2", "history": [["a", "b"]], "system": "简"},
]
TALKS: list[Any] = [
    {"system": "", "conversations": [{"from": "human", "value": "你好"}, {"from": "yayi", "value": "好\\", "train": False}]},
    {"conversations": [{"from": "human", "value": "a{b"}, {"from": "yayi", "value": "c]d", "weight": 1}]},
]  # fmt: skip


def written(records: list[Any], layout: str) -> bytes:
    if layout == "lines":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    return json.dumps(records, ensure_ascii=False, indent=1 if layout == "pretty" else None).encode()


def checked(data: bytes, dialect: str) -> tuple[int, list[Problem], list[Any]]:
    """Read and check bytes as a file; return records, problems, values."""
    kind = "array" if data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"[") else "jsonl"
    source = Source(0, "x", "x", kind, None, len(data), "x")  # type: ignore[arg-type]
    found: Iterator[Chunk] = (
        ArrayReader(source, iter([data]), Place(), whole=True).chunks()
        if kind == "array"
        else LineReader(source, iter([data]), Place()).chunks()
    )
    problems, values = [], []
    for chunk in found:
        result = check(chunk, source, dialect, RULES)
        problems += result.problems
        values += result.values
    return len(values), problems, values


def strictly(data: bytes) -> list[Any] | None:
    """Parse a file as a strict parser does; None where that refuses."""
    try:
        if data.lstrip(b" \t\r\n").startswith(b"["):
            return list(orjson.loads(data))
        return [orjson.loads(line) for line in data.split(b"\n") if line.strip(b" \t\r")]
    except orjson.JSONDecodeError:
        return None


def mutated(data: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(data))
    byte = bytes([pick.choice([pick.randrange(256), *b'"\\{}[],:\n\x00\xff'])])
    kind = pick.randrange(5)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << pick.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + byte + data[at:]
    if kind == 2:
        return data[:at] + data[at + pick.choice([1, 1, 2, 7]) :]
    return data[:at] if kind == 3 else data[:at] + byte + data[at + 1 :]


@pytest.mark.parametrize("layout", ["lines", "compact", "pretty"])
@pytest.mark.parametrize(("dialect", "records"), [("alpaca", ALPACA), ("multi-turn", TALKS)])
def test_no_mutant_crashes_and_none_that_is_not_json_is_clean(
    layout: str, dialect: str, records: list[Any]
) -> None:
    data, pick = written(records, layout), random.Random(layout + dialect)
    assert checked(data, dialect)[1] == []
    for _ in range(3_500):
        mutant = mutated(data, pick)
        _, problems, values = checked(mutant, dialect)
        strict = strictly(mutant)
        if strict is None:
            assert any(p.severity == "error" for p in problems), mutant
        elif not any(p.severity == "error" for p in problems):
            assert values == strict, mutant
        assert all(p.line >= 1 and p.column >= 1 for p in problems)


# One schema, two engines.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", " ", "x", "human", "yayi", "user", "assistant"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "instruction", "input", "output", "system", "history", "conversations", "messages", "from", "value",
            "role", "content", "tools", "tool_calls", "function", "name", "arguments", "train", "weight", "other",
        ]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


def shaped(dialect: str) -> st.SearchStrategy[Any]:
    """Records near the dialect: the right members, with values that may be anything."""
    if dialect == "alpaca":
        text = st.sampled_from(["你好", "", " ", "<|End|>"]) | JSON
        members = {"instruction": text, "output": text}
        more = {"input": text, "system": text, "history": st.lists(st.lists(text, max_size=3), max_size=2)}
        return st.fixed_dictionaries(members, optional=more | {"inputs": text})
    speaker, content = ("role", "content") if dialect == "messages" else ("from", "value")
    roles = (
        st.sampled_from(["human", "yayi", "gpt", "user", "assistant", "system", "tool", "observation"]) | JSON
    )
    flags = {"train": st.booleans() | JSON, "weight": st.sampled_from([0, 1]) | JSON, "tool_calls": JSON}
    turn = st.fixed_dictionaries({speaker: roles, content: st.text(max_size=3) | JSON}, optional=flags)
    name = "messages" if dialect == "messages" else "conversations"
    return st.fixed_dictionaries(
        {name: st.lists(turn, max_size=4) | JSON}, optional={"system": JSON, "tools": JSON}
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_both_engines_give_the_same_verdict(dialect: str, data: st.DataObject) -> None:
    value = data.draw(shaped(dialect) | JSON)
    fast = accepts(dialect).is_valid([value])
    assert fast == jsonschema.Draft202012Validator(load_schema(dialect)).is_valid(value)
    assert fast == (not list(explain(dialect, value)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_schemas_are_schemas(dialect: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema(dialect))


# The prefilters never miss.

HOSTILE = st.lists(
    st.sampled_from([*'abc :{}[]\\/"', "\n", "\t", "\x00", "\x0c", "\x7f", "\x85", "\u3000", "\u2003", "【", "】", "媒宣领域任务", "［",
                     "<|End|>", "<", "|", "\ufffd", "锟斤拷", "忽", "â€", "“", "你"]),
    max_size=6,
).map("".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"instruction": HOSTILE.filter(bool), "output": HOSTILE.filter(bool)},
            optional={"input": HOSTILE, "system": HOSTILE, "odd": st.just({"x": [1]}), "history": st.just([["问", "答"]])},
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from([[], [{"instruction": "问" * 4096, "output": "答"}]]),
)  # fmt: skip
def test_what_a_close_look_finds_is_suspected(
    values: list[Any], ascii_only: bool, indent: int | None, before: list[Any]
) -> None:
    """Also behind a record that, with \\u for every letter, makes nearly all of the bytes escapes."""
    values = before + values
    raws = [json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode() for value in values]
    starts = [sum(len(raw) + 1 for raw in raws[:i]) for i in range(len(raws))]
    found = suspicious(Batch(values, b"\n".join(raws), starts, "alpaca"), RULES)
    for i, value in enumerate(values):
        if find(value, "alpaca", RULES):
            assert i in found.content


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ['"a":1', '"b" :2', '"c":":x"', '"d":"\\":"', '"\\\\":3', '"a" \n: {"x":1,"x":2}', '"e":":"']
        ),
        max_size=6,
    )
)
def test_a_repeated_key_is_never_missed(pieces: list[str]) -> None:
    raw = ("{" + ",".join(pieces) + "}").encode()
    found = suspicious(Batch([orjson.loads(raw)], raw, [0], "alpaca"), RuleSet.errors_only())
    if any(fault.rule == "duplicate-key" for fault in scan_record(raw).faults):
        assert found.keys == {0}
