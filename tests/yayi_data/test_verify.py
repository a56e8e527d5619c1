import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from yayi_data.errors import DataError, YayiError
from yayi_data.index import merge_index, open_index
from yayi_data.manifest import Counts, Ledger, Manifest, TokenizerFacts, file_facts, load, write
from yayi_data.shard import Shards
from yayi_data.verify import Finding, verify

USED = {"manifest.json", "index.arrow", "data-00000.arrow", "data-00002.arrow"}
"""The files that training reads: the second shard has no rows."""


def files_of(findings: list[Finding]) -> list[str]:
    return [finding.file for finding in findings]


def test_a_folder_as_it_was_written_has_no_findings(packed: Path) -> None:
    read: list[int] = []
    assert verify(packed, read.append) == []
    sizes = [p.stat().st_size for p in packed.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert sorted(read) == sorted(sizes)


def test_a_folder_without_manifest_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match="not a packed folder"):
        verify(tmp_path)


def train_on(folder: Path) -> None:
    """Open the folder as the trainer does, and read a row of every shard that has one."""
    manifest = load(folder)
    index = open_index(folder, manifest)
    shards = Shards(folder, manifest)
    for number in set(index.shard.tolist()):
        shards.row(number, 0)


def test_any_single_changed_byte_is_found_and_never_trained_on(packed: Path) -> None:
    random.seed(515)
    files = [path for path in sorted(packed.rglob("*")) if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    for _ in range(1000):
        path = random.choices(files, sizes)[0]
        good = path.read_bytes()
        if not good:
            continue
        bad = bytearray(good)
        bad[random.randrange(len(bad))] ^= random.randrange(1, 256)
        path.write_bytes(bad)
        assert files_of(verify(packed)) == [path.relative_to(packed).as_posix()]
        if path.name in USED:
            with pytest.raises(DataError):
                train_on(packed)
        path.write_bytes(good)
    train_on(packed)


def test_a_stream_cut_at_a_batch_boundary_is_found(packed: Path) -> None:
    path = packed / "data-00000.arrow"
    data = path.read_bytes()
    schema_only = pa.ipc.open_stream(data).schema.serialize().size
    path.write_bytes(data[:schema_only])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 0  # Arrow itself sees nothing wrong
    assert verify(packed) == [
        Finding("data-00000.arrow", f"has {schema_only} bytes, the manifest says {len(data)}")
    ]


@pytest.mark.parametrize(
    "name", ["data-00002.arrow", "index.arrow", "tokenizer/tokenizer.json", "state.json"]
)
def test_a_missing_file_is_found(packed: Path, name: str) -> None:
    (packed / name).unlink()
    findings = verify(packed)
    assert files_of(findings) == [name]
    assert findings[0].message.startswith("is missing; the manifest lists it with ")


def test_extra_files_and_folders_are_found(packed: Path) -> None:
    (packed / "data-00003.arrow").write_bytes(b"")
    (packed / "tokenizer" / "vocab.json").write_bytes(b"")
    (packed / "more").mkdir()
    (packed / "more" / "x").write_bytes(b"")
    assert files_of(verify(packed)) == ["data-00003.arrow", "more", "more/x", "tokenizer/vocab.json"]


def test_swapped_shards_are_named_as_such(packed: Path) -> None:
    a, b = packed / "data-00000.arrow", packed / "data-00002.arrow"
    a.rename(packed / "x")
    b.rename(a)
    (packed / "x").rename(b)
    assert verify(packed) == [
        Finding(a.name, "has the content of data-00002.arrow: the two were swapped or copied"),
        Finding(b.name, "has the content of data-00000.arrow: the two were swapped or copied"),
    ]


def test_a_folder_in_place_of_a_file_is_found(packed: Path) -> None:
    (packed / "state.json").unlink()
    (packed / "state.json").mkdir()
    assert "state.json" in files_of(verify(packed))


def test_every_finding_is_reported_at_once(packed: Path) -> None:
    (packed / "state.json").write_bytes(b"{}")
    (packed / "data-00000.arrow").unlink()
    (packed / "extra").write_bytes(b"")
    assert files_of(verify(packed)) == ["data-00000.arrow", "state.json", "extra"]


def relist(folder: Path, manifest: Manifest, name: str) -> Manifest:
    """Return the manifest with what the file `name` now is: consistent bytes around inconsistent content."""
    files = [file_facts(folder, file.path) if file.path == name else file for file in manifest.files]
    return replace(manifest, files=files)


def test_an_index_that_contradicts_the_shards_is_found(packed: Path) -> None:
    manifest = load(packed)
    table = pa.ipc.open_stream((packed / "index.arrow").read_bytes()).read_all()
    tokens = table["tokens"].to_pylist()
    tokens[31] += 1
    tokens[32] -= 1
    changed = table.set_column(2, "tokens", pa.array(tokens, pa.int32()))
    with pa.OSFile(str(packed / "index.arrow"), "w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_batch(changed.combine_chunks().to_batches()[0])
    write(packed, relist(packed, manifest, "index.arrow"))
    findings = verify(packed)
    assert findings[0].file == "data-00002.arrow"
    assert (
        findings[0].message == f"row 1 has the tokens {tokens[31] - 1}, the index says {tokens[31]} (2 rows)"
    )


def test_an_index_of_another_number_of_rows_is_found(packed: Path) -> None:
    manifest = load(packed)
    merge_index([], packed / "index.arrow")
    write(packed, relist(packed, manifest, "index.arrow"))
    assert "has 0 rows, the manifest 50" in verify(packed)[0].message


def test_sums_that_do_not_add_up_are_found(packed: Path) -> None:
    manifest = load(packed)
    write(packed, replace(manifest, ledger=Ledger(60, 50, {"long": 9}), domains={"a": Counts(50, 0, 0)}))
    messages = [finding.message for finding in verify(packed)]
    assert messages == [
        "lists 1 records, the ledger says that 9 were dropped",
        "its counts of the domains are not those of the index",
        f"says {manifest.tokens} tokens, its domains have 0",
        f"says {manifest.supervised_tokens} supervised_tokens, its domains have 0",
        "says 60 records were read, its sources have 51",
        "its ledger does not add up: 60 read, 50 kept, 9 dropped",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sources": []}, "has rows of source 0"),
        ({"tokenizer": TokenizerFacts("f" * 16, {"<|End|>": 4}, 5)}, "the manifest's vocabulary 5 ids"),
        ({"files": []}, "is not listed in the manifest"),
    ],
)
def test_a_manifest_that_the_folder_contradicts_is_found(
    packed: Path, change: dict[str, Any], told: str
) -> None:
    write(packed, replace(load(packed), **change))
    assert any(told in finding.message for finding in verify(packed))


def test_a_ledger_of_drops_that_are_not_listed_is_found(packed: Path) -> None:
    manifest = load(packed)
    ledger = Ledger(manifest.ledger.read + 5, manifest.ledger.kept, {"long": 6})
    sources = [replace(manifest.sources[0], records=ledger.read)]
    write(packed, replace(manifest, ledger=ledger, sources=sources))
    assert files_of(verify(packed)) == ["dropped.jsonl"]


def test_a_link_to_a_folder_is_found(packed: Path, tmp_path: Path) -> None:
    (packed / "tokenizer").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "evil.py").touch()
    (packed / "tokenizer").symlink_to(tmp_path / "elsewhere")
    assert "tokenizer" in files_of(verify(packed))
