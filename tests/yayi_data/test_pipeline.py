"""Pack as a whole, in-process: what goes in is accounted for, and what comes out is the same however it is run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from yayi_data import pipeline
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import load
from yayi_data.output import going_on_later
from yayi_data.parts import merge
from yayi_data.pipeline import Packed, PackOptions, pack
from yayi_data.verify import verify


def record(number: int, **members: object) -> dict[str, object]:
    return {"instruction": f"【媒宣领域任务】第{number}题", "input": "", "output": f"答案{number}", **members}


def lines(path: Path, records: list[object]) -> str:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records), encoding="utf-8")
    return str(path)


def packed(folder: Path, source: str, tokenizer: Path, **options: object) -> Packed:
    return pack(PackOptions(paths=(source,), tokenizer=str(tokenizer), output=folder, **options))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_record_is_a_row_or_a_drop_with_its_line(tmp_path: Path, byte_level: Path) -> None:
    source = lines(
        tmp_path / "a.jsonl", [record(1), {"instruction": "x"}, record(3, output="长" * 500), record(4)]
    )
    result = packed(tmp_path / "out", source, byte_level, on_problem="drop", max_length=400)
    assert result.manifest.ledger.read == 4
    assert result.manifest.ledger.kept == result.manifest.rows == 2
    drops = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [(drop["path"], drop["line"], drop["record"]) for drop in drops] == [
        ("a.jsonl", 2, 1),
        ("a.jsonl", 3, 2),
    ]
    assert drops[1]["reason"] == "too-long"
    assert sum(result.manifest.ledger.dropped.values()) == 2


def test_the_folder_is_whole_and_opens_in_datasets(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(10)])
    result = packed(tmp_path / "out", source, byte_level)
    assert verify(tmp_path / "out") == []
    rows = datasets.load_from_disk(str(tmp_path / "out"))
    assert len(rows) == 10
    assert rows[3]["source_line"] == 4
    assert rows[3]["domain"] == "媒体宣传"
    assert sum(map(sum, rows["assistant_masks"])) == result.manifest.supervised_tokens
    assert load(tmp_path / "out") == result.manifest
    assert not list(tmp_path.glob("out.partial*"))


def test_an_exact_fit_stays(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1)])
    length = packed(tmp_path / "a", source, byte_level).manifest.tokens
    assert packed(tmp_path / "b", source, byte_level, max_length=length).manifest.rows == 1
    with pytest.raises(DataError, match=r"left of 1 \(dropped: too-long 1\).*; --max-length allows"):
        packed(tmp_path / "c", source, byte_level, max_length=length - 1)


def test_a_bad_record_fails_the_run_by_default_and_leaves_nothing(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1), {"instruction": "x", "output": 3}])
    with pytest.raises(DataError, match=r"a\.jsonl:2:\d+: .* --on-problem drop"):
        packed(tmp_path / "out", source, byte_level)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("kept", [True, False])
def test_who_interrupts_is_told_that_the_work_is_kept(
    kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "out.partial"
    if kept:
        partial.mkdir()
    with pytest.raises(KeyboardInterrupt), going_on_later(tmp_path / "out"):
        raise KeyboardInterrupt
    told = f"what is packed stays in {partial}: the same command goes on from there\n"
    assert capsys.readouterr().err == (told if kept else "")


def test_too_many_drops_fail_the_run(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(9)] + [{"instruction": "x"}])
    packed(tmp_path / "a", source, byte_level, on_problem="drop", max_drop=0.1)
    with pytest.raises(DataError, match=r"1 of 10 records \(10.00%\) were dropped"):
        packed(tmp_path / "b", source, byte_level, on_problem="drop", max_drop=0.09)


def test_another_tokenizer_makes_another_folder_never_a_stale_one(
    tmp_path: Path, byte_level: Path, llama_style: Path
) -> None:
    """Upstream loads the cache beside the data whatever tokenizer made it."""
    source = lines(tmp_path / "a.jsonl", [record(1)])
    first = packed(tmp_path / "out", source, byte_level)
    with pytest.raises(YayiError, match="exists already"):
        packed(tmp_path / "out", source, llama_style)
    second = packed(tmp_path / "out", source, llama_style, overwrite=True)
    assert first.manifest.tokenizer.fingerprint != second.manifest.tokenizer.fingerprint
    assert verify(tmp_path / "out") == []


def test_overwrite_replaces_only_what_pack_wrote(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(YayiError, match="not ours to replace"):
        packed(tmp_path / "mine", source, byte_level, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_a_partial_folder_of_another_run_is_refused(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1)])
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(YayiError, match="was left by a run with other inputs or options"):
        packed(tmp_path / "out", source, byte_level)


def test_a_limit_takes_the_first_records(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(10)])
    assert packed(tmp_path / "out", source, byte_level, limit=3).manifest.ledger.read == 3


def appended(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record(99)) + "\n")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def rewritten(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("答案3", "答案4"), encoding="utf-8")


def quietly_shortened(path: Path) -> None:
    """Take a record's place by a space of its size, and leave the file's time as it was."""
    times = path.stat()
    records = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(records[:-1]) + b" " * (len(records[-1]) - 1) + b"\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [appended, cut_off, rewritten, quietly_shortened, Path.unlink])
def test_an_input_that_changes_meanwhile_fails_the_run(
    change: Callable[[Path], None], tmp_path: Path, byte_level: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(9)])
    scan = pipeline.prepare

    def then_change(*arguments: Any) -> pipeline.Prepared:
        prepared = scan(*arguments)
        change(tmp_path / "a.jsonl")
        return prepared

    monkeypatch.setattr(pipeline, "prepare", then_change)
    with pytest.raises(
        (DataError, YayiError), match=r"a\.jsonl: (changed while it was read|cannot be opened)"
    ):
        packed(tmp_path / "out", source, byte_level)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", ["notes.txt", "tokenizer/notes.txt", "deep/a.jsonl"])
def test_overwrite_refuses_a_folder_with_other_files(name: str, tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1)])
    packed(tmp_path / "out", source, byte_level)
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(YayiError, match=f"out: holds {name}, which pack did not write"):
        packed(tmp_path / "out", source, byte_level, overwrite=True)
    assert contents(tmp_path) == before


def test_an_input_in_the_output_is_refused(tmp_path: Path, byte_level: Path) -> None:
    packed(tmp_path / "out", lines(tmp_path / "a.jsonl", [record(1)]), byte_level)
    before = contents(tmp_path)
    with pytest.raises(YayiError, match="is an input and lies in the output"):
        packed(tmp_path / "out", str(tmp_path / "out" / "data-00000.arrow"), byte_level, overwrite=True)
    assert contents(tmp_path) == before


def test_an_output_in_a_folder_of_inputs_is_refused(tmp_path: Path, byte_level: Path) -> None:
    lines(tmp_path / "a.jsonl", [record(1)])
    with pytest.raises(YayiError, match=r"out: lies in .*, which is an input"):
        packed(tmp_path / "out", str(tmp_path), byte_level)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_folder_that_is_called_like_a_replaced_one_is_kept(
    kind: str, tmp_path: Path, byte_level: Path
) -> None:
    source = lines(tmp_path / "a.jsonl", [record(1)])
    packed(tmp_path / "other", source, byte_level)
    mine = tmp_path / "out.replaced"
    if kind == "folder":
        lines(tmp_path / "other" / "mine.jsonl", [record(2)])
        (tmp_path / "other").rename(mine)
    elif kind == "file":
        mine.write_text("mine")
    else:
        mine.symlink_to(tmp_path / "other")
    before = contents(tmp_path)
    with pytest.raises(YayiError, match=r"out\.replaced: (is a link, or )?holds"):
        packed(tmp_path / "out", source, byte_level)
    assert contents(tmp_path) == before


def test_a_link_is_followed_to_the_folder_that_is_replaced(tmp_path: Path, byte_level: Path) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(3)])
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    for limit in (1, 2):
        packed(tmp_path / "link", source, byte_level, limit=limit, overwrite=limit > 1)
        assert load(tmp_path / "disk" / "out").rows == limit
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("out*")) == ["out"]


def test_the_top_of_the_filesystem_is_no_output(tmp_path: Path, byte_level: Path) -> None:
    with pytest.raises(YayiError, match="is the top of the filesystem"):
        packed(Path("/"), lines(tmp_path / "a.jsonl", [record(1)]), byte_level, overwrite=True)


@pytest.mark.parametrize("name", [".", ".."])
def test_an_output_without_a_name_is_the_folder_it_means(
    name: str, tmp_path: Path, byte_level: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(tmp_path / "a.jsonl", [record(n) for n in range(3)])
    packed(tmp_path / "out", source, byte_level)
    monkeypatch.chdir(tmp_path / "out" / ("tokenizer" if name == ".." else "."))
    with pytest.raises(YayiError, match="exists already"):
        packed(Path(name), source, byte_level)
    with pytest.raises(YayiError, match="out is packed already"):
        merge(Path(name))
    packed(Path(name), source, byte_level, limit=2, overwrite=True)
    assert load(tmp_path / "out").rows == 2
