"""What inspect shows of packed folders and raw files."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from yayi_data.cli import app
from yayi_data.console import UNSAFE
from yayi_data.errors import YayiError
from yayi_data.inspect import InspectOptions, inspect
from yayi_data.pipeline import PackOptions, pack


def record(number: int) -> dict[str, str]:
    return {"instruction": f"【媒宣领域任务】第{number}题\x1b[31m", "output": "答" * number}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record(n)) for n in range(1, 11)]
    path.write_text("\n".join([*lines, '{"instruction": "x"}', json.dumps(record(900))]) + "\n")
    return path


@pytest.fixture
def folder(source: Path, byte_level: Path, tmp_path: Path) -> str:
    output = tmp_path / "out"
    pack(PackOptions((str(source),), str(byte_level), output, on_problem="drop"))
    return str(output)


def shown(capsys: pytest.CaptureFixture[str], path: str, options: InspectOptions) -> str:
    inspect(path, options)
    return capsys.readouterr().out


def test_the_figures_of_a_folder_add_up(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = json.loads(shown(capsys, folder, InspectOptions(as_json=True, seq_len=1000)))
    assert figures["ledger"] == {
        "read": 12,
        "kept": 10,
        "dropped": {"schema-missing": 1, "too-long": 1},
        "truncated": 0,
    }
    lengths, packing = figures["lengths"], figures["packing"]
    assert lengths["min"] <= lengths["median"] <= lengths["p95"] <= lengths["max"]
    assert packing["utilisation"] == pytest.approx(figures["tokens"] / (packing["rows"] * 1000), abs=1e-4)


def test_the_histogram_counts_every_row_once(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    bars = re.findall(r"^ +(\d+) – (\d+) .*?(\d+)$", shown(capsys, folder, InspectOptions()), re.MULTILINE)
    assert sum(int(count) for _, _, count in bars) == 10
    borders = [(int(low), int(high)) for low, high, _ in bars]
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(borders))


@pytest.mark.parametrize("width", ["40", "60", "200"])
def test_bars_fit_the_terminal(
    width: str, folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    bars = [line for line in shown(capsys, folder, InspectOptions()).splitlines() if "█" in line]
    assert bars
    assert max(map(len, bars)) <= int(width)


def test_a_row_is_shown_with_its_source_and_marked_without_colour(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, folder, InspectOptions(row=2))
    assert out.startswith("row 2 · a.jsonl:3 · 媒体宣传 · ")
    assert "⟦答答答\n\n<|End|>⟧" in out
    assert "第3题\\x1b[31m" in out


def test_the_mask_is_marked_on_a_terminal_without_colour(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "⟦" not in shown(capsys, folder, InspectOptions(row=2))
    monkeypatch.setenv("NO_COLOR", "1")
    out = re.sub("\x1b\\[[0-9;]*m", "", shown(capsys, folder, InspectOptions(row=2)))
    assert "⟦答答答\n\n<|End|>⟧" in out


def test_a_narrow_terminal_keeps_every_figure(
    source: Path,
    byte_level: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.write_text(json.dumps({"instruction": f"【{'长' * 32}】题", "output": "答" * 600}) + "\n")
    pack(PackOptions((str(source),), str(byte_level), tmp_path / "long"))
    monkeypatch.setenv("COLUMNS", "40")
    out = shown(capsys, str(tmp_path / "long"), InspectOptions())
    table = out[out.index("domain ") : out.index("Lengths")]
    assert "…" not in table
    assert table.count("长") == 32
    assert max(cell_len(line) for line in table.splitlines()) <= 40


def test_borders_stand_between_tokens(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = shown(capsys, folder, InspectOptions(row=0))
    assert shown(capsys, folder, InspectOptions(row=0, borders=True)).replace("│", "") == plain


def test_a_row_as_json_has_ids_tokens_and_texts(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(shown(capsys, folder, InspectOptions(source="a.jsonl:4", as_json=True)))
    assert (row["row"], row["source"]) == (3, {"path": "a.jsonl", "line": 4})
    assert len(row["input_ids"]) == len(row["assistant_masks"]) == len(row["tokens"])
    assert row["supervised_text"] == ["答答答答\n\n<|End|>"]
    assert row["text"].endswith("<|YaYi|>:\n答答答答\n\n<|End|>")


def test_a_row_as_json_steers_no_terminal(
    byte_level: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x7f\x9b\u202e"
    source = tmp_path / "h.jsonl"
    source.write_text(json.dumps({"instruction": hostile, "output": "x"}) + "\n")
    pack(PackOptions((str(source),), str(byte_level), tmp_path / "hostile"))
    written = shown(capsys, str(tmp_path / "hostile"), InspectOptions(row=0, as_json=True))
    assert not set(hostile) & set(written)
    assert hostile in json.loads(written)["text"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (InspectOptions(row=10), "there are 10 rows, the last is 9"),
        (InspectOptions(source="a.jsonl:11"), "its record was dropped: schema-missing"),
        (InspectOptions(source="a.jsonl:99"), "no record starts at that line"),
        (InspectOptions(source="b.jsonl:1"), "no source is called b.jsonl; name one of a.jsonl"),
        (InspectOptions(source="a.jsonl"), "expected FILE:LINE"),
    ],
)
def test_a_row_that_is_not_there_is_explained(folder: str, options: InspectOptions, told: str) -> None:
    with pytest.raises(YayiError, match=re.escape(told)):
        inspect(folder, options)


def test_sources_whose_files_have_the_same_name_are_told_apart(tmp_path: Path, byte_level: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        record = {"instruction": name, "output": name}
        (tmp_path / name / "x.jsonl").write_text(json.dumps(record) + "\n")
    paths = tuple(str(tmp_path / name / "x.jsonl") for name in "ab")
    packed = pack(PackOptions(paths, str(byte_level), tmp_path / "packed"))
    inspect(str(packed.output), InspectOptions(source="b/x.jsonl:1"))
    with pytest.raises(YayiError, match=r"several sources are called x\.jsonl; name one of a/x\.jsonl, b/x"):
        inspect(str(packed.output), InspectOptions(source="x.jsonl:1"))


def test_raw_files_show_what_pack_would_do(
    source: Path, byte_level: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(str(source), InspectOptions(tokenizer=str(byte_level)))
    out, talk = capsys.readouterr()
    assert out.startswith(f"{source}, as pack would write it: 10 conversations")
    assert "dropped 2 of 12 records (schema-missing 1, too-long 1)" in talk
    assert "--on-long truncate" in talk
    assert [path.name for path in source.parent.iterdir()] == ["a.jsonl"]


def test_a_hostile_domain_reaches_no_screen(tmp_path: Path, byte_level: Path) -> None:
    source = tmp_path / "x.jsonl"
    record = {"instruction": "【红\x9b31m\u202e】你好", "output": "你好"}
    source.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    arguments = [
        "pack",
        str(source),
        "--tokenizer",
        str(byte_level),
        "--output",
        str(tmp_path / "p"),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert list(json.loads(result.stdout)["domains"]) == ["红\x9b31m\u202e"]
    assert UNSAFE.search(result.stdout.removesuffix("\n")) is None


@pytest.mark.parametrize("options", [InspectOptions(tokenizer="x"), InspectOptions(template="chatml")])
def test_what_is_packed_is_not_packed_again(folder: str, options: InspectOptions) -> None:
    with pytest.raises(YayiError, match="is packed already: leave out --tokenizer and --template"):
        inspect(folder, options)
