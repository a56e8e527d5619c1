"""A file and its conversion to any dialect give the same packed rows."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from yayi_data.converting import ConvertOptions, convert_files
from yayi_data.pipeline import PackOptions, pack
from yayi_data.types import DIALECTS

DATA = Path(__file__).resolve().parents[2] / "data"
COLUMNS = ["input_ids", "assistant_masks", "domain"]


def rows(source: Path, output: Path) -> dict[str, list[Any]]:
    pack(PackOptions((str(source),), str(DATA / "tiny"), output, workers=1))
    table: dict[str, list[Any]] = datasets.load_from_disk(str(output)).select_columns(COLUMNS)[:]
    return table


@pytest.mark.parametrize("to", DIALECTS)
@pytest.mark.parametrize("name", ["yayi_train_example.json", "yayi_train_example_multi_rounds.json"])
def test_packing_a_file_and_packing_its_conversion_is_the_same(name: str, to: str, tmp_path: Path) -> None:
    converted = tmp_path / "converted.jsonl"
    convert_files(ConvertOptions((str(DATA / name),), to, converted))
    assert rows(converted, tmp_path / "b") == rows(DATA / name, tmp_path / "a")
