import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from yayi_data.cli import app
from yayi_data.dedup import DedupOptions, dedup
from yayi_data.dedup.fingerprints import print_records
from yayi_data.errors import DataError, YayiError

LONG = "这是一段足够长的回答，用来说明两条记录只差一两个字的时候仍然几乎一样。"


def record(asked: str, answered: str = LONG, **more: Any) -> dict[str, Any]:
    return {"instruction": asked, "input": "", "output": answered, **more}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in records))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dedup", *map(str, arguments)], standalone_mode=False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_first_of_a_group_is_kept_and_the_ledger_names_the_twin(tmp_path: Path) -> None:
    near = LONG.replace("一两个字", "一二个字")
    source = write(
        tmp_path / "a.jsonl",
        record("问一"),
        record("别的", "完全不同的回答"),
        record("问一"),
        record("问一", near),
    )
    result = dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl", threshold=0.7))
    assert lines(tmp_path / "kept.dropped.jsonl") == [
        {
            "reason": reason,
            "path": str(source),
            "line": line,
            "record": line - 1,
            "similarity": pytest.approx(similarity, abs=1e-4),
            "twin": {"path": str(source), "line": 1, "record": 0},
        }
        for reason, line, similarity in (("exact-duplicate", 3, 1), ("near-duplicate", 4, 29 / 39))
    ]
    assert [kept["instruction"] for kept in lines(tmp_path / "kept.jsonl")] == ["问一", "别的"]
    assert (result.read, result.kept, result.groups) == (4, 2, 1)


def test_kept_records_keep_their_bytes(tmp_path: Path) -> None:
    odd = '{ "output":"\\u597d" ,"instruction" : "写\\/",  "id": 1.0e0 }'
    source = tmp_path / "a.jsonl"
    source.write_bytes(f"{odd}\r\n\r\n{odd}".encode())
    dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    assert (tmp_path / "kept.jsonl").read_bytes() == odd.encode() + b"\n"
    dedup(DedupOptions((str(source),), tmp_path / "kept.json"))
    assert (tmp_path / "kept.json").read_bytes() == b"[\n" + odd.encode() + b"\n]\n"


def test_a_record_of_a_pretty_array_becomes_one_line(tmp_path: Path) -> None:
    source = tmp_path / "a.json"
    source.write_text(json.dumps([record("一"), record("二", "不同")], indent=2), encoding="utf-8")
    dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    assert lines(tmp_path / "kept.jsonl") == [record("一"), record("二", "不同")]


def test_numbers_of_a_pretty_array_keep_their_digits(tmp_path: Path) -> None:
    source = tmp_path / "a.json"
    numbers = '"p": 0.1000000000000000055511151231257827,\r\n "id": 18446744073709551616'
    source.write_bytes(f'[{{"instruction": "一",\n "output": "好", {numbers}}}]'.encode())
    dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    kept = (tmp_path / "kept.jsonl").read_bytes()
    assert numbers.replace("\r\n", "  ").encode() in kept
    assert kept.count(b"\n") == 1


def test_json_steers_no_terminal(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record("\x7f\x9b\u202e"), record("\x7f\x9b\u202e"))
    shown = run(source, "--output", tmp_path / "kept.jsonl", "--json").stdout
    assert not set("\x7f\x9b\u202e") & set(shown)
    assert "\x7f\x9b\u202e" in json.loads(shown)["pairs"][0]["text"]


@pytest.mark.parametrize("output", ["dom.toml", "kept.jsonl"])
def test_the_file_of_domains_is_not_written_over(output: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record("一"))
    (tmp_path / output).write_text("")
    options = DedupOptions((str(source),), tmp_path / output, report=True, domains=str(tmp_path / output))
    with pytest.raises(YayiError, match="is an input too"):
        dedup(options)
    assert (tmp_path / output).read_text() == ""


def test_a_chain_of_likeness_drops_only_what_is_like_a_kept_record(tmp_path: Path) -> None:
    base = "abcdefghijklmnopqrstuvwxyz0123456789"
    texts = [base, base[4:] + "ABCD".lower()[::-1], base[8:] + "!?%&+-*/"]
    source = write(tmp_path / "a.jsonl", *(record("q", text) for text in texts))
    result = dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl", threshold=0.7))
    assert result.kept == 2  # the second is like the first; the third only like the second


def test_records_of_other_dialects_and_tags_are_equal_by_their_text(tmp_path: Path) -> None:
    alpaca = write(tmp_path / "a.jsonl", record("【金融领域任务】问", input="补充"))
    turns = [{"from": "human", "value": "问\n补充"}, {"from": "yayi", "value": LONG}]
    multi = write(tmp_path / "b.jsonl", {"system": "", "conversations": turns})
    result = dedup(DedupOptions((str(alpaca), str(multi)), tmp_path / "ledger.jsonl", report=True))
    assert dict(result.dropped) == {"exact-duplicate": 1}
    with pytest.raises(YayiError, match="one file holds one dialect"):
        dedup(DedupOptions((str(alpaca), str(multi)), tmp_path / "kept.jsonl"))


def test_what_overlaps_an_evaluation_set_goes(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "考题"}, {"role": "assistant", "content": LONG}]
    held_out = write(tmp_path / "eval.jsonl", {"messages": turns}, {"messages": turns})
    near = LONG.replace("一两个字", "一二个字")
    source = write(tmp_path / "a.jsonl", record("考题"), record("考题", near), record("别的", "不同的回答"))
    options = DedupOptions((str(source),), tmp_path / "kept.jsonl", (str(held_out),), threshold=0.7)
    result = dedup(options)
    assert dict(result.dropped) == {"exact-overlap": 1, "near-overlap": 1}
    assert {(pair.twin["path"], pair.twin["line"]) for pair in result.pairs} == {(str(held_out), 1)}
    assert lines(tmp_path / "kept.jsonl") == [record("别的", "不同的回答")]


def test_a_question_of_an_evaluation_set_goes_whatever_it_answers(tmp_path: Path) -> None:
    held_out = write(tmp_path / "eval.jsonl", record("【金融领域任务】考题", "标准答案"))
    source = write(
        tmp_path / "a.jsonl", record("考题", LONG), record("考题二", LONG[::-1]), record("考题", LONG)
    )
    result = dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl", (str(held_out),)))
    assert dict(result.dropped) == {"question-overlap": 2}
    drops = lines(tmp_path / "kept.dropped.jsonl")
    assert [(drop["line"], drop["twin"]["path"]) for drop in drops] == [
        (1, str(held_out)),
        (3, str(held_out)),
    ]
    assert lines(tmp_path / "kept.jsonl") == [record("考题二", LONG[::-1])]


def test_an_evaluation_set_that_cannot_be_compared_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = tmp_path / "eval.jsonl"
    held_out.write_bytes(orjson.dumps(record("考题")) + b'\n{"instruction": "only a question"}\n')
    source = write(tmp_path / "a.jsonl", record("别的", "不同的回答"))
    options = DedupOptions((str(source),), tmp_path / "kept.jsonl", (str(held_out),))
    with pytest.raises(DataError, match=r"eval\.jsonl:2"):
        dedup(options)
    result = dedup(replace(options, on_problem="drop"))
    assert "eval.jsonl: 1 records have an error" in capsys.readouterr().err
    assert (result.read, result.kept) == (1, 1)


def test_questions_asked_twice_are_no_repeats_in_the_data_itself(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record("同题", LONG), record("同题", LONG[::-1]))
    assert dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl")).kept == 2


def test_a_report_drops_nothing_and_exits_1(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record("一"), record("一"))
    assert run(source, "--output", tmp_path / "ledger", "--report").return_value == 1
    assert len(lines(tmp_path / "ledger")) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "ledger"]
    alone = write(tmp_path / "b.jsonl", record("一"))
    assert run(alone, "--output", tmp_path / "ledger", "--report").return_value == 0


def test_json_is_the_agreed_object(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record("一"), record("一"))
    result = run(source, "--output", tmp_path / "k.jsonl", "--json")
    text = f"一 {LONG}".replace("，", ",")
    assert json.loads(result.stdout) == {
        "output": str(tmp_path / "k.jsonl"),
        "records": 1,
        "groups": 1,
        "ledger": {"read": 2, "kept": 1, "dropped": {"exact-duplicate": 1}},
        "pairs": [
            {
                "reason": "exact-duplicate",
                "path": str(source),
                "line": 2,
                "record": 1,
                "similarity": 1.0,
                "twin": {"path": str(source), "line": 1, "record": 0},
                "text": text,
                "twin_text": text,
            }
        ],
    }


def test_hostile_text_is_shown_escaped(tmp_path: Path) -> None:
    evil = "\x1b[31m[bold]\u202egnp.exe\u2028::error::" + LONG
    source = write(tmp_path / "a.jsonl", record(evil), record(evil), record(evil, LONG + "\x1b]0;x\x07"))
    shown = run(source, "--output", tmp_path / "k.jsonl").stdout
    assert "\\x1b" in shown
    assert "[bold]" in shown
    assert not {"\x1b", "\u202e", "\u2028", "\x07"} & set(shown)
    assert all(not line.startswith("::") for line in shown.splitlines())


def test_a_record_with_an_error_ends_the_run_or_is_dropped(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(
        orjson.dumps(record("一")) + b'\n{"instruction": "x"}\n{oops\n' + orjson.dumps(record("一"))
    )
    with pytest.raises(DataError, match=r"a\.jsonl:2:1: schema-missing .* --on-problem drop"):
        dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    result = dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl", on_problem="drop"))
    assert [(drop["reason"], drop["line"]) for drop in lines(tmp_path / "kept.dropped.jsonl")] == [
        ("schema-missing", 2),
        ("syntax", 3),
        ("exact-duplicate", 4),
    ]
    assert result.read == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.jsonl", "--output", "k.jsonl"], "no such file"),
        (["a.jsonl", "--output", "a.jsonl"], "is an input too"),
        (["a.jsonl", "--output", "k.parquet"], "must end in one of"),
        (["a.jsonl", "--output", "."], "must end in one of"),
        (["-", "--against", "-", "--output", "k.jsonl"], "stdin"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", record("一"))
    with pytest.raises(YayiError, match=told) as raised:
        CliRunner().invoke(app, ["dedup", *arguments], standalone_mode=False, catch_exceptions=False)
    assert "\n" not in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_error_between_records_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + orjson.dumps(record("一")))
    dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl", on_problem="drop"))
    assert "a.jsonl:1:1: encoding-bom" in capsys.readouterr().err
    assert lines(tmp_path / "kept.jsonl") == [record("一")]


def test_what_fails_late_leaves_the_old_output_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", record("一"), record("二", "不同"))
    (tmp_path / "kept.jsonl").write_text("old")

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("yayi_data.places.Records.raw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "kept.jsonl"]
    assert (tmp_path / "kept.jsonl").read_text() == "old"


def test_more_files_than_may_be_open_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(200):
        write(tmp_path / "in" / f"{i:03}.jsonl", record(f"问题{i}"), record(f"{i}", f"{i}"))
    code = (
        "import resource, sys; from yayi_data.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); main()"
    )
    command = [sys.executable, "-c", code, "dedup", "in", "--output", "kept.jsonl", "--threshold", "0.7"]
    ended = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(lines(tmp_path / "kept.jsonl")) < 400
    assert lines(tmp_path / "kept.jsonl")[0] == record("问题0")


@pytest.mark.parametrize("change", [lambda old: b"{}", lambda old: old.replace("一".encode(), "二".encode())])
def test_a_file_that_changes_meanwhile_is_told(
    change: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", record("一"))
    read = print_records

    def read_and_change(*arguments: Any) -> Any:
        found = read(*arguments)
        source.write_bytes(change(source.read_bytes()))
        return found

    monkeypatch.setattr("yayi_data.dedup.print_records", read_and_change)
    with pytest.raises(DataError, match="changed while it was read"):
        dedup(DedupOptions((str(source),), tmp_path / "kept.jsonl"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_output_does_not_depend_on_workers_or_hash_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [record(f"问题{i % 700}", f"{i % 650} 号" + LONG[i % 5 :] + str(i % 11)) for i in range(2000)]
    write(tmp_path / "a.jsonl", *made)
    code = (
        "import sys; from yayi_data import places; from yayi_data.dedup import fingerprints\n"
        "places.JOB_BYTES = fingerprints.POOL_BYTES = 50_000\n"
        "from pathlib import Path; from yayi_data.dedup import *\n"
        "dedup(DedupOptions(('a.jsonl',), Path(sys.argv[1]), workers=int(sys.argv[2])))"
    )
    written = []
    for workers in (1, 2, 3):
        script = tmp_path / "run.py"
        script.write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}\n")
        environment = os.environ | {"PYTHONHASHSEED": str(workers), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(script), f"k{workers}.jsonl", str(workers)]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)
        written.append([(tmp_path / f"k{workers}{end}").read_bytes() for end in (".jsonl", ".dropped.jsonl")])
    assert written[0] == written[1] == written[2]
    assert written[0][1].count(b"near-duplicate") > 10
