"""After a malformed record of an array, reading goes on at the next record, whatever the two look like."""

import json
from pathlib import Path
from typing import Any

import pytest

from yayi_data.checking import ValidateOptions, validate_paths
from yayi_data.read import Source, arrays, chunks, chunks_of, open_sources, partitions
from yayi_data.read.buffer import Buffer, Place

HERE = "^"
"""Stands before each character where a problem is expected, in the order of the rules."""


def found_in(
    folder: Path, data: bytes, limit: int | None = None
) -> tuple[int, list[tuple[int | None, int, int, str]]]:
    """Validate bytes as a file; return the number of records, and each problem's record, place and rule."""
    path = folder / "a.json"
    path.write_bytes(data)
    result = validate_paths(ValidateOptions((str(path),), limit=limit, ignore=("unknown-member",), workers=1))
    return result.records, [(p.record, p.line, p.column, p.rule) for p in result.problems]


def alpaca(output: str) -> str:
    return f'{{"instruction":"{output}?","output":"{output}"}}'


def talk(first: str, last: str) -> str:
    return f'{{"conversations":[{{"from":"human","value":"{first}"}},{{"from":"yayi","value":"{last}"}}]}}'


CALL = '{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}'
CALLING = f'{{"role":"assistant","content":null,"tool_calls":[{CALL}]}},{{"role":"tool","content":"r"}}'
OPENAI = '{"id":"0","messages":[{"role":"user","content":"p"},{"role":"assistant","content":"z"}]}'

CASES: dict[str, tuple[str, int, list[tuple[int | None, str]]]] = {
    "cut off inside a list of turns": (
        '[{"conversations":[{"from":"human","value":"a"},' + talk("b", "").replace('""', '^""') + "," + talk("c", "d") + "]^",
        3, [(1, "schema-empty"), (0, "syntax")],
    ),
    "cut off inside the history": (
        '[{"instruction":"q","output":"a","history":[["a","b"], {"instruction":"x","output":^""},'
        '{"instruction":"y","output":^""}]^',
        3, [(1, "schema-empty"), (2, "schema-empty"), (0, "syntax")],
    ),
    "cut off behind a colon": (
        '[{"instruction":"q","output":\n{"instruction":"x","output":^""},^' + alpaca("c") + "]",
        3, [(1, "schema-empty"), (0, "syntax")],
    ),
    "the next records begin with another key": (
        f'[{alpaca("a")},{{"instruction":"x" ^"output":"y"}},{{"output":^"","instruction":"z"}},'
        '{"input":"","output":^"","instruction":"w"}]',
        4, [(1, "syntax"), (2, "schema-empty"), (3, "schema-empty")],
    ),
    "a tool call begins as records do": (
        f'[{OPENAI},{{"id":"1","messages":[{{"role":"user","content" ^"q"}},{CALLING},'
        '{"role":"assistant","content":"z"}]}]',
        2, [(1, "syntax")],
    ),
    "a record that begins as tool calls do": (
        f'[{OPENAI},{{"id":"1","messages":[{{"role":"user","content" ^"q"}},{CALLING}]}},'
        '{"id":"2","messages":[{"role":"user","content":"q"},{"role":"assistant","content":^""}]},'
        '{"id":"3","messages":[{"role" ^"user"}]}]',
        4, [(1, "syntax"), (2, "schema-empty"), (3, "syntax")],
    ),
    "a record as an example in a text whose quotes are not escaped": (
        f'[{alpaca("a")},{{"instruction":"x","output":"as {{"^instruction": "x", "output": ""}} here"}},{alpaca("b")}]',
        3, [(1, "syntax")],
    ),
    "a stray character before a record": (
        f'[{alpaca("a")}, ^x{{"instruction":"c","output":^""}}, {{"instruction":"e","output":^""}}]',
        3, [(1, "syntax"), (1, "schema-empty"), (2, "schema-empty")],
    ),
    "a stray brace before a record": (
        f'[{alpaca("a")}, {{^{{"instruction":"c","output":^""}}, {{"instruction":"e","output":^""}}]',
        3, [(1, "syntax"), (1, "schema-empty"), (2, "schema-empty")],
    ),
    "a stray brace behind a record's opening": (
        f'[{alpaca("a")},{{}}^"instruction":"x","output":"y"}},{alpaca("b")}]', 3, [(1, "syntax")],
    ),
    "other faults of a malformed record": (
        f'[{alpaca("a")},{{"instruction":"^\udcff",^"instruction":"x","n":^NaN,"output":"b" ^"c"}}]',
        2, [(1, "encoding-utf8"), (1, "duplicate-key"), (1, "not-a-number"), (1, "syntax")],
    ),
    "faults of the record that a malformed one ran into": (
        f'[{alpaca("a")},{{"conversations":[{{"instruction":"\\ud800","output":"x"}},'.replace('"\\ud800', '^"\\ud800')
        + alpaca("b") + "]^", 4, [(2, "encoding-surrogate"), (1, "syntax")],
    ),
    "records behind the array's end": (
        f'[{alpaca("a")}]\n^{alpaca("b")}\n{{"instruction":"c","output":^""}}\n', 3, [(None, "syntax"), (2, "schema-empty")],
    ),
    "lines whose record has other faults beside NaN": (
        '{"instruction":"a","output":^NaN,"input":^5}', 1, [(0, "not-a-number"), (0, "schema-type")],
    ),
    "lines whose record has other faults beside an invalid byte": (
        '{"instruction":"^\udcff","output":^""}', 1, [(0, "encoding-utf8"), (0, "schema-empty")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_record_costs_itself_only(tmp_path: Path, name: str) -> None:
    marked, records, expected = CASES[name]
    before, *pieces = marked.split(HERE)
    places = []
    for piece in pieces:
        places.append((before.count("\n") + 1, len(before) - before.rfind("\n")))
        before += piece
    assert found_in(tmp_path, before.encode("utf-8", "surrogateescape")) == (
        records, [(record, *place, rule) for (record, rule), place in zip(expected, places, strict=True)],
    )  # fmt: skip


@pytest.mark.parametrize(("start", "rule"), [("[,", "syntax"), ("\ufeff[", "encoding-bom")])
def test_a_limit_keeps_the_problems_before_the_first_record(tmp_path: Path, start: str, rule: str) -> None:
    records, problems = found_in(tmp_path, f"{start}{alpaca('a')},{alpaca('b')}]".encode(), limit=1)
    assert (records, [problem[-1] for problem in problems]) == (1, [rule])


SHAPES: dict[str, list[Any]] = {
    "alpaca": [
        {"instruction": f'q{i}: {{x}} "a", [1]', "input": "", "output": f"答{i}\\", "history": [["a", "b"], ["c", "d"]]}
        for i in range(4)
    ],
    "turns": [
        {"conversations": [{"from": "human", "value": f'问{i}"}},{{"'}, {"from": "yayi", "value": "b", "train": False}]}
        for i in range(4)
    ],
    "tools": [json.loads(OPENAI) | {"id": str(i), "messages": json.loads(f"[{CALLING},{CALLING}]")} for i in range(4)],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("indent", "comma"), [(None, ","), (None, "\n"), (1, ",")])
def test_a_record_cut_off_anywhere_costs_itself_only(
    tmp_path: Path, shape: str, indent: int | None, comma: str
) -> None:
    texts = [json.dumps(record, ensure_ascii=False, indent=indent) for record in SHAPES[shape]]
    for at in range(1, len(texts[1]) - 1, 2 if indent else 1):
        data = f"[{texts[0]},{texts[1][:at]}{comma}{texts[2]},{texts[3]}]".encode()
        found = list(chunks_of(source_of(tmp_path, data)))
        raws = [raw.decode() for chunk in found for raw in chunk.raws]
        assert raws == [texts[0], "", texts[2], texts[3]], data
        assert [p.rule for chunk in found for p in chunk.problems] == ["syntax"]


def source_of(folder: Path, data: bytes) -> Source:
    (folder / "a.json").write_bytes(data)
    return open_sources([str(folder / "a.json")])[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("break_", ["cut", "x", "{", '"'])
def test_parts_of_an_array_agree_on_where_records_begin(tmp_path: Path, shape: str, break_: str) -> None:
    texts = [json.dumps(record, ensure_ascii=False) for record in SHAPES[shape] * 2]
    for at in range(0, len(texts[3]), 13):
        broken = texts[3][:at] + break_ * (break_ != "cut") + texts[3][at:] * (break_ != "cut")
        source = source_of(tmp_path, f"[{','.join([*texts[:3], broken, *texts[4:]])}]".encode())
        whole = [record for chunk in chunks_of(source) for record in chunk.records()]
        parts, facts = partitions(source, 0, 1)
        assert [record for part in parts for chunk in chunks(part) for record in chunk.records()] == whole
        assert facts.records == len(whole)


def cut(text: str) -> str:
    return text[: text.index(',{"from":"yayi"')]


def test_many_records_cut_off_in_a_row_are_one_problem_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [talk(f"q{i}", "a") if i % 3 else cut(talk(f"q{i}", "a")) for i in range(200)]
    data = ("[" + ",".join(texts) + "]").encode()
    problems = {}
    for reach in (200, 1 << 16):  # within reach of the end each record is scanned up to there
        monkeypatch.setattr(arrays, "_MARGIN", reach)
        found = list(chunks_of(source_of(tmp_path, data)))
        assert [raw.decode() for chunk in found for raw in chunk.raws if raw] == [
            t for i, t in enumerate(texts) if i % 3
        ]
        problems[reach] = [p for chunk in found for p in chunk.problems]
    assert [p.record for p in problems[200]] == list(range(0, 200, 3))
    assert problems[200] == problems[1 << 16]


def test_records_cut_off_in_a_row_that_reach_too_far_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("arrays._MARGIN", "arrays.REACH", "starts.REACH"):
        monkeypatch.setattr(f"yayi_data.read.{name}", 200)
    for name in ("arrays.MAX_RECORD_BYTES", "buffer.MAX_RECORD_BYTES"):
        monkeypatch.setattr(f"yayi_data.read.{name}", 3_000)
    for module in ("sources", "arrays"):
        monkeypatch.setattr(f"yayi_data.read.{module}.BLOCK_BYTES", 100)
    texts = [talk(f"q{i}", "a") if i % 3 else cut(talk(f"q{i}", "a")) for i in range(200)]
    found = list(chunks_of(source_of(tmp_path, ("[" + ",\n".join(texts) + "]").encode())))
    problems = [p for chunk in found for p in chunk.problems]
    assert [p.record for p in problems] == list(range(0, 200, 3))
    wrong = [
        p for p in problems if (p.line, p.rule) not in (((p.record or 0) + 1, "too-large"), (200, "syntax"))
    ]
    assert not wrong
    assert {p.rule for p in problems} == {"too-large", "syntax"}


@pytest.mark.parametrize("shift", range(3))
def test_columns_are_right_after_a_long_way_to_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    for module in ("sources", "arrays"):
        monkeypatch.setattr(f"yayi_data.read.{module}.BLOCK_BYTES", 100)
    text = '[{"instruction" "' + "x" * shift + '","output":"' + "中" * 40_000 + '"},'
    records, problems = found_in(tmp_path, f'{text}{{"instruction":"a","output":""}}]'.encode())
    assert records == 2
    assert problems[1] == (1, 1, len(text) + len('{"instruction":"a","output":') + 1, "schema-empty")


def test_a_buffer_passes_by_whole_characters() -> None:
    buffer = Buffer(iter(["a中b".encode()]), Place())
    buffer.more()
    for offset, position in ((-3, 0), (1, 1), (2, 1), (3, 1), (4, 4), (2, 4)):
        buffer.pass_by(offset)
        assert buffer.position == position
