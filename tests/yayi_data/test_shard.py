import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from yayi_data.errors import DataError
from yayi_data.manifest import load
from yayi_data.shard import Shard, Shards, write
from yayi_data.shard.columns import Rows
from yayi_data.shard.datasets import datasets_files
from yayi_data.shard.write import index_part, write_shard


def table_of(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_stream(file).read_all()


def test_rows_come_back_as_they_were_written(packed: Path, rows: Callable[..., Rows]) -> None:
    shards = Shards(packed, load(packed))
    for number, made in ((0, rows(30)), (2, rows(20, seed=1))):
        for i, (start, end) in enumerate(zip(made.offsets, made.offsets[1:], strict=False)):
            row = shards.row(number, i)
            assert row.ids.tolist() == made.ids[start:end].tolist()
            assert row.mask.tolist() == made.mask[start:end].tolist()
            assert (row.domain, row.source, row.line, row.record) == (made.domains[i], 0, i + 1, i)


def test_ids_are_views_of_the_file(packed: Path) -> None:
    row = Shards(packed, load(packed)).row(0, 3)
    assert not row.ids.flags.owndata
    assert not row.ids.flags.writeable


@pytest.mark.parametrize("row", [-1, 30])
def test_a_row_that_is_not_there_is_an_index_error(packed: Path, row: int) -> None:
    with pytest.raises(IndexError):
        Shards(packed, load(packed)).row(0, row)
    with pytest.raises(IndexError):
        Shards(packed, load(packed)).row(1, 0)


def test_the_columns_are_those_that_others_read(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    made = rows(3, source=4)
    write_shard(tmp_path / "x.arrow", [made])
    table = table_of(tmp_path / "x.arrow")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("input_ids", "list<item: int32>"),
        ("assistant_masks", "list<item: bool>"),
        ("supervised_tokens", "int32"),
        ("domain", "string"),
        ("source_file", "int32"),
        ("source_line", "int64"),
        ("source_record", "int64"),
    ]
    row = table.to_pylist()[2]
    assert row["supervised_tokens"] == sum(row["assistant_masks"])
    assert (row["domain"], row["source_file"], row["source_line"], row["source_record"]) == ("金融", 4, 3, 2)


def test_facts_are_of_the_file(packed: Path, tmp_path: Path, rows: Callable[..., Rows]) -> None:
    facts = write_shard(tmp_path / "data-00000.arrow", [rows(30)])
    assert facts == load(packed).shards[0]
    assert facts.bytes == (tmp_path / "data-00000.arrow").stat().st_size
    assert facts.tokens == len(rows(30).ids)
    assert facts.supervised_tokens == rows(30).mask.sum()


def test_rows_of_several_sources_keep_theirs(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    write_shard(tmp_path / "x.arrow", [rows(2, source=0), rows(3, source=7)])
    assert table_of(tmp_path / "x.arrow")["source_file"].to_pylist() == [0, 0, 7, 7, 7]


def test_batches_are_bounded_by_rows_and_by_tokens(
    tmp_path: Path, rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "BATCH_ROWS", 4)
    monkeypatch.setattr(write, "BATCH_TOKENS", 10)
    made = replace(
        rows(9),
        ids=np.arange(21, dtype=np.int32),
        mask=np.zeros(21, np.bool_),
        offsets=np.array([0, 1, 2, 3, 4, 5, 18, 19, 20, 21]),
    )
    write_shard(tmp_path / "x.arrow", [made])
    with pa.memory_map(str(tmp_path / "x.arrow")) as file:
        assert [batch.num_rows for batch in pa.ipc.open_stream(file)] == [4, 2, 3]


def test_a_writer_that_fails_leaves_no_shard(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    def batches() -> object:
        yield rows(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_shard(tmp_path / "x.arrow", batches())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_shard_has_no_rows(packed: Path) -> None:
    facts = load(packed).shards[1]
    assert (facts.rows, facts.tokens, facts.supervised_tokens) == (0, 0, 0)
    assert len(Shard(packed / facts.file, facts)) == 0


def test_sizes_are_checked_when_the_folder_opens(packed: Path) -> None:
    manifest = load(packed)
    with (packed / "data-00002.arrow").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        DataError, match=r"data-00002\.arrow: has \d+ bytes, the manifest says \d+; see `yayi-data verify"
    ):
        Shards(packed, manifest)
    (packed / "data-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00002\.arrow: cannot be read \(No such file"):
        Shards(packed, manifest)


def test_a_changed_shard_is_refused_before_its_first_row(packed: Path) -> None:
    data = bytearray((packed / "data-00002.arrow").read_bytes())
    data[-100] ^= 1
    (packed / "data-00002.arrow").write_bytes(data)
    shards = Shards(packed, load(packed))
    assert len(shards.row(0, 0).ids)
    with pytest.raises(DataError, match=r"data-00002\.arrow: has the sha256 \w+, the manifest says \w+; see"):
        shards.row(2, 0)


def test_a_shard_is_hashed_once(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("yayi_data.shard.refuse_changed", lambda path, *facts: calls.append(path.name))
    shards = Shards(packed, load(packed))
    for row in range(5):
        shards.row(0, row)
    assert calls == ["data-00000.arrow"]


def test_counts_that_the_manifest_contradicts_are_refused(packed: Path) -> None:
    facts = load(packed).shards[0]
    with pytest.raises(DataError, match="has 30 rows and"):
        Shard(packed / facts.file, replace(facts, rows=29))


def test_another_table_is_not_a_shard(tmp_path: Path, packed: Path) -> None:
    facts = load(packed).shards[0]
    with pytest.raises(DataError, match=r"is not a shard \(its columns are shard, row"):
        Shard(packed / "index.arrow", facts, checked=True)
    (tmp_path / "x").write_bytes(b"not arrow at all")
    with pytest.raises(DataError, match="is not a shard"):
        Shard(tmp_path / "x", facts, checked=True)


def test_the_part_of_the_index_waits_beside_the_shard(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    facts = write_shard(tmp_path / "x.arrow", [rows(5)])
    part = table_of(index_part(tmp_path / "x.arrow"))
    assert part["tokens"].to_pylist() == np.diff(rows(5).offsets).tolist()
    again = Shard(tmp_path / "x.arrow", facts).index_part()
    assert again["content_hash"].to_pylist() == part["content_hash"].to_pylist()


def test_datasets_opens_the_folder(packed: Path, rows: Callable[..., Rows]) -> None:
    datasets = pytest.importorskip("datasets")
    opened = datasets.load_from_disk(str(packed))
    assert len(opened) == 50
    made = rows(30)
    assert opened[29]["input_ids"] == made.ids[made.offsets[29] :].tolist()
    assert opened[29]["assistant_masks"] == made.mask[made.offsets[29] :].tolist()
    assert opened[0]["domain"] == "金融"


def test_what_datasets_reads_depends_on_the_shards_alone(packed: Path) -> None:
    facts = load(packed).shards
    files = datasets_files(facts)
    assert files == datasets_files(list(facts))
    assert files["state.json"] != datasets_files(facts[:2])["state.json"]
    assert files["dataset_info.json"] == b"{}\n"


def test_a_forged_shard_is_an_error_or_rows_but_never_a_crash(packed: Path, tmp_path: Path) -> None:
    """A stranger's manifest may fit damaged shards, so hashes are not the only guard."""
    facts = load(packed).shards[0]
    good = (packed / facts.file).read_bytes()
    rng = random.Random(515)
    for i in range(300):
        forged = bytearray(good)
        for _ in range(rng.choice([1, 2, 5])):
            forged[rng.randrange(len(forged))] = rng.choice([0, 127, 128, 255])
        path = tmp_path / f"{i}.arrow"
        path.write_bytes(forged)
        with suppress(DataError):
            opened = Shard(path, facts, checked=True)
            assert all(opened.row(row).ids.dtype == np.int32 for row in range(len(opened)))
