import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from yayi_data import checking
from yayi_data.checking import ValidateOptions, validate_paths
from yayi_data.cli import app
from yayi_data.command import run
from yayi_data.errors import YayiError
from yayi_data.report import REPORTS

GOOD = '{"instruction": "你好", "output": "你好！"}\n'
BAD = '{"instruction": "你好"}\n'
WARNED = '{"instruction": "你好", "output": "<|End|>"}\n'


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: str, name: str = "a.jsonl") -> str:
    Path(name).write_text(content, encoding="utf-8")
    return name


def called(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    result: Result | None = None

    def command() -> int:
        nonlocal result
        result = CliRunner().invoke(app, ["validate", *arguments], input=stdin, standalone_mode=False)
        if result.exception:
            raise result.exception
        return int(result.return_value or 0)

    code = run(command, debug=False)
    assert result is not None
    return code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("content", "options", "code"),
    [(GOOD, [], 0), (BAD, [], 1), (WARNED, [], 0), (WARNED, ["--strict"], 1), ("", [], 1), ("[]", [], 1), ("\n\n", [], 1),
     (BAD, ["--ignore", "schema"], 0), (BAD, ["--select", "syntax,role"], 0), (BAD + GOOD, ["--limit", "1"], 1), (GOOD + BAD, ["--limit", "1"], 0),
     (GOOD, ["--select", "nonsense"], 2), (GOOD, ["--baseline", "missing.json"], 2), ("{", [], 1), ("nonsense", [], 1), ('{"q": 1}', [], 1),
     ('{"q": 1}', ["--dialect", "alpaca"], 1), (GOOD, ["--template", "nonsense"], 2)],
)  # fmt: skip
def test_exit_code(content: str, options: list[str], code: int) -> None:
    assert called(write(content), *options)[0] == code


def test_missing_input_is_wrong_usage() -> None:
    assert called("missing.jsonl")[0] == 2


def test_json_has_the_shape_that_scripts_rely_on() -> None:
    code, out, _ = called(write(GOOD + BAD), "--format", "json")
    report = json.loads(out)
    (problem,) = report["problems"]
    assert code == 1
    assert (report["ok"], report["records"], report["counts"]) == (False, 2, {"schema-missing": 1})
    assert report["files"] == [
        {"path": "a.jsonl", "dialect": "alpaca", "records": 2, "bytes": len((GOOD + BAD).encode())}
    ]
    assert problem.pop("fingerprint")
    assert problem == {
        "path": "a.jsonl", "line": 2, "column": 1, "record": 1, "pointer": "", "rule": "schema-missing",
        "severity": "error", "message": "the record has no `output`: add it",
    }  # fmt: skip


def test_report_goes_to_a_file_and_the_verdict_to_the_person() -> None:
    code, out, err = called(write(BAD), "--format", "json", "--output", "report.json")
    assert (code, out) == (1, "")
    assert "1 error" in err
    assert json.loads(Path("report.json").read_text())["ok"] is False


def test_with_a_baseline_only_what_is_new_fails() -> None:
    path = write(GOOD + BAD + BAD)
    assert called(path, "--format", "json", "--output", "known.json")[0] == 1
    assert called(path, "--baseline", "known.json")[0] == 0
    write(GOOD * 1 + '{"instruction": "新", "output": "行"}\n' + BAD + BAD)
    assert called(path, "--baseline", "known.json")[0] == 0
    write(GOOD + BAD + BAD + BAD)
    code, out, _ = called(path, "--baseline", "known.json")
    assert code == 1
    assert "1 error" in out
    assert called(path, "--baseline", write("{}", "other.json"))[0] == 2


@pytest.mark.parametrize(
    ("name", "table"), [("yayi.toml", ""), ("pyproject.toml", "[tool.yayi-data]\n"), ("../yayi.toml", "")]
)
def test_settings_live_with_the_data_and_options_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, table: str
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    path = write(WARNED)
    Path(name).write_text(table + 'strict = true\nignore = ["syntax"]\n')
    assert called(path)[0] == 1
    assert called(path, "--no-strict")[0] == 0
    assert called(path, "--ignore", "control-token")[0] == 0


def test_severity_of_a_rule_can_be_set() -> None:
    path = write(WARNED)
    Path("yayi.toml").write_text('severity = {control-token = "error"}\n')
    assert called(path)[0] == 1


@pytest.mark.parametrize(
    "setting",
    [
        "strickt = true",
        'strict = "yes"',
        "max-problems = true",
        'severity = {syntax = "bad"}',
        "x =",
        'severity = {bogus = "error"}',
        "limit = 0",
        "workers = -3",
        "max-problems = 0",
        'dialect = "foo"',
    ],
)
def test_a_setting_that_is_not_understood_is_refused(setting: str) -> None:
    path = write(GOOD)
    Path("yayi.toml").write_text(setting)
    assert called(path)[0] == 2


@pytest.mark.parametrize("content", ["tool = 5", "[tool]\nyayi-data = 3", "[tool]\nyayi-data = []"])
def test_a_project_file_of_another_shape_is_no_crash(content: str) -> None:
    path = write(GOOD)
    Path("pyproject.toml").write_text(content)
    assert called(path)[0] == (0 if content == "tool = 5" else 2)


def test_severity_of_a_group_of_rules_can_be_set() -> None:
    path = write(BAD)
    Path("yayi.toml").write_text('severity = {schema = "warning"}\n')
    assert called(path)[0] == 0


def test_repeats_are_found_across_files_and_errors_never_count() -> None:
    other = '{"instruction": "你好", "output": "不好"}\n'
    write(GOOD + BAD, "a.jsonl")
    write(f"[{GOOD}, {other}, {other}, {BAD}]", "b.json")
    result = validate_paths(ValidateOptions(("a.jsonl", "b.json"), workers=1))
    assert [(p.path, p.record, p.rule) for p in result.problems if p.severity == "warning"] == [
        ("b.json", 0, "duplicate-record"), ("b.json", 1, "conflicting-reply"), ("b.json", 2, "duplicate-record"),
    ]  # fmt: skip
    assert "record 0 of a.jsonl" in result.problems[1].message


def test_any_number_of_workers_gives_the_same_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "JOB_BYTES", 3_000)
    monkeypatch.setattr(checking, "POOL_BYTES", 3_000)
    blocks = [
        GOOD.replace("你好", f"你好{i}", 1) + ("\n" if i % 3 else BAD) + '{"broken\n' * (i % 5 == 0)
        for i in range(300)
    ]
    write("\ufeff" + "".join(blocks) + GOOD, "a.jsonl")
    write(f"[{GOOD}, {WARNED},]", "b.json")
    options = ValidateOptions(("a.jsonl", "b.json"), workers=1, fingerprints=True)
    results = [validate_paths(replace(options, workers=n)) for n in (1, 2)]
    assert REPORTS["json"](results[0]) == REPORTS["json"](results[1])
    monkeypatch.setattr(checking, "JOB_BYTES", 1 << 30)
    whole = validate_paths(options)
    assert REPORTS["json"](whole) == REPORTS["json"](results[0])


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = called("-", "--format", "json", stdin=(GOOD + BAD).encode())
    assert code == 1
    assert json.loads(out)["files"][0] == {"path": "-", "dialect": "alpaca", "records": 2, "bytes": None}


def test_a_file_of_no_dialect_is_told_once_with_its_syntax_faults() -> None:
    result = validate_paths(ValidateOptions((write('{"q": 1}\n{"q"\n{"q": 2}\n'),), workers=1))
    assert [(p.line, p.column, p.rule) for p in result.problems] == [(1, 1, "dialect"), (2, 5, "syntax")]


def test_one_object_over_several_lines_is_one_problem() -> None:
    path = write(json.dumps({"data": [{"instruction": "a", "output": "b"}]}, indent=2))
    result = validate_paths(ValidateOptions((path,), workers=1))
    assert [(p.line, p.column, p.rule) for p in result.problems] == [(1, 1, "dialect")]
    assert "one a line" in result.problems[0].message


def test_two_stdins_and_a_file_named_twice(tmp_path: Path) -> None:
    write(GOOD)
    for paths in (("-", "-"), ("a.jsonl", "./a.jsonl"), ("a.jsonl", str(tmp_path))):
        with pytest.raises(YayiError, match="name it once"):
            validate_paths(ValidateOptions(paths))


def test_the_wild_file_has_its_one_syntax_fault() -> None:
    shared = Path(os.environ.get("YAYI_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    wild = shared / "corpus" / "wild_malformed.json"
    if not wild.exists():
        pytest.skip(f"{wild} is absent")
    result = validate_paths(ValidateOptions((str(wild),), workers=1))
    faults = [(p.line, p.column, p.record) for p in result.problems if p.rule == "syntax"]
    assert faults == [(14007, 1, None)]
    assert result.records == 2801


def test_a_closed_pipe_and_an_odd_name_end_without_a_traceback(tmp_path: Path) -> None:
    write(BAD, "--odd name\n.jsonl")
    command = [sys.executable, "-m", "yayi_data.cli", "validate", "--", "--odd name\n.jsonl"]
    root = Path(checking.__file__).parents[1]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "\\n.jsonl" in ended.stdout


def test_latex_whose_backslash_json_took_for_an_escape_is_told_as_such() -> None:
    write('{"instruction": "\\frac{1}{2}", "output": "\\beta"}\n{"instruction": "\\f", "output": "x"}\n')
    _, out, _ = called("a.jsonl", "--select", "control-character")
    assert r"JSON reads \f so; for \frac write \\frac" in out
    assert r"JSON reads \b so; for \beta write \\beta" in out
    assert "at character 1: remove it" in out


def test_a_report_never_replaces_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(GOOD)
    write('{"problems": [], "counts": {}}', "b.json")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    for output, options in (("a.jsonl", ()), ("link.jsonl", ()), ("b.json", ("--baseline", "b.json"))):
        assert called("a.jsonl", "--output", output, *options)[0] == 2
        assert "is an input too" in capsys.readouterr().err
    assert Path("a.jsonl").read_text() == GOOD


def test_a_report_may_go_to_a_device_or_a_pipe(tmp_path: Path) -> None:
    write(BAD)
    assert called("a.jsonl", "--output", "/dev/null")[0] == 1
    assert Path("/dev/null").is_char_device()
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    assert called("a.jsonl", "--output", "pipe", "--format", "json")[0] == 1
    assert json.loads(reader.communicate()[0])["counts"] == {"schema-missing": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "pipe"]


def test_lines_that_are_whole_only_when_joined_are_not() -> None:
    write(GOOD + '{"instruction":"x"\n"output":"y"}\n' + GOOD[:-1] + "," + GOOD)
    code, out, _ = called("a.jsonl", "--format", "json")
    assert code == 1
    assert [p["line"] for p in json.loads(out)["problems"] if p["rule"] == "syntax"] == [2, 3, 4]


@pytest.mark.parametrize("content", ["", ', "content": null'])
def test_a_question_without_content_is_no_crash(content: str) -> None:
    call = '"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]'
    write('{"messages": [{"role": "user", ' + call + content + '}, {"role": "assistant", "content": "x"}]}\n')
    assert called("a.jsonl")[0] in (0, 1)


def test_a_new_repeat_is_new_though_another_went() -> None:
    lines = [f'{{"instruction": "{asked}", "output": "b"}}\n' for asked in "ppqq"]
    write("".join(lines[:3]))
    called("a.jsonl", "--format", "json", "--output", "b.json")
    assert called("a.jsonl", "--strict", "--baseline", "b.json")[0] == 0
    write(GOOD + "".join(lines[:3]))
    assert called("a.jsonl", "--strict", "--baseline", "b.json")[0] == 0
    write("".join(lines[1:]))
    assert called("a.jsonl", "--strict", "--baseline", "b.json")[0] == 1


def test_a_baseline_holds_however_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("", "yayi.toml")
    write(BAD)
    called("a.jsonl", "--format", "json", "--output", "b.json")
    (tmp_path / "sub").mkdir()
    for path in ("./a.jsonl", str(tmp_path / "a.jsonl")):
        assert called(path, "--baseline", "b.json")[0] == 0
    monkeypatch.chdir("sub")
    assert called("../a.jsonl", "--baseline", "../b.json")[0] == 0


def test_a_baseline_that_leaves_problems_out_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write(BAD * 3)
    called("a.jsonl", "--format", "json", "--max-problems", "2", "--output", "b.json")
    assert called("a.jsonl", "--baseline", "b.json")[0] == 2
    assert "lists 2 of 3 problems of schema-missing" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-"])
def test_a_closed_stream_is_no_crash(closed: str) -> None:
    write(GOOD)
    command = f"{sys.executable} -m yayi_data.cli validate a.jsonl {closed}"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_record_of_another_dialect_is_told_once() -> None:
    messages = '{"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}\n'
    turns = '{"conversations": [{"from": "human", "value": "问"}]}\n'
    result = validate_paths(ValidateOptions((write(GOOD + messages + turns + BAD),), workers=1))
    assert [(p.line, p.rule) for p in result.problems] == [
        (2, "dialect"), (3, "dialect"), (4, "schema-missing"),
    ]  # fmt: skip
    assert "the record is messages, the file alpaca" in result.problems[0].message


def test_thousands_of_faults_in_one_record_are_each_at_their_place() -> None:
    turns = [{"from": "机器人", "value": "好"} for _ in range(3_000)]
    good = {"conversations": [{"from": "human", "value": "问"}, {"from": "yayi", "value": "答"}]}
    lines = [json.dumps(record, ensure_ascii=False) for record in (good, {"conversations": turns})]
    result = validate_paths(ValidateOptions((write("\n".join(lines)),), workers=1))
    starts = [at for at in range(len(lines[1])) if lines[1].startswith('"机器人"', at)]
    assert [(p.line, p.column) for p in result.problems] == [(2, start + 1) for start in starts]


@pytest.mark.parametrize(
    ("options", "rules"),
    [({}, ["duplicate-record", "conflicting-reply"]), ({"ignore": ("duplicate-record",)}, ["conflicting-reply"]),
     ({"select": ("duplicate-record",)}, ["duplicate-record"])],
)  # fmt: skip
def test_of_the_rules_for_repeats_only_those_that_are_asked_for_are_told(
    options: dict[str, tuple[str, ...]], rules: list[str]
) -> None:
    other = '{"instruction": "你好", "output": "不好"}\n'
    result = validate_paths(ValidateOptions((write(GOOD + GOOD + other),), **options))
    assert [problem.rule for problem in result.problems] == rules


def test_repeats_past_the_most_that_are_kept_are_counted() -> None:
    options = ValidateOptions((write(GOOD * 6),), max_problems=2, severity=(("duplicate-record", "error"),))
    result = validate_paths(options)
    assert (result.counts["duplicate-record"], result.errors, len(result.problems)) == (5, 5, 2)
