"""Parquet files, saved datasets and dataset repositories are read like the JSON Lines of their rows."""

import json
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest

from yayi_data.checking import ValidateOptions, validate_paths
from yayi_data.converting import ConvertOptions, convert_files
from yayi_data.errors import DataError, YayiError
from yayi_data.pipeline import PackOptions, pack
from yayi_data.read import open_sources

DATA = Path(__file__).resolve().parents[2] / "data"
Value = dict[str, Any]
RECORDS: list[Value] = [
    {"instruction": f"【媒宣领域任务】写第{i}条\n“新闻”", "output": f"好的 {i}。\n"}
    | ({"system": "你是记者。"} if i % 2 else {})
    for i in range(2500)
]
CALLING: Value = {
    "messages": [
        {"role": "user", "content": "天气"},
        {
            "role": "assistant",
            "tool_calls": [{"type": "function", "function": {"name": "w", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "晴"},
        {"role": "assistant", "content": "晴天", "weight": 0},
    ]
}


def lines(path: Path, records: list[Value] = RECORDS) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def parquet(path: Path, records: list[Value] = RECORDS) -> str:
    names = dict.fromkeys(name for record in records for name in record)
    rows = [{name: record.get(name) for name in names} for record in records]
    datasets.Dataset.from_list(rows).to_parquet(path, batch_size=1000)
    return str(path)


def converted(source: str, to: str, output: Path) -> str:
    convert_files(ConvertOptions((source,), to, output))
    return str(output)


def packed(source: str, output: Path) -> datasets.Dataset:
    pack(PackOptions((source,), str(DATA / "tiny"), output, workers=1))
    return datasets.load_from_disk(str(output))


def test_a_table_packs_to_the_rows_of_its_lines(tmp_path: Path) -> None:
    ours = packed(parquet(tmp_path / "a.parquet"), tmp_path / "a")
    assert ours[:] == packed(lines(tmp_path / "b.jsonl"), tmp_path / "b")[:]
    assert ours["source_line"][-1] == len(RECORDS)


@pytest.mark.parametrize("dialect", ["alpaca", "multi-turn", "sharegpt", "messages"])
def test_what_convert_writes_as_parquet_it_reads_back(dialect: str, tmp_path: Path) -> None:
    there = converted(lines(tmp_path / "a.jsonl"), dialect, tmp_path / "b.parquet")
    back = converted(there, "alpaca", tmp_path / "c.jsonl")
    records = [json.loads(line) for line in Path(back).read_text().splitlines()]
    assert records == [record | {"input": ""} for record in RECORDS]


def test_members_that_are_null_in_a_row_are_absent_at_any_depth(tmp_path: Path) -> None:
    source = parquet(
        tmp_path / "a.parquet", [CALLING, {"messages": CALLING["messages"][:1] + CALLING["messages"][3:]}]
    )
    back = converted(source, "messages", tmp_path / "b.jsonl")
    first = json.loads(Path(back).read_text().splitlines()[0])
    assert [list(message) for message in first["messages"]] == [
        ["role", "content"],
        ["role", "content", "tool_calls"],
        ["role", "content", "tool_call_id"],
        ["role", "content", "weight"],
    ]


def test_a_problem_is_placed_at_its_row(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", [*RECORDS[:2], {"instruction": "问", "output": ""}])
    (problem,) = validate_paths(ValidateOptions((source,), workers=1)).problems
    assert (problem.line, problem.record, problem.pointer, problem.rule) == (3, 2, "/output", "schema-empty")


def test_a_saved_dataset_and_its_splits_are_read(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(RECORDS[:10])
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(tmp_path / "several")
    assert validate_paths(ValidateOptions((str(tmp_path / "one"),))).records == 10
    several = validate_paths(ValidateOptions((str(tmp_path / "several"),)))
    assert (several.records, len(several.files)) == (11, 2)


def test_a_list_of_a_saved_dataset_leads_nowhere_else(tmp_path: Path) -> None:
    lines(tmp_path / "secret.jsonl", RECORDS[:1])
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text('{"_data_files": [{"filename": "../secret.jsonl"}]}')
    with pytest.raises(YayiError, match="holds no"):
        open_sources([str(tmp_path / "saved")])


def test_the_data_files_of_a_repository_are_read(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    local = Path(parquet(tmp_path / "a.parquet", RECORDS[:3]))
    files.pipe(f"/datasets/{tmp_path.name}/data/train-00000.parquet", local.read_bytes())
    files.pipe(f"/datasets/{tmp_path.name}/test.jsonl", json.dumps(RECORDS[0]).encode())
    files.pipe(f"/datasets/{tmp_path.name}/README.md", b"# A card")
    url = f"memory://datasets/{tmp_path.name}"
    result = validate_paths(ValidateOptions((url,), ignore=("duplicate-record",)))
    assert (result.ok, result.records, len(result.files)) == (True, 4, 2)
    assert len(packed(url, tmp_path / "packed")) == 4


@pytest.mark.parametrize("on_problem", ["fail", "drop"])
def test_damage_in_a_table_is_a_problem_and_a_drop(on_problem: Any, tmp_path: Path) -> None:
    content = bytearray(Path(parquet(tmp_path / "a.parquet")).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    (tmp_path / "a.parquet").write_bytes(content)
    options = PackOptions(
        (str(tmp_path / "a.parquet"),), str(DATA / "tiny"), tmp_path / "out", on_problem=on_problem
    )
    if on_problem == "fail":
        with pytest.raises(DataError, match=r"a\.parquet:1001:1: compression"):
            pack(options)
    else:
        ledger = pack(options).manifest.ledger
        assert (ledger.read, ledger.kept, ledger.dropped) == (1001, 1000, {"compression": 1})


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet:1:1: compression the parquet file cannot be read"):
        converted(str(tmp_path / "a.parquet"), "alpaca", tmp_path / "out.jsonl")
