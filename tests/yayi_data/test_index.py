from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from yayi_data.errors import DataError, YayiError
from yayi_data.index import content_hashes, domain_counts, mapped, merge_index, open_index, read_index
from yayi_data.manifest import Counts, load
from yayi_data.shard.columns import Rows
from yayi_data.shard.write import index_part, write_shard


def test_the_index_has_one_entry_a_conversation_in_order(packed: Path) -> None:
    index = open_index(packed, load(packed))
    assert len(index) == 50
    assert index.shard.tolist() == [0] * 30 + [2] * 20
    assert index.row.tolist() == [*range(30), *range(20)]
    assert index.names == ["general", "金融"]
    assert index.content_hash[0] == index.content_hash[1] != index.content_hash[2]


def test_the_arrays_are_views_of_the_file(packed: Path) -> None:
    index = open_index(packed, load(packed))
    assert not any(
        array.flags.owndata for array in (index.shard, index.tokens, index.domain, index.content_hash)
    )


def test_domain_codes_follow_the_names_not_the_writer(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    first, second = replace(rows(2), domains=["z", "b"]), replace(rows(2), domains=["a", "z"])
    for name, part in (("x", first), ("y", second)):
        write_shard(tmp_path / f"{name}.arrow", [part])
    merge_index(
        [index_part(tmp_path / "x.arrow"), index_part(tmp_path / "y.arrow")], tmp_path / "index.arrow"
    )
    index = read_index(tmp_path / "index.arrow")
    assert index.names == ["a", "b", "z"]
    assert index.domain.tolist() == [2, 1, 0, 2]


def test_no_shards_make_an_empty_index(tmp_path: Path) -> None:
    merge_index([], tmp_path / "index.arrow")
    index = read_index(tmp_path / "index.arrow")
    assert (len(index), index.names, domain_counts(index)) == (0, [], {})


def test_counts_by_domain(tmp_path: Path, rows: Callable[..., Rows]) -> None:
    made = rows(4)
    write_shard(tmp_path / "x.arrow", [made])
    merge_index([index_part(tmp_path / "x.arrow")], tmp_path / "index.arrow")
    counts = domain_counts(read_index(tmp_path / "index.arrow"))
    lengths = np.diff(made.offsets)
    supervised = [int(made.mask[a:b].sum()) for a, b in zip(made.offsets, made.offsets[1:], strict=False)]
    assert counts["general"] == Counts(2, int(lengths[1] + lengths[3]), supervised[1] + supervised[3])


def test_content_hashes_are_xxh3_of_little_endian_ids() -> None:
    ids = np.array([1, 2, 3, 1, 2, 3], np.int32)
    hashes = content_hashes(ids, np.array([0, 3, 6, 6]))
    assert hashes.tolist()[:2] == [hashes[0]] * 2
    assert hashes[2] == 0x2D06800538D394C2  # of no bytes, as xxHash documents it


def test_a_changed_index_is_refused_with_what_differs(packed: Path) -> None:
    data = bytearray((packed / "index.arrow").read_bytes())
    data[len(data) // 2] ^= 1
    (packed / "index.arrow").write_bytes(data)
    with pytest.raises(
        DataError, match=r"index\.arrow: has the sha256 \w+, the manifest says \w+; see `yayi-data verify"
    ):
        open_index(packed, load(packed))


def test_an_index_that_the_manifest_does_not_list_is_refused(packed: Path) -> None:
    with pytest.raises(DataError, match=r"lists no index\.arrow"):
        open_index(packed, replace(load(packed), files=[]))


def test_another_table_is_not_an_index(tmp_path: Path) -> None:
    table = pa.table({"x": [1]})
    with pa.OSFile(str(tmp_path / "i"), "w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="is not laid out as an index"):
        read_index(tmp_path / "i")
    (tmp_path / "j").write_bytes(b"not arrow")
    with pytest.raises(DataError, match="is not an index"):
        read_index(tmp_path / "j")


def test_a_mapped_file_holds_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("descriptors are counted in /proc")
    before = len(list(fds.iterdir()))
    views = [mapped(tmp_path / "x") for _ in range(20)]
    assert len(list(fds.iterdir())) == before
    assert {bytes(view) for view in views} == {b"abc"}
    assert mapped(tmp_path / "empty").size == 0


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match="gone: cannot be read: No such file"):
        mapped(tmp_path / "gone")
