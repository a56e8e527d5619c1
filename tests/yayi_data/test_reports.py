"""What records say is hostile wherever it is shown: no markup, no terminal sequence, no command gets through."""

import json
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from yayi_data.checking import ValidateOptions, ValidateResult, validate_paths
from yayi_data.report import REPORTS, append_step_summary
from yayi_data.report.github import step_summary
from yayi_data.report.text import text, width

HOSTILE = [
    "\x1b[31mred\x1b]0;title\x07", "[/foo][bold]", "::error file=x::owned", "a\n::warning::b", "%0A::error::c", "\u202eevil\u2066",
    "<script>alert(1)</script>", "]]>&amp;", "| a | `b` **c** [x](javascript:1)", "\ufffe\uffff", "\x85\u2028", "@everyone #1",
]  # fmt: skip
_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff\ud800-\udfff]"
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ValidateResult:
    """A file whose name, keys, roles and texts are hostile."""
    monkeypatch.chdir(tmp_path)
    path = Path("a%,:<b>&\u202e[x].jsonl")
    records: list[object] = [
        {"instruction": f"问{i}", "output": "答", said: 1} for i, said in enumerate(HOSTILE)
    ]
    records += [{"instruction": said, "output": said + "\ufffd"} for said in HOSTILE]
    lines = [json.dumps(record, ensure_ascii=i % 2 == 0) for i, record in enumerate(records)]
    lines += [f'{{"instruction": "x" {said}' for said in HOSTILE if "\n" not in said]
    path.write_text("\n".join(lines), encoding="utf-8")
    result = validate_paths(ValidateOptions((str(path),), "alpaca", workers=1))
    assert len(result.problems) >= 3 * len(HOSTILE)
    return result


@pytest.mark.parametrize("format_", REPORTS)
def test_no_report_lets_a_terminal_sequence_through(hostile: ValidateResult, format_: str) -> None:
    assert not _STEERS.search(REPORTS[format_](hostile))


def test_colour_adds_only_our_own_sequences(hostile: ValidateResult) -> None:
    coloured = text(hostile, colour=True)
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text(hostile)


def test_every_line_for_github_is_our_own_command(hostile: ValidateResult) -> None:
    for line in REPORTS["github"](hostile).splitlines():
        assert re.fullmatch(
            r"::(error|warning) file=[^,:]*,line=\d+,col=\d+,title=[a-z-]+::.*|::notice::.*", line
        )
        assert not re.search(r"%(?!25|3A|2C)", line)


def test_step_summary_has_no_markup_from_records(hostile: ValidateResult) -> None:
    page = step_summary(hostile)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}
    assert not re.search(r"[<>`@]|\]\(|\*\*", page)
    assert "<script>" in unescape(page)


def test_step_summary_is_appended_where_github_asks(
    hostile: ValidateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    append_step_summary(hostile)
    append_step_summary(hostile)
    assert (tmp_path / "summary.md").read_text() == 2 * step_summary(hostile)


def test_json_says_exactly_what_was_found(hostile: ValidateResult) -> None:
    report = json.loads(REPORTS["json"](hostile))
    assert set(report) == {"ok", "records", "files", "counts", "known", "problems"}
    assert report["counts"] == dict(hostile.counts)
    for shown, found in zip(report["problems"], hostile.problems, strict=True):
        expected = found._asdict() | {"fingerprint": shown["fingerprint"]}
        assert {key: shown[key] for key in shown} == {key: expected[key] for key in shown}


def test_junit_is_xml_with_a_case_a_problem(hostile: ValidateResult) -> None:
    suites = ET.fromstring(REPORTS["junit"](hostile))
    assert len(suites.findall(".//testcase")) == len(hostile.problems)
    assert suites.get("failures") == str(len(suites.findall(".//failure"))) == str(hostile.errors)
    assert not {element.tag for element in suites.iter()} - {
        "testsuites", "testsuite", "testcase", "failure", "system-out"
    }  # fmt: skip


def test_sarif_fits_the_official_schema(hostile: ValidateResult) -> None:
    model = pytest.importorskip("pydantic_sarif.model", reason="pydantic-sarif, in the dev extra")
    log = json.loads(REPORTS["sarif"](hostile))
    model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)
    run = log["runs"][0]
    assert len(run["results"]) == len(hostile.problems)
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri)


def test_text_says_how_to_see_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "一", "output": ""}\n' * 3, encoding="utf-8")
    hint = "--max-problems N shows more of each rule"
    assert hint in text(validate_paths(ValidateOptions((str(path),), max_problems=2)))
    assert hint not in text(validate_paths(ValidateOptions((str(path),), max_problems=3)))


def test_caret_stands_under_its_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "中文🙂é", "output": ""}\n', encoding="utf-8")
    shown = text(validate_paths(ValidateOptions((str(path),), workers=1))).splitlines()
    line, caret = next((shown[i - 1], row) for i, row in enumerate(shown) if row.strip(" |") == "^")
    assert width(caret) - 1 == width(line[: line.index('""')])


@pytest.mark.parametrize("columns", [30, 50, 80, 120])
def test_a_narrow_screen_folds_messages_and_keeps_the_caret_in_place(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "【媒宣领城任务】' + "问" * 60 + '", "output": " "}\n', encoding="utf-8")
    result = validate_paths(ValidateOptions((str(path),), workers=1))
    problems = text(result, columns=columns).split("\n\n")[0].splitlines()[1:]
    assert all(width(line) <= columns for line in problems)
    carets = [(problems[i - 1], line) for i, line in enumerate(problems) if line.strip(" |") == "^"]
    assert [line[_after(line, width(caret) - 1) :][:2] for line, caret in carets] == ['"【', '" ']


def _after(line: str, columns: int) -> int:
    """The index of the character that stands behind so many columns."""
    return next(i for i in range(len(line)) if width(line[:i]) == columns)


def test_a_good_file_gets_one_calm_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "你好", "output": "你好！"}\n', encoding="utf-8")
    result = validate_paths(ValidateOptions((str(path),), workers=1))
    assert text(result) == "1 record in 1 file: no problems\n"
    assert ET.fromstring(REPORTS["junit"](result)).get("tests") == "1"


def test_past_max_problems_a_rule_is_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "你好", "output": ""}\n' * 30, encoding="utf-8")
    result = validate_paths(ValidateOptions((str(path),), max_problems=3, workers=1))
    assert result.counts["schema-empty"] == 30
    assert [p.line for p in result.problems] == [1, 2, 3]
    assert re.search(r"30  schema-empty .*\(3 shown\)", text(result))
