"""The dialect of a source is found from its first records; where it is not, the message says what was found."""

import json
from pathlib import Path

import pytest

from yayi_data.errors import DataError
from yayi_data.read import Source, open_sources
from yayi_data.validate import detect

CHAT = '{"conversations": [{"from": "human", "value": "a"}, {"from": "%s", "value": "b"}]%s}'
PLACED = [
    ("从前有座山。", ":1:1: syntax "),
    ('[{"instruction": "a",, "output": "b"}]', ":1:22: syntax "),
    ("[", ":1:2: syntax "),
    ('{"question": "a", "answer": "b"}', ":1:1: dialect the record has `question`, `answer`, which fits no"),
    (
        '\n  {"a\\u001b": 1}',
        r":2:3: dialect the record has `a\x1b`, which fits no dialect: expected `instruct",
    ),
    ("[1]\n", ":1:2: dialect the record is a number"),
    ("{}", ":1:1: dialect the record has no members"),
    (json.dumps({f"m{i}": 1 for i in range(9)}), "`m7` and 1 more, which fits no dialect"),
    ('{"conversations": 3}', "the record has `conversations`, which fits no dialect"),
    ('{\n "question": "a"\n}\n', ":1:1: dialect the file is one JSON value over several lines"),
    ("", ": holds no records"),
    ("\n \n", ": holds no records"),
]


def source(path: Path, text: str) -> Source:
    path.write_text(text, encoding="utf-8")
    return open_sources([str(path)])[0]


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ('{"instruction": "a", "output": "b"}', "alpaca"),
        (CHAT % ("yayi", ""), "multi-turn"),
        (CHAT % ("gpt", ""), "sharegpt"),
        (CHAT % ("human", ', "tools": "[]"'), "sharegpt"),
        ('{"messages": []}', "messages"),
        ('{"broken": \n{"instruction": "a", "output": "b"}', "alpaca"),
    ],
)
def test_a_dialect_is_recognised_by_content(text: str, dialect: str, tmp_path: Path) -> None:
    assert detect(source(tmp_path / "a.json", text)) == dialect


@pytest.mark.parametrize(("text", "message"), PLACED)
def test_what_was_found_instead_is_told_at_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        detect(source(tmp_path / "a.json", text))
    assert str(told.value).startswith(str(tmp_path / "a.json"))
    assert message in str(told.value)
