"""Bad input through the real command: one clear line with the place, the right code, nothing left behind."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ALPACA = '{"instruction": "你是谁?", "input": "", "output": "我是雅意。"}\n'


class Case(NamedTuple):
    name: str
    arguments: str
    code: int
    line: str


PACK = "pack {source} --tokenizer {tokenizer} --output out"
CASES = [
    Case("missing file", PACK.format(source="gone.jsonl", tokenizer="tok"), 2, r"gone\.jsonl: no such file"),
    Case("empty file", PACK.format(source="empty.json", tokenizer="tok"), 1, r"empty\.json: .*no records"),
    Case("not JSON", PACK.format(source="prose.json", tokenizer="tok"), 1, r"prose\.json:1:1: syntax"),
    Case(
        "wrong dialect",
        PACK.format(source="other.jsonl", tokenizer="tok"),
        1,
        r"other\.jsonl.*dialect|record",
    ),
    Case("missing tokenizer", PACK.format(source="a.jsonl", tokenizer="gone"), 2, r"gone: .*"),
    Case(
        "folder without one",
        PACK.format(source="a.jsonl", tokenizer="bare"),
        2,
        r"bare: .*no tokenizer\.json",
    ),
    Case("broken tokenizer", PACK.format(source="a.jsonl", tokenizer="broken"), 2, r"broken.*not valid JSON"),
    Case(
        "unknown template",
        PACK.format(source="a.jsonl", tokenizer="tok") + " --template yi",
        2,
        r"yi: choose one",
    ),
    Case(
        "output exists",
        "pack a.jsonl --tokenizer tok --output bare",
        2,
        r"bare: exists already, and pack did not write it; choose another --output$",
    ),
    Case("no option", "pack a.jsonl --tokenizer tok", 2, r"Missing option '--output'"),
    Case("verify nothing", "verify gone", 2, r"gone: there is no such folder"),
    Case("verify a plain folder", "verify bare", 2, r"bare: holds no manifest\.json"),
    Case("verify a file", "verify a.jsonl", 2, r"a\.jsonl: is a file, not a packed folder; make one"),
    Case("inspect nothing", "inspect gone", 2, r"gone: no such file or folder"),
    Case("inspect two rows", "inspect a.jsonl --row 0 --source a:1", 2, r"exclude each other"),
    Case(
        "a name of two lines",
        "pack {odd} --tokenizer tok --output out",
        1,
        r"o\\nd\.jsonl:1:1: schema-missing the",
    ),
    Case("no domain file", "validate a.jsonl --domains gone", 2, r"gone: .*file: No such file or directory$"),
    Case("inspect raw without tokenizer", "inspect a.jsonl", 2, r"a\.jsonl: .*--tokenizer"),
    Case("convert a missing file", "convert gone --to alpaca --output o.jsonl", 2, r"gone: no such file"),
    Case("convert onto its input", "convert a.jsonl --to alpaca --output a.jsonl", 2, r"a\.jsonl"),
    Case(
        "convert what is not JSON", "convert prose.json --to alpaca --output o.jsonl", 1, r"prose\.json:1:1"
    ),
    Case("validate a missing file", "validate gone.jsonl", 2, r"gone\.jsonl: no such file"),
]


@pytest.fixture
def place(tmp_path: Path, byte_level: Path) -> Path:
    (tmp_path / "a.jsonl").write_text(ALPACA)
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "prose.json").write_text("从前有座山。\n")
    (tmp_path / "other.jsonl").write_text('{"text": "no chat at all"}\n')
    (tmp_path / "o\nd.jsonl").write_text('{"instruction": "x"}\n')
    (tmp_path / "tok").symlink_to(byte_level)
    (tmp_path / "bare").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    return tmp_path


def _words(arguments: str) -> list[str]:
    return [word.replace("{odd}", "o\nd.jsonl") for word in arguments.split()]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_gets_one_clear_line(case: Case, place: Path) -> None:
    before = sorted(path.name for path in place.iterdir())
    outcome = subprocess.run(
        [sys.executable, "-m", "yayi_data.cli", *_words(case.arguments)],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == case.code, outcome.stderr
    said = outcome.stderr.strip()
    assert re.match("error: ", said)
    assert "\n" not in said
    assert re.search(case.line, said)
    assert "Traceback" not in said
    assert sorted(path.name for path in place.iterdir()) == before
