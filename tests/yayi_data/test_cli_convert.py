import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from yayi_data.cli.convert import convert

APP = typer.Typer()
APP.command()(convert)
RECORD = '{"instruction": "写", "input": "", "output": "好", "history": [["a", "b"]]}\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_text(RECORD + '{"instruction": "写"}\n', encoding="utf-8")
    return path


def test_json_is_the_agreed_object(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = [str(source), "--to", "multi-turn", "--output", str(output), "--on-problem", "drop", "--json"]
    result = CliRunner().invoke(APP, arguments, standalone_mode=False)
    assert json.loads(result.stdout) == {
        "output": str(output),
        "records": 1,
        "ledger": {"read": 2, "kept": 1, "dropped": {"schema-missing": 1}},
        "left_out": {},
    }


def test_talk_names_what_was_written_and_dropped_on_stderr(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = [str(source), "--to", "messages", "--output", str(output), "--on-problem", "drop"]
    result = CliRunner().invoke(APP, arguments, standalone_mode=False)
    assert result.stdout == ""
    written, dropped, ledger = result.stderr.splitlines()
    assert written == f"{output}: 1 of 2 records, in the messages dialect"
    assert ledger == f"The line of each: {tmp_path / 'out.dropped.jsonl'}"
    assert dropped.startswith(f"  dropped 1: schema-missing, first at {source}:2:1: ")


def test_member_names_from_the_data_are_shown_escaped(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"instruction": "写", "output": "好", "\\u001b]0;\\u202e\\n": 1}\n', encoding="utf-8")
    for option in ([], ["--json"]):
        arguments = [str(source), "--to", "messages", "--output", str(tmp_path / "out.parquet"), *option]
        result = CliRunner().invoke(APP, arguments, standalone_mode=False)
        assert "u202e" in result.output
        assert not set("\x1b\u202e") & set(result.output)
