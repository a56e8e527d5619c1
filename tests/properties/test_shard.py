import tempfile
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yayi_data.index import merge_index, read_index
from yayi_data.shard import Shard, write
from yayi_data.shard.columns import Rows
from yayi_data.shard.write import index_part, write_shard

lengths = st.lists(st.integers(0, 30), max_size=40)
words = st.sampled_from(["general", "金融", "", "舆情 分析"])


@st.composite
def made_rows(draw: st.DrawFn) -> Rows:
    offsets = np.cumsum([0, *draw(lengths)])
    n = len(offsets) - 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Rows(
        ids=rng.integers(0, 2**31 - 1, offsets[-1], dtype=np.int32),
        mask=rng.random(offsets[-1]) < 0.5,
        offsets=offsets,
        domains=[draw(words) for _ in range(n)],
        source=rng.integers(0, 9, n, dtype=np.int32),
        lines=rng.integers(1, 2**60, n),
        records=rng.integers(0, 2**60, n),
    )


def cut(rows: Rows, borders: list[int]) -> list[Rows]:
    """The same rows in other batches."""
    places = [0, *sorted(border % (len(rows) + 1) for border in borders), len(rows)]
    return [
        Rows(
            ids=rows.ids[rows.offsets[a] : rows.offsets[b]],
            mask=rows.mask[rows.offsets[a] : rows.offsets[b]],
            offsets=rows.offsets[a : b + 1] - rows.offsets[a],
            domains=rows.domains[a:b],
            source=np.asarray(rows.source)[a:b],
            lines=rows.lines[a:b],
            records=rows.records[a:b],
        )
        for a, b in pairwise(places)
    ]


def small_batches() -> AbstractContextManager[object]:
    return mock.patch.multiple(write, BATCH_ROWS=7, BATCH_TOKENS=50)


@settings(deadline=None, max_examples=50)  # it writes files
@given(made_rows(), st.lists(st.integers(0, 100), max_size=5))
def test_bytes_do_not_depend_on_how_the_rows_are_batched(rows: Rows, borders: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_batches():
        one, other = Path(folder, "x.arrow"), Path(folder, "y.arrow")
        first, second = write_shard(one, [rows]), write_shard(other, cut(rows, borders))
        assert one.read_bytes() == other.read_bytes()
        assert index_part(one).read_bytes() == index_part(other).read_bytes()
        assert first.sha256 == second.sha256


@settings(deadline=None, max_examples=50)  # it writes files
@given(made_rows())
def test_rows_survive_the_way_to_the_disk_and_back(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder, small_batches():
        path = Path(folder, "x.arrow")
        read = Shard(path, write_shard(path, [rows]))
        assert len(read) == len(rows)
        for i, (start, end) in enumerate(pairwise(rows.offsets)):
            row = read.row(i)
            assert np.array_equal(row.ids, rows.ids[start:end])
            assert np.array_equal(row.mask, rows.mask[start:end])
            expected = (rows.domains[i], np.asarray(rows.source)[i], rows.lines[i], rows.records[i])
            assert (row.domain, row.source, row.line, row.record) == expected


@settings(deadline=None, max_examples=50)  # it writes files
@given(st.lists(made_rows(), max_size=4))
def test_the_index_is_that_of_the_rows_in_order(shards: list[Rows]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_batches():
        paths = [Path(folder, f"{i}.arrow") for i in range(len(shards))]
        for path, rows in zip(paths, shards, strict=True):
            write_shard(path, [rows])
        merge_index([index_part(path) for path in paths], Path(folder, "index.arrow"))
        index = read_index(Path(folder, "index.arrow"))
        assert index.tokens.tolist() == [n for rows in shards for n in np.diff(rows.offsets).tolist()]
        assert [index.names[code] for code in index.domain] == [d for rows in shards for d in rows.domains]
        assert list(zip(index.shard, index.row, strict=True)) == [
            (s, r) for s, rows in enumerate(shards) for r in range(len(rows))
        ]
        supervised = [int(rows.mask[a:b].sum()) for rows in shards for a, b in pairwise(rows.offsets)]
        assert index.supervised_tokens.tolist() == supervised
