"""The shards of a packed folder, read with no copy: uncompressed Arrow IPC streams, mapped into memory.

Only this package knows their columns.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from yayi_data.errors import DataError
from yayi_data.index import PART_SCHEMA, mapped
from yayi_data.manifest import Manifest, ShardFacts, refuse_changed, refuse_resized
from yayi_data.remote.mirror import fetch_shard, fetch_shards, is_mirror
from yayi_data.shard.batch import Batch
from yayi_data.shard.columns import Row, RowFacts

_NO_ROWS = (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint64))


class Shards:
    """The shards of a packed folder, mapped into memory one by one as rows are asked for.

    Sizes are checked when the folder is opened, a shard's sha256 before its first row is used; DataError says
    what differs. An open shard holds no file descriptor, so there may be many. Of a remote folder's mirror,
    shards are fetched when they are first asked for.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._facts = manifest.shards
        self._opened: dict[int, Shard] = {}
        self._remote = is_mirror(folder)
        for facts in manifest.shards if not self._remote else ():
            refuse_resized(folder / facts.file, facts.bytes)

    def fetch(self, shards: Sequence[int]) -> None:
        """Fetch those of the shards that are not here, several at a time; nothing is done where all are."""
        missing = (
            [self._facts[shard] for shard in shards if shard not in self._opened] if self._remote else []
        )
        fetch_shards(self._folder, missing)

    def row(self, shard: int, row: int) -> Row:
        """Return one conversation by the index's `shard` and `row`; IndexError where there is none."""
        opened = self._opened.get(shard)
        if opened is None:
            opened = self._opened[shard] = open_shard(self._folder, self._facts[shard])
        return opened.row(row)


def open_shard(folder: Path, facts: ShardFacts) -> "Shard":
    """Open a shard of a packed folder, fetched first where the folder is a mirror and lacks it."""
    if is_mirror(folder):
        return Shard(fetch_shard(folder, facts), facts, checked=True)
    return Shard(folder / facts.file, facts)


class Shard:
    """One shard, mapped into memory; rows are views of the file.

    Its bytes are compared with the manifest first, unless the caller has `checked` them.
    """

    def __init__(self, path: Path, facts: ShardFacts, *, checked: bool = False) -> None:
        data = mapped(path)
        if not checked:
            refuse_changed(path, data, facts.bytes, facts.sha256)
        try:
            self._batches = [Batch(batch) for batch in pa.ipc.open_stream(data)]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: is not a shard ({error}); pack the data again") from None
        self._starts = list(accumulate((len(batch) for batch in self._batches), initial=0))
        self.tokens = sum(len(batch.ids) for batch in self._batches)
        if (len(self), self.tokens) != (facts.rows, facts.tokens):
            raise DataError(
                f"{path}: has {len(self)} rows and {self.tokens} tokens, the manifest says {facts.rows} and "
                f"{facts.tokens}; pack the data again"
            )

    def __len__(self) -> int:
        return self._starts[-1]

    def row(self, row: int) -> Row:
        """Return the conversation at `row`; IndexError where there is none."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a shard of {len(self)} rows")
        batch = bisect_right(self._starts, row) - 1
        return self._batches[batch].row(row - self._starts[batch])

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the conversations as they stand in the file."""
        yield from (batch.columns for batch in self._batches)

    def labelled(self) -> Iterator[pa.RecordBatch]:
        """Yield the conversations as LABELS has them: a token's label is its id where it is supervised."""
        yield from (batch.labelled() for batch in self._batches)

    def row_facts(self) -> RowFacts:
        """Return what the index does not have of the rows, to compare them with another folder's."""
        columns = zip(*(batch.row_facts() for batch in self._batches), strict=True)
        return RowFacts(*map(np.concatenate, columns)) if self._batches else RowFacts(*_NO_ROWS)

    def highest(self) -> tuple[int, int]:
        """Return the highest token id and the highest number of a source, -1 where there are no rows."""
        ids = max((int(batch.ids.max()) for batch in self._batches if len(batch.ids)), default=-1)
        return ids, max((int(batch.source.max()) for batch in self._batches if len(batch)), default=-1)

    def index_part(self) -> pa.Table:
        """Return the index rows that this shard's content asks for, to compare with what the index says."""
        return pa.Table.from_batches([batch.index_rows() for batch in self._batches], PART_SCHEMA)
