from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import (
    FileFacts,
    ShardFacts,
    canonical,
    digest_of,
    file_facts,
    load,
    read_listed,
    write,
)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change members of the manifest and give it the digest that fits, as a forger would."""
    content = orjson.loads((folder / "manifest.json").read_bytes()) | changes
    content["digest"] = digest_of(content)
    (folder / "manifest.json").write_bytes(canonical(content))


def test_what_was_written_is_loaded(packed: Path) -> None:
    manifest = load(packed)
    assert [shard.rows for shard in manifest.shards] == [30, 0, 20]
    assert manifest.domains["金融"].rows == 25
    write(packed, manifest)
    assert load(packed) == manifest


def test_the_bytes_are_canonical_and_the_digest_is_of_the_rest(packed: Path) -> None:
    data = (packed / "manifest.json").read_bytes()
    content = orjson.loads(data)
    assert data == load(packed).to_bytes() == canonical(content)
    assert "金融".encode() in data
    assert content["digest"] == digest_of({k: v for k, v in content.items() if k != "digest"})


def test_no_folder_and_no_manifest_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match="there is no such folder") as error:
        load(tmp_path / "gone")
    assert error.value.exit_code == 2
    with pytest.raises(YayiError, match=r"holds no manifest.json, so it is not a packed folder"):
        load(tmp_path)


def test_a_newer_version_asks_for_a_newer_tool(packed: Path) -> None:
    rewrite(packed, version=2, whatever={})
    with pytest.raises(
        YayiError, match="has version 2, this yayi-data reads up to 1; install a newer one"
    ) as error:
        load(packed)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": -1}, "/rows -1 is less than the minimum"),
        ({"shards": [{}]}, "/shards/0 "),
        ({"format": "other"}, "/format "),
        ({"version": "1"}, "/version "),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_breaks_the_schema_is_named(packed: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(packed, **changes)
    with pytest.raises(DataError, match="it was changed: pack the data again") as error:
        load(packed)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "..", "a/..", "C:\\x", "a\\b", "a\x00b", ""]
)
def test_a_path_out_of_the_folder_is_refused(packed: Path, path: str) -> None:
    rewrite(packed, files=[{"path": path, "bytes": 0, "sha256": "0" * 64}])
    with pytest.raises(DataError, match="/files/0/path"):
        load(packed)


@pytest.mark.parametrize("path", ["a", "a/b", "tokenizer/..x", "...", "词表.json"])
def test_a_path_in_the_folder_is_read(packed: Path, path: str) -> None:
    rewrite(packed, files=[{"path": path, "bytes": 0, "sha256": "0" * 64}])
    assert load(packed).files == [FileFacts(path, 0, "0" * 64)]


def test_a_file_listed_twice_is_refused(packed: Path) -> None:
    manifest = load(packed)
    write(
        packed, replace(manifest, shards=[*manifest.shards, ShardFacts("state.json", 0, 0, 0, 0, "0" * 64)])
    )
    with pytest.raises(DataError, match="lists a file twice"):
        load(packed)


def test_a_changed_value_is_told_by_the_digest(packed: Path) -> None:
    data = (packed / "manifest.json").read_bytes()
    (packed / "manifest.json").write_bytes(data.replace(b'"rows": 50', b'"rows": 51'))
    with pytest.raises(DataError, match="it was changed after packing"):
        load(packed)


@pytest.mark.parametrize("change", [b" ", b"\n", b"\r\n"])
def test_bytes_that_change_no_value_are_told_too(packed: Path, change: bytes) -> None:
    with (packed / "manifest.json").open("ab") as file:
        file.write(change)
    with pytest.raises(DataError, match="canonical form"):
        load(packed)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"{}"])
def test_anything_else_is_a_damaged_manifest(packed: Path, data: bytes) -> None:
    (packed / "manifest.json").write_bytes(data)
    with pytest.raises(DataError, match=r"manifest.json: "):
        load(packed)


def test_a_long_fault_stays_one_short_sentence(packed: Path) -> None:
    (packed / "manifest.json").write_bytes(canonical(["x" * 100_000]))
    with pytest.raises(DataError) as error:
        load(packed)
    assert len(str(error.value)) < 600


def test_file_facts_are_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_facts(tmp_path, "x") == FileFacts("x", 3, expected)


def test_a_listed_file_is_read_when_it_is_as_listed(packed: Path) -> None:
    manifest = load(packed)
    assert read_listed(packed, manifest, "tokenizer/tokenizer.json") == b'{"model": {}}'
    (packed / "tokenizer/tokenizer.json").write_bytes(b'{"model": {"}}')
    with pytest.raises(
        DataError, match=r"tokenizer.json: has 14 bytes, the manifest says 13; see `yayi-data verify"
    ):
        read_listed(packed, manifest, "tokenizer/tokenizer.json")
    (packed / "tokenizer/tokenizer.json").write_bytes(b'{"model": []}')
    with pytest.raises(DataError, match="has the sha256"):
        read_listed(packed, manifest, "tokenizer/tokenizer.json")
    with pytest.raises(DataError, match=r"lists no vocab\.json"):
        read_listed(packed, manifest, "vocab.json")


def test_the_schema_is_one_and_any_validator_accepts_what_is_written(packed: Path) -> None:
    path = Path(__file__).parents[2] / "schemas" / "manifest.schema.json"
    schema = orjson.loads(path.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(orjson.loads((packed / "manifest.json").read_bytes()), schema)
