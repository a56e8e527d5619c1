import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from yayi_data.cli import app
from yayi_data.diff.match import Keys, match
from yayi_data.errors import YayiError
from yayi_data.manifest import file_facts, load
from yayi_data.manifest import write as write_manifest
from yayi_data.pipeline import PackOptions, pack

TINY = Path(__file__).resolve().parents[2] / "data" / "tiny"


def record(asked: str, answered: str = "好的", **more: Any) -> dict[str, Any]:
    return {"instruction": asked, "input": "", "output": answered, **more}


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in records))
    return path


def packed(folder: Path, *records: dict[str, Any], **options: Any) -> Path:
    folder.mkdir()
    source = write(folder / "a.jsonl", *records)
    pack(PackOptions((str(source),), str(TINY), folder / "out", **options))
    return folder / "out"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(
        app, ["diff", *map(str, arguments)], standalone_mode=False, catch_exceptions=False
    )


def as_json(a: Path, b: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(a, b, "--json").stdout)
    return found


def test_files_differ_by_what_their_records_say(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", record("同"), record("【金融领域任务】改"), record("去"))
    b = write(tmp_path / "b.jsonl", record("【金融领域任务】改", "别的"), record("来"), record("同"))
    found = as_json(a, b)
    assert found["records"] == {"same": 1, "changed": 1, "removed": 1, "added": 1}
    assert not found["same"]
    assert found["domains"]["金融风控"] == {
        "a": {"records": 1, "characters": 11},
        "b": {"records": 1, "characters": 11},
    }
    places = [(e["kind"], (e["a"] or {}).get("line"), (e["b"] or {}).get("line")) for e in found["examples"]]
    assert places == [("changed", 2, 1), ("removed", 3, None), ("added", None, 2)]
    assert run(a, b).return_value == 1


def test_dialect_layout_and_compression_are_no_difference(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", record("一"), record("二"))
    b = tmp_path / "b.json"
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": "好的"}] for q in "一二"]
    b.write_text(json.dumps([{"messages": said} for said in turns], indent=1), encoding="utf-8")
    assert as_json(a, b)["same"]
    assert run(a, b).return_value == 0


@pytest.mark.parametrize("more", [{"system": "x"}, {"history": [["a", "b"]]}])
def test_what_the_model_would_see_otherwise_is_a_difference(more: dict[str, Any], tmp_path: Path) -> None:
    found = as_json(
        write(tmp_path / "a.jsonl", record("一")), write(tmp_path / "b.jsonl", record("一", **more))
    )
    assert found["records"]["same"] == 0


def test_another_order_is_a_difference(tmp_path: Path) -> None:
    a, b = (
        write(tmp_path / name, *map(record, said))
        for name, said in (("a.jsonl", "一二"), ("b.jsonl", "二一"))
    )
    found = as_json(a, b)
    assert found["reordered"]
    assert not found["same"]


def test_records_with_errors_are_compared_by_their_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_bytes(orjson.dumps(record("一")) + b"\n{oops\n{1\n")
    b.write_bytes(orjson.dumps(record("一")) + b"\n{oops\n{2\n")
    assert as_json(a, b)["records"] == {"same": 2, "changed": 0, "removed": 1, "added": 1}
    for path in (a, b):
        path.write_bytes(b"")
    assert as_json(a, b)["same"]


def test_broken_records_of_arrays_are_not_called_the_same(tmp_path: Path) -> None:
    for name, broken in (("a.json", '{"instruction":"BROKEN ONE", oops}'), ("b.json", '{"instruction": zz}')):
        (tmp_path / name).write_bytes(
            b"[\n" + orjson.dumps(record("一")) + b",\n" + broken.encode() + b"\n]\n"
        )
    shown = run(tmp_path / "a.json", tmp_path / "b.json")
    assert shown.return_value == 1
    assert "The same:" not in shown.stdout


def test_text_around_an_array_is_not_passed_over_but_a_byte_order_mark_is(tmp_path: Path) -> None:
    array = b"[" + orjson.dumps(record("一")) + b"]"
    for name, data in (("a", array), ("bom", b"\xef\xbb\xbf" + array), ("more", array + b" more")):
        (tmp_path / f"{name}.json").write_bytes(data)
    assert as_json(tmp_path / "a.json", tmp_path / "bom.json")["same"]
    found = as_json(tmp_path / "a.json", tmp_path / "more.json")
    assert (found["same"], found["uncompared"]) == (False, {"a": 0, "b": 1})


def test_equal_folders_are_the_same(tmp_path: Path) -> None:
    a, b = (packed(tmp_path / name, record("一"), record("二")) for name in "ab")
    assert run(a, b).return_value == 0
    assert as_json(a, b)["rows"]["same"] == 2


def test_rows_added_and_removed_are_found_wherever_they_stand(tmp_path: Path) -> None:
    a = packed(tmp_path / "a", record("一"), record("二"), record("三"))
    b = packed(tmp_path / "b", record("零"), record("二"), record("三", "改了"), record("四"))
    found = as_json(a, b)
    assert found["rows"] == {
        "same": 1,
        "remasked": 0,
        "rerendered": 0,
        "changed": 2,
        "removed": 0,
        "added": 1,
    }
    assert [fact["name"] for fact in found["facts"]] == ["source a.jsonl"]


def test_another_template_renders_the_same_records_again(tmp_path: Path) -> None:
    a = packed(tmp_path / "a", record("一"), record("二"))
    b = packed(tmp_path / "b", record("一"), record("二"), template="yayi2")
    found = as_json(a, b)
    assert found["rows"]["rerendered"] == 2
    assert {"template name", "tokenizer control_ids"} <= {fact["name"] for fact in found["facts"]}
    example = found["examples"][0]
    assert (example["a"]["line"], example["b"]["line"]) == (1, 1)
    assert example["figures"]["tokens"][0] != example["figures"]["tokens"][1]


def test_of_a_table_only_what_differs_is_shown_a_line_each(tmp_path: Path) -> None:
    a = packed(tmp_path / "a", record("一"))
    b = packed(tmp_path / "b", record("一"), template="yayi2")
    page = run(a, b).stdout
    assert re.search(r"^tokenizer control_ids <\|End\|> +\d+ +– *$", page, re.MULTILINE)
    assert "{'" not in page


def test_a_narrow_page_breaks_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    a = packed(tmp_path / "a", record("一"))
    b = packed(tmp_path / "b", record("一"), template="yayi2")
    assert "\ntemplate name\n  yayi → yayi2\n" in run(a, b).stdout


def test_another_mask_on_the_same_ids_is_told(tmp_path: Path) -> None:
    records = [record("一", history=[["a", "b"]]), record("二")]
    a, b = (packed(tmp_path / name, *records, train_on=on) for name, on in (("a", "all"), ("b", "last")))
    found = as_json(a, b)
    assert found["rows"] == {
        "same": 1,
        "remasked": 1,
        "rerendered": 0,
        "changed": 0,
        "removed": 0,
        "added": 0,
    }
    assert {"name": "option train_on", "a": "all", "b": "last"} in found["facts"]
    assert found["domains"]["general"]["a"]["tokens"] == found["domains"]["general"]["b"]["tokens"]


def test_text_has_the_places_and_nothing_hostile(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", record("同"), record("[red]\x1b[31m\u202e"))
    b = write(tmp_path / "b.jsonl", record("同"))
    shown = run(a, b).stdout
    assert f"{a}:2" in shown
    assert "[red]\\x1b[31m\\u202e" in shown
    assert not {"\x1b", "\u202e"} & set(shown)


def test_examples_are_bounded(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", *(record(str(i)) for i in range(20)))
    b = write(tmp_path / "b.jsonl", record("x"))
    assert "removed (20, 3 shown)" in run(a, b, "--max-examples", 3).stdout


def test_a_folder_and_a_file_are_not_compared(tmp_path: Path) -> None:
    folder = packed(tmp_path / "a", record("一"))
    with pytest.raises(YayiError, match="compare two of a kind"):
        run(folder, write(tmp_path / "b.jsonl", record("一")))
    with pytest.raises(YayiError, match=r"nope\.jsonl: no such file"):
        run(folder, tmp_path / "nope.jsonl")


def repacked(folder: Path, **changes: Any) -> None:
    """Write the manifest of a folder anew, its digest included, with other facts."""
    manifest = load(folder)
    files = [file_facts(folder, file.path) for file in manifest.files]
    write_manifest(folder, replace(manifest, **({"files": files} | changes)))


@pytest.mark.parametrize("name", ["tokenizer/tokenizer_config.json", "dropped.jsonl"])
def test_another_file_beside_the_same_rows_is_a_difference(name: str, tmp_path: Path) -> None:
    a, b = (packed(tmp_path / name, record("一")) for name in "ab")
    (b / name).write_bytes((b / name).read_bytes() + b"\n")
    with pytest.raises(YayiError, match="the manifest says") as raised:
        run(a, b)
    assert raised.value.exit_code == 2
    repacked(b)
    assert [fact["name"] for fact in as_json(a, b)["facts"]] == [f"file {name}"]


def test_folders_of_other_digests_are_never_the_same(tmp_path: Path) -> None:
    a, b = (packed(tmp_path / name, record("一")) for name in "ab")
    sources = [replace(source, bytes=source.bytes + 1) for source in load(b).sources]
    repacked(b, sources=sources)
    assert [fact["name"] for fact in as_json(a, b)["facts"]] == ["digest of the manifest"]


@pytest.mark.parametrize("changes", [{"sources": []}, {"shards": []}, {"tokens": 0}])
def test_a_manifest_that_does_not_add_up_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    a, b = (packed(tmp_path / name, record("一")) for name in "ab")
    repacked(b, **changes)
    with pytest.raises(YayiError, match="pack the data again"):
        run(a, b)


def test_json_steers_no_terminal_and_loses_nothing(tmp_path: Path) -> None:
    hostile = "\x7f\x9b31m\u202e\U000e0049"
    a, b = (
        write(tmp_path / "a.jsonl", record("一"), record(hostile)),
        write(tmp_path / "b.jsonl", record("一")),
    )
    shown = run(a, b, "--json").stdout
    assert not set(hostile) & set(shown) - set("31m")
    assert hostile in json.loads(shown)["examples"][0]["texts"][0]


def test_a_damaged_folder_is_not_called_different(tmp_path: Path) -> None:
    a, b = (packed(tmp_path / name, record("一")) for name in "ab")
    (b / "manifest.json").write_bytes(b"{}")
    with pytest.raises(YayiError) as raised:
        run(a, b)
    assert raised.value.exit_code == 2


HASHES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12)


def keys(entries: list[tuple[int, int]]) -> Keys:
    columns = np.array([(content, other) for content, other in entries], np.uint64).reshape(-1, 2)
    return Keys(columns[:, 0], columns[:, 1])


@given(HASHES, HASHES)
def test_every_entry_is_matched_once_or_left(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    found = match(keys(a), keys(b))
    pairs = np.concatenate([found.same, found.changed])
    assert sorted([*pairs[:, 0], *found.removed]) == list(range(len(a)))
    assert sorted([*pairs[:, 1], *found.added]) == list(range(len(b)))
    assert all(a[i][0] == b[j][0] for i, j in found.same)
    assert all(a[i][1] == b[j][1] for i, j in found.changed)
    assert not {a[i][0] for i in found.removed} & {b[j][0] for j in found.added}
    assert not {a[i][1] for i in found.removed} & {b[j][1] for j in found.added}
