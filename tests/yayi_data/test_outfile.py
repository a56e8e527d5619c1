import re
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from yayi_data.cli import app
from yayi_data.errors import YayiError
from yayi_data.outfile import refuse_output

TINY = Path(__file__).parents[2] / "data" / "tiny"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an input, a packed folder, and another tool's folder."""
    monkeypatch.chdir(tmp_path)
    for name, manifest in (("packed", {"format": "yayi-packed"}), ("web", {"name": "site"})):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_bytes(orjson.dumps(manifest))
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps({"instruction": "问", "output": "答"}))
    (tmp_path / "link").symlink_to("packed")
    (tmp_path / "same.jsonl").symlink_to("a.jsonl")
    return tmp_path


@pytest.mark.parametrize("output", ["new.jsonl", "web/new.jsonl", "web/deep/new.jsonl", "/dev/null"])
def test_a_free_place_is_taken(output: str, place: Path) -> None:
    refuse_output(Path(output), ["a.jsonl", "-", "s3://bucket/a.jsonl", ""])


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("web", "web: is a folder"),
        ("a.jsonl", "a.jsonl: is an input too"),
        ("same.jsonl", "same.jsonl: is an input too"),
        ("packed/new.jsonl", "packed/new.jsonl: lies in the packed folder packed"),
        ("packed/deep/new.jsonl", "lies in the packed folder packed"),
        ("packed/manifest.json", "lies in the packed folder packed"),
        ("link/new.jsonl", "lies in the packed folder packed"),
    ],
)
def test_a_place_that_is_taken_is_refused(output: str, told: str, place: Path) -> None:
    with pytest.raises(YayiError, match=re.escape(told)):
        refuse_output(Path(output), ["a.jsonl"])


@pytest.mark.parametrize(
    "command",
    [
        "dedup a.jsonl --output packed/kept.jsonl",
        "dedup a.jsonl --report --output packed/ledger",
        "convert a.jsonl --to messages --output packed/a.jsonl",
        "validate a.jsonl --output packed/problems.json",
        f"pack a.jsonl --tokenizer {TINY} --output packed/more",
        f"pack a.jsonl --tokenizer {TINY} --output packed/more --partition 0/2",
    ],
)
def test_no_command_writes_into_a_packed_folder(command: str, place: Path) -> None:
    with pytest.raises(YayiError, match="lies in the packed folder"):
        CliRunner().invoke(app, command.split(), standalone_mode=False, catch_exceptions=False)
    assert sorted(path.name for path in (place / "packed").iterdir()) == ["deep", "manifest.json"]
