"""Files to files. What the YaYi repository's converter got wrong is tested here too: it hid malformed
records, appended when it ran again, and made `_chat.json` out of `./data/x.json`.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from yayi_data.converting import ConvertOptions, Ledger, convert_files
from yayi_data.errors import DataError, YayiError

Value = dict[str, Any]
TAGGED = {"instruction": "【媒宣领域任务】写新闻", "input": "材料 ", "output": "好的。"}
PLAIN = {"instruction": " 你是谁？", "input": "", "output": "我是雅意。\n"}
CALLING = {
    "conversations": [
        {"from": "human", "value": "天气"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {}}'},
        {"from": "observation", "value": "晴"},
        {"from": "gpt", "value": "晴天"},
    ]
}
SPEAKING = {"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好！"}]}


def lines(path: Path, *records: Value | str) -> Path:
    texts = [
        record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records
    ]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def read(path: Path) -> list[Value]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def converted(*paths: Path, to: str, output: Path, **options: Any) -> Ledger:
    return convert_files(ConvertOptions(tuple(map(str, paths)), to, output, **options))


def test_alpaca_becomes_multi_turn_with_its_text_untouched(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.json", TAGGED, PLAIN), tmp_path / "b.jsonl"
    ledger = converted(source, to="multi-turn", output=output)
    assert [r["conversations"] for r in read(output)] == [
        [
            {"from": "human", "value": "【媒宣领域任务】写新闻\n材料 "},
            {"from": "yayi", "value": "好的。"},
        ],
        [{"from": "human", "value": " 你是谁？"}, {"from": "yayi", "value": "我是雅意。\n"}],
    ]
    assert ledger.summary() == {
        "records": 2,
        "ledger": {"read": 2, "kept": 2, "dropped": {}},
        "left_out": {},
    }


def test_several_files_of_several_dialects_are_merged_in_order(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "z.jsonl", PLAIN), lines(tmp_path / "a.jsonl", SPEAKING)
    converted(first, second, to="alpaca", output=tmp_path / "out.jsonl")
    assert [record["instruction"] for record in read(tmp_path / "out.jsonl")] == [" 你是谁？", "你好"]


def test_stdin_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lines(tmp_path / "a.jsonl", PLAIN, TAGGED).open() as source:
        monkeypatch.setattr("sys.stdin", source)
        ledger = converted(Path("-"), to="multi-turn", output=tmp_path / "out.jsonl")
    assert ledger.kept == 2


def test_running_again_replaces_the_output(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.json", TAGGED), tmp_path / "out.json"
    converted(source, to="messages", output=output)
    first = output.read_bytes()
    converted(source, to="messages", output=output)
    assert output.read_bytes() == first
    assert len(json.loads(first)) == 1


def test_output_is_written_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    lines(Path("data/x.json"), TAGGED)
    converted(Path("./data/x.json"), to="multi-turn", output=Path("./data/x_chat.json"))
    assert sorted(str(path) for path in Path().rglob("*.json")) == ["data/x.json", "data/x_chat.json"]


@pytest.mark.parametrize("bad", ['{"instruction": "写"好"", "output": "好"}', '{"instruction": "写"}', "[1]"])
def test_malformed_record_ends_the_conversion_with_its_place(tmp_path: Path, bad: str) -> None:
    source, output = lines(tmp_path / "a.jsonl", PLAIN, bad, TAGGED), tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"a\.jsonl:2:\d+: .*--on-problem drop"):
        converted(source, to="multi-turn", output=output)
    assert list(tmp_path.iterdir()) == [source]


def test_malformed_record_is_dropped_and_counted_on_request(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", PLAIN, '{"instruction": "写"好""}', TAGGED, '{"instruction": "写"}')
    ledger = converted(source, to="multi-turn", output=tmp_path / "out.jsonl", on_problem="drop")
    assert (ledger.read, ledger.kept) == (4, 2)
    assert ledger.dropped == {"syntax": 1, "schema-missing": 1}
    assert len(read(tmp_path / "out.jsonl")) == 2


def test_record_that_the_target_cannot_hold_ends_the_conversion(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", SPEAKING, CALLING)
    with pytest.raises(DataError, match=r"a\.jsonl:2: tools: alpaca holds no tools"):
        converted(source, to="alpaca", output=tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


def test_record_that_the_target_cannot_hold_is_dropped_on_request(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", SPEAKING, CALLING)
    ledger = converted(source, to="alpaca", output=tmp_path / "out.jsonl", on_problem="drop")
    assert ledger.summary()["ledger"] == {"read": 2, "kept": 1, "dropped": {"tools": 1}}


def test_every_dropped_record_is_a_line_of_a_ledger_beside_the_output(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.json", CALLING, "", SPEAKING, "{", CALLING), tmp_path / "b.jsonl"
    ledger = converted(source, to="multi-turn", output=output, on_problem="drop")
    assert (ledger.read, ledger.kept) == (4, 1)
    assert read(tmp_path / "b.dropped.jsonl") == [
        {"reason": "tools", "path": str(source), "line": 1, "record": 0},
        {"reason": "syntax", "path": str(source), "line": 4, "record": 2},
        {"reason": "tools", "path": str(source), "line": 5, "record": 3},
    ]
    converted(source, to="sharegpt", output=output, on_problem="drop")
    assert [drop["reason"] for drop in read(tmp_path / "b.dropped.jsonl")] == ["syntax"]


def test_the_bytes_that_were_read_are_told(tmp_path: Path) -> None:
    source, told = lines(tmp_path / "a.json", PLAIN, PLAIN), list[int]()
    convert_files(ConvertOptions((str(source),), "messages", tmp_path / "b.jsonl"), told.append)
    assert 0 < sum(told) <= source.stat().st_size


def test_conversion_that_leaves_nothing_is_an_error_and_no_file(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", CALLING)
    with pytest.raises(DataError, match=r"no record is left to write \(dropped: tools 1\)"):
        converted(source, to="alpaca", output=tmp_path / "out.jsonl", on_problem="drop")
    assert list(tmp_path.iterdir()) == [source]


def test_unknown_members_are_carried_over_or_counted(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答", "score": 5}]
    source = lines(tmp_path / "a.jsonl", {"id": 7, "conversations": turns, "input": "别的"})
    output = tmp_path / "out.jsonl"
    ledger = converted(source, to="alpaca", output=output, source_dialect="sharegpt")
    assert read(output) == [{"instruction": "问", "input": "", "output": "答", "id": 7}]
    assert ledger.left_out == {"score": 1, "input": 1}


def test_domain_is_added_to_first_questions_without_one(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.jsonl", TAGGED, PLAIN), tmp_path / "out.jsonl"
    converted(source, to="alpaca", output=output, add_domain="公共安全")
    assert [r["instruction"] for r in read(output)] == [
        "【媒宣领域任务】写新闻\n材料 ",
        "【安全领域任务】 你是谁？",
    ]


def test_domain_is_stripped(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.jsonl", TAGGED, PLAIN), tmp_path / "out.jsonl"
    converted(source, to="alpaca", output=output, strip_domain=True)
    assert [r["instruction"] for r in read(output)] == ["写新闻\n材料 ", " 你是谁？"]


def test_member_that_nests_too_deep_is_one_clear_line(tmp_path: Path) -> None:
    deep = '{"instruction": "写", "output": "好", "x": ' + "[" * 400 + "]" * 400 + "}"
    source = lines(tmp_path / "a.jsonl", deep)
    with pytest.raises(DataError, match="cannot be written"):
        converted(source, to="multi-turn", output=tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


def test_parquet_is_written(tmp_path: Path) -> None:
    source, output = lines(tmp_path / "a.jsonl", TAGGED, PLAIN | {"id": 1}), tmp_path / "out.parquet"
    ledger = converted(source, to="messages", output=output)
    assert pq.read_table(output).to_pylist()[1]["messages"][1]["content"] == "我是雅意。\n"
    assert ledger.left_out == {"id": 1}


def test_wrong_use_is_refused_and_leaves_the_input_as_it_was(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", TAGGED)
    before = source.read_bytes()
    (tmp_path / "folder.json").mkdir()
    for options, message in [
        ({"output": source}, "is an input too"),
        ({"output": tmp_path / "." / "out.txt"}, "must end in one of .jsonl, .json, .parquet"),
        ({"output": tmp_path / "folder.json"}, "is a folder"),
        ({"output": tmp_path / "absent" / "out.json"}, "cannot be written"),
        ({"output": tmp_path / "out.json", "add_domain": "医疗"}, "unknown domain"),
        ({"output": tmp_path / "out.json", "add_domain": "媒宣", "strip_domain": True}, "exclude each other"),
    ]:
        with pytest.raises(YayiError, match=message):
            converted(source, to="multi-turn", **options)
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "folder.json"]
