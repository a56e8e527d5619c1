"""Faults planted at known places in good files: each is reported there, and nothing else is.

A kind of fault writes a record and puts MARK where the problem must be reported; the expected line and column
are those of the mark in the finished file, so they do not depend on the code under test.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from yayi_data.checking import ValidateOptions, validate_paths

MARK = "\ue000"
WORDS = [
    "北京",
    "天气",
    "报告",
    "please",
    "数据",
    "🙂",
    "é",
    "模型",
    "训练",
    "\\n",
    '\\"引\\"',
    "a b",
    "：",
    "{x}",
    "[1]",
]

Value = dict[str, Any]
Dump = Callable[[Any], str]


class Kind(NamedTuple):
    """A kind of fault: its rule, where it points, and how it is written; `next` = it shows at the next record."""

    rule: str
    pointer: str
    write: Callable[[Value, Dump], str]
    next: bool = False
    layouts: str = "jlop"


class Faults:
    """The kinds of one dialect; `last` is the key of a record's last text, `pointer` its JSON Pointer."""

    def __init__(self, last: str, pointer: str, first: str) -> None:
        self.last, self.pointer, self.first = last, pointer, first

    def value(self, text: str, key: str | None = None) -> tuple[str, str, str]:
        """Split a written record around the last string value of a key: before, the token, behind."""
        match = list(re.finditer(rf'"{key or self.last}":\s*("(?:[^"\\]|\\.)*")', text))[-1]
        return text[: match.start(1)], match[1], text[match.end(1) :]

    def in_value(self, change: Callable[[str], str], key: str | None = None) -> Callable[[Value, Dump], str]:
        def write(record: Value, dump: Dump) -> str:
            before, token, behind = self.value(dump(record), key)
            return before + change(token) + behind

        return write

    def at_end(self, planted: str) -> Callable[[Value, Dump], str]:
        return self.in_value(lambda token: token[:-1] + planted + token[-1])

    def instead(self, planted: str, key: str | None = None) -> Callable[[Value, Dump], str]:
        return self.in_value(lambda _: MARK + planted, key)

    def text(self, pattern: str, replacement: str) -> Callable[[Value, Dump], str]:
        def write(record: Value, dump: Dump) -> str:
            changed, count = re.subn(pattern, replacement, dump(record), count=1)
            assert count == 1, (pattern, dump(record))
            return changed

        return write

    def with_member(self, planted: str) -> Callable[[Value, Dump], str]:
        """Put a member behind the record's opening brace."""
        return self.text(r"^\{(\s*)", rf"{{\g<1>{planted},\g<1>")

    def syntax(self) -> Iterator[Kind]:
        last = self.last
        yield Kind("syntax", "", self.at_end('"' + MARK + "字"))
        yield Kind("syntax", "", self.text(rf'(?s),(\s*)"{self.first}"', rf'\g<1>{MARK}"{self.first}"'))
        yield Kind("syntax", "", self.text(r"\}$", f",{MARK}}}"))
        yield Kind("syntax", "", self.in_value(lambda t: t[:-1] + MARK), layouts="p")
        yield Kind("syntax", "", self.text(rf'"{last}":(\s*)"', rf'"{last}"\g<1>{MARK}"'))
        yield Kind("syntax", "", self.text(rf'"{last}":', f"{MARK}{last}:"))
        yield Kind("syntax", "", self.text(rf'"{last}":', f"{MARK}'{last}':"))
        yield Kind("syntax", "", self.at_end(MARK + "\t"))
        yield Kind("syntax", "", self.at_end(MARK + "\n"), layouts="lop")
        yield Kind("syntax", "", self.at_end(MARK + "\0"))
        yield Kind("syntax", "", self.at_end(f"\\{MARK}x"))
        yield Kind("syntax", "", self.at_end(f"\\u12{MARK}g4"))
        yield Kind("syntax", "", self.with_member(f'"n":tru{MARK}'))
        yield Kind("syntax", "", self.with_member(f'"n":0{MARK}1'))
        yield Kind("syntax", "", self.with_member(f'"n":1.{MARK}x'))
        yield Kind("syntax", "", self.with_member(f'"n":2024{MARK}-01-01'))
        yield Kind("syntax", "", self.with_member(f'"n":1.2{MARK}.3'))
        yield Kind("syntax", "", self.with_member(f'"n":{MARK}True'))
        yield Kind("syntax", "", self.with_member(f"{MARK}// remark\n"), layouts="lop")
        yield Kind("syntax", "", self.with_member(f'"n":1{MARK}，"m":2'))
        yield Kind("syntax", "", self.with_member(f'"n"{MARK}："m"'))
        yield Kind("syntax", "", self.text(r"\}$", "}" + MARK + "}"))
        yield Kind("syntax", "", self.text(r"\}$", ""), next=True, layouts="lop")
        yield Kind("syntax", "", self.text(r"\}$", MARK), layouts="j")
        yield Kind("syntax", "", self.text(r'^\{(\s*"[a-z]+")', r"\g<1>" + MARK))
        yield Kind("syntax", "", self.text(r"\}$", f"}}{MARK}?"))
        yield Kind(
            "syntax", "", self.text(rf'"{last}":\s*"(?:[^"\\]|\\.)*"(\s*)\}}', rf'"{last}":\g<1>{MARK}}}')
        )

    def others(self) -> Iterator[Kind]:
        here = self.pointer
        yield Kind("encoding-utf8", here, self.at_end(MARK + "\udcff"))
        yield Kind("encoding-utf8", here, self.at_end(MARK + "\udcc4\udce3"))
        yield Kind("encoding-surrogate", here, self.in_value(lambda t: MARK + t[:-1] + '\\ud83d"'))
        yield Kind("not-a-number", "/n", self.with_member(f'"n":{MARK}NaN'))
        yield Kind("not-a-number", "/n", self.with_member(f'"n":{MARK}-Infinity'))
        yield Kind("schema-type", here, self.instead("7"))
        yield Kind("schema-type", here, self.instead("null"))
        yield Kind("schema-type", here, self.instead('["a"]'))
        yield Kind("schema-empty", here, self.instead('""'))
        yield Kind("schema-type", "", lambda _, dump: MARK + '"text"')
        yield Kind("schema-type", "", lambda _, dump: MARK + "[1, 2]")
        yield Kind("unknown-member", "/sytem", self.with_member(f'{MARK}"sytem":"x"'))
        yield Kind("blank-text", here, self.instead('" \\n\u3000"'))
        yield Kind("control-character", here, self.in_value(lambda t: MARK + t[:-1] + '\\u0000"'))
        yield Kind("control-character", here, self.in_value(lambda t: MARK + t[:-1] + '\x7f"'))
        yield Kind("control-token", here, self.in_value(lambda t: MARK + t[:-1] + '<|End|>"'))
        yield Kind("control-token", here, self.in_value(lambda t: MARK + t[:-1] + '\\u003c|End|>"'))
        yield Kind("replacement-character", here, self.in_value(lambda t: MARK + t[:-1] + '\ufffd"'))
        yield Kind("replacement-character", here, self.in_value(lambda t: MARK + t[:-1] + '\\uFFFD"'))
        yield Kind("mojibake", here, self.in_value(lambda t: MARK + t[:-1] + '锟斤拷"'))
        yield Kind("tag-reply", here, self.in_value(lambda t: MARK + '"【媒宣领域任务】' + t[1:]))


def alpaca(number: int, pick: random.Random) -> Value:
    record = {"instruction": f"第{number}问：" + words(pick), "input": pick.choice(["", words(pick)])}
    if pick.random() < 0.3:
        record |= {"history": [[words(pick), words(pick)]]}  # type: ignore[dict-item]
    return record | {"output": words(pick)}


def multi_turn(number: int, pick: random.Random) -> Value:
    turns = [
        {"from": who, "value": words(pick)} for _ in range(pick.randint(1, 3)) for who in ("human", "yayi")
    ]
    turns[0]["value"] = f"第{number}问：" + turns[0]["value"]
    return {"system": pick.choice(["", words(pick)]), "conversations": turns}


def reordered(record: Value, pick: random.Random) -> Value:
    """Let a record begin with any of its keys."""
    return dict(pick.sample(list(record.items()), len(record)))


def words(pick: random.Random) -> str:
    return "".join(pick.choices(WORDS, k=8)).replace("\\n", "\n").replace('\\"', '"').strip() + "末"


A = Faults("output", "/output", "input")
ALPACA = [
    *A.syntax(),
    *A.others(),
    Kind("duplicate-key", "/system", A.with_member(f'"system":"x",{MARK}"system":"y"')),
    Kind("schema-missing", "", lambda r, dump: MARK + dump({k: r[k] for k in ("instruction", "input")})),
    Kind("schema-type", "/input", A.in_value(lambda _: MARK + "{}", "input")),
    Kind("schema-value", "/history/0", A.with_member(f'"history":[{MARK}["问"]]')),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '"【媒宣领域任务' + t[1:], "instruction")),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '"媒宣领域任务】' + t[1:], "instruction")),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '" 【媒宣领域任务】' + t[1:], "instruction")),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '"[媒宣领域任务]' + t[1:], "instruction")),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '" ［媒宣领域任务］' + t[1:], "instruction")),
    Kind("tag-malformed", "/instruction", A.in_value(lambda t: MARK + '"\\n[媒宣领域任务]' + t[1:], "instruction")),
    Kind("tag-unknown", "/instruction", A.in_value(lambda t: MARK + '"【媒宣领城任务】' + t[1:], "instruction")),
    Kind("tag-several", "/instruction",
         A.in_value(lambda t: MARK + '"【媒宣领域任务】【舆情领域任务】' + t[1:], "instruction")),
]  # fmt: skip


def turns(change: Callable[[list[Any]], tuple[int, str]]) -> Callable[[Value, Dump], str]:
    """Write a conversation after `change`, which names the turn and the key whose value is marked."""

    def write(record: Value, dump: Dump) -> str:
        said = [{"from": who, "value": f"{i}"} for i, who in enumerate(("human", "yayi", "human", "yayi"))]
        said[0]["value"] = record["conversations"][0]["value"]
        index, key = change(said)
        said[index][key] = MARK + said[index][key]
        return dump({"system": "", "conversations": said}).replace(f'"{MARK}', f'{MARK}"')

    return write


def role(index: int, name: str) -> Callable[[list[Any]], tuple[int, str]]:
    def change(said: list[Any]) -> tuple[int, str]:
        said[index]["from"] = name
        return index, "from"

    return change


def doubled(said: list[Any]) -> tuple[int, str]:
    said.insert(1, {"from": "human", "value": "还有"})
    return 1, "from"


def unanswered(said: list[Any]) -> tuple[int, str]:
    said.pop()
    return 2, "from"


M = Faults("value", "/conversations/1/value", "conversations")
MULTI_TURN = [
    *M.syntax(),
    *M.others(),
    Kind("duplicate-key", "/system", M.text('"system":', f'"system":"x",{MARK}"system":')),
    Kind("schema-missing", "", lambda r, dump: MARK + dump({"system": "你好"})),
    Kind("schema-empty", "/conversations", M.text(r'(?s)"conversations":(\s*)\[.*\]', rf'"conversations":\g<1>{MARK}[]')),
    Kind("schema-missing", "/conversations/1", M.text(r'(?s)\{(\s*"from":\s*"yayi"),\s*"value":\s*"(?:[^"\\]|\\.)*"', MARK + r"{\g<1>")),
    Kind("schema-value", "/conversations/0/weight", M.text(r'"from":', f'"weight":{MARK}7,"from":')),
    Kind("schema-type", "/conversations/0/train", M.text(r'"from":', f'"train":{MARK}"no","from":')),
    Kind("unknown-member", "/conversations/0/form", M.text(r'"from":', f'{MARK}"form":"x","from":')),
    Kind("duplicate-key", "/conversations/0/from", M.text(r'"from":', f'"from":"human",{MARK}"from":')),
    Kind("role-unknown", "/conversations/1/from", turns(role(1, "user"))),
    Kind("role-system", "/conversations/1/from", turns(role(1, "system"))),
    Kind("role-order", "/conversations/0/from", turns(role(0, "yayi"))),
    Kind("role-order", "/conversations/1/from", turns(role(1, "human"))),
    Kind("role-order", "/conversations/1/from", turns(doubled)),
    Kind("role-end", "/conversations/3/from", turns(role(3, "human"))),
    Kind("role-end", "/conversations/2/from", turns(unanswered)),
]  # fmt: skip


class Planted(NamedTuple):
    line: int
    column: int
    record: int
    pointer: str
    rule: str


LAYOUTS: dict[str, tuple[str, str, str, Dump]] = {
    "j": ("", "\n", "\n", lambda value: json.dumps(value, ensure_ascii=False)),
    "l": ("[\n", ",\n", "\n]\n", lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))),
    "o": ("[", ", ", "]", lambda value: json.dumps(value, ensure_ascii=False)),
    "p": ("[\n  ", ",\n  ", "\n]\n", lambda value: json.dumps(value, ensure_ascii=False, indent=2).replace("\n", "\n  ")),
}  # fmt: skip


def planted_file(
    make: Callable[[int, random.Random], Value], kinds: list[Kind], layout: str, newline: str, seed: int
) -> tuple[str, list[Planted]]:
    """Write a file with every kind of fault between good records, and tell where the faults are."""
    pick = random.Random(seed)
    opening, comma, closing, dump = LAYOUTS[layout]
    kinds = [kind for kind in kinds if layout in kind.layouts]
    pick.shuffle(kinds)
    texts, faults = [dump(make(0, pick))], []
    for kind in kinds:
        record = make(len(texts), pick)
        if make is multi_turn:
            record["conversations"] = record["conversations"][:2]
        if kind.rule.startswith(("tag-", "schema-value")):
            record.pop("history", None)  # a tag stands at the start of the conversation
        texts.append(kind.write(record, dump))
        faults.append((len(texts) - 1, kind))
        texts += [dump(reordered(make(len(texts) + i, pick), pick)) for i in range(pick.randint(1, 3))]
        if kind.next:
            texts[faults[-1][0] + 1] = MARK + texts[faults[-1][0] + 1]
    content = (opening + comma.join(texts) + closing).replace("\n", newline)
    before, *pieces = content.split(MARK)
    planted = []
    for (number, kind), piece in zip(faults, pieces, strict=True):
        line = before.count("\n") + 1
        planted.append(Planted(line, len(before) - before.rfind("\n"), number, kind.pointer, kind.rule))
        before += piece
    return before, planted


CASES = [
    (make, layout, newline, seed)
    for make in (alpaca, multi_turn)
    for layout in LAYOUTS
    for newline in ("\n", "\r\n")
    for seed in (1, 2)
]


@pytest.mark.parametrize(("make", "layout", "newline", "seed"), CASES)
def test_every_planted_fault_is_reported_at_its_place_and_nothing_else(
    tmp_path: Path, make: Callable[[int, random.Random], Value], layout: str, newline: str, seed: int
) -> None:
    kinds = ALPACA if make is alpaca else MULTI_TURN
    content, planted = planted_file(make, kinds, layout, newline, seed)
    path = tmp_path / "planted.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    dialect = "alpaca" if make is alpaca else "multi-turn"
    result = validate_paths(ValidateOptions((str(path),), dialect, workers=1))
    found = [
        Planted(p.line, p.column, p.record if p.record is not None else -1, p.pointer, p.rule)
        for p in result.problems
    ]
    assert found == planted


def test_enough_is_planted() -> None:
    planted = [
        p
        for case in CASES
        for p in planted_file(case[0], ALPACA if case[0] is alpaca else MULTI_TURN, *case[1:])[1]
    ]
    assert len(planted) >= 1_000
    assert len({id(kind.write) for kind in (*ALPACA, *MULTI_TURN)}) >= 25
    assert len({p.rule for p in planted}) >= 20
