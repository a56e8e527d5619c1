"""A packed folder leaves for other programs with every token and label it had."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from yayi_data.cli import app
from yayi_data.errors import DataError, YayiError
from yayi_data.export import export
from yayi_data.pipeline import PackOptions, pack

DATA = Path(__file__).resolve().parents[2] / "data"
Value = dict[str, Any]
CALLING = {
    "conversations": [
        {"from": "human", "value": "【媒宣领域任务】天气"},
        {"from": "function_call", "value": '{"name": "w", "arguments": {"n": 1.50}}'},
        {"from": "observation", "value": "晴\n"},
        {"from": "gpt", "value": " 晴天"},
        {"from": "human", "value": "谢谢"},
        {"from": "gpt", "value": "不客气", "train": False},
    ],
    "tools": '[{"name": "w"}]',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "packed"
    sources = tuple(str(path) for path in sorted(DATA.glob("*.json")))
    pack(PackOptions(sources, str(DATA / "tiny"), output, workers=1))
    return output


def pack_records(records: list[Value], output: Path, template: str = "yayi") -> Path:
    source = output.with_suffix(".jsonl")
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    pack(PackOptions((str(source),), str(DATA / "tiny"), output, template=template, workers=1))
    return output


def test_labels_are_the_ids_where_the_mask_is_true(folder: Path, tmp_path: Path) -> None:
    export(folder, "labels", tmp_path / "labels")
    rows, labelled = (datasets.load_from_disk(str(path)) for path in (folder, tmp_path / "labels"))
    assert labelled.column_names == ["input_ids", "labels"]
    assert labelled["input_ids"][:] == rows["input_ids"][:]
    for row, labels in zip(rows, labelled["labels"], strict=True):
        assert labels == np.where(row["assistant_masks"], row["input_ids"], -100).tolist()


def test_parquet_holds_the_columns_of_the_shards(folder: Path, tmp_path: Path) -> None:
    export(folder, "parquet", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == datasets.load_from_disk(str(folder))[:]


@pytest.mark.parametrize("template", ["yayi", "qwen"])
def test_messages_pack_to_the_same_rows_again(template: str, tmp_path: Path) -> None:
    records = [CALLING, {"conversations": CALLING["conversations"][4:5] + CALLING["conversations"][3:4]}]
    first = pack_records(records, tmp_path / "a", template)
    exported = export(first, "messages", tmp_path / "a.messages.jsonl")
    assert (exported.rows, exported.again, exported.dropped) == (2, 2, {})
    written = [json.loads(line) for line in (tmp_path / "a.messages.jsonl").read_text().splitlines()]
    again = pack_records(written, tmp_path / "b", template)
    columns = ["input_ids", "assistant_masks", "domain"]
    assert [datasets.load_from_disk(str(path)).select_columns(columns)[:] for path in (first, again)][
        ::-1
    ] == [datasets.load_from_disk(str(first)).select_columns(columns)[:]] * 2


def test_messages_of_a_template_that_marks_calls_hold_the_calls(tmp_path: Path) -> None:
    export(pack_records([CALLING], tmp_path / "a", "qwen"), "messages", tmp_path / "a.json")
    (record,) = json.loads((tmp_path / "a.json").read_text())
    assert record["tools"] == [{"type": "function", "function": {"name": "w"}}]
    assert record["messages"][1]["tool_calls"][0]["function"] == {"name": "w", "arguments": '{"n": 1.50}'}
    assert record["messages"][-1] == {"role": "assistant", "content": "不客气", "weight": 0}


def test_a_call_that_messages_cannot_hold_is_dropped_and_counted(tmp_path: Path) -> None:
    turns = [
        {"from": "function_call", "value": "w(1)"} if t["from"] == "function_call" else t
        for t in CALLING["conversations"]
    ]
    source = pack_records([CALLING, {"conversations": turns}], tmp_path / "a", "qwen")
    exported = export(source, "messages", tmp_path / "a.json")
    assert (exported.rows, exported.dropped) == (1, {"tool-call": 1})


def test_wrong_use_writes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for form, output, message in [
        ("labels", tmp_path / "there", "exists already"),
        ("parquet", tmp_path / "a.jsonl", "must end in .parquet"),
        ("messages", tmp_path / "a.txt", "must end in .jsonl or .json or .parquet"),
        ("messages", folder / "a.jsonl", "lies in the packed folder"),
        ("labels", folder, "exists already"),
    ]:
        with pytest.raises(YayiError, match=message):
            export(folder, form, output)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_shard_that_was_changed_is_not_exported(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    content = bytearray((copy / "data-00001.arrow").read_bytes())
    content[-100] ^= 1
    (copy / "data-00001.arrow").write_bytes(content)
    for form, name in (("labels", "labels"), ("parquet", "a.parquet")):
        with pytest.raises(DataError, match=r"data-00001\.arrow: has the sha256"):
            export(copy, form, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("flags", [[], ["--labels", "--parquet"]])
def test_exactly_one_form_is_asked_for(flags: list[str], folder: Path, tmp_path: Path) -> None:
    arguments = ["export", str(folder), *flags, "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert "exactly one of --labels, --parquet and --messages" in str(result.exception)


def test_the_command_says_what_it_wrote(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["export", str(folder), "--messages", "--output", str(output)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{output}: 120 conversations as messages\n"
