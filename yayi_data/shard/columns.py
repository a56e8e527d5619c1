"""The columns of a shard, of a labelled one, and the rows that stand in them.

This is where a column is added; write.py fills them, batch.py reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from yayi_data import arrow
from yayi_data.index import PART_SCHEMA, content_hashes

_COLUMNS: list[Any] = [
    pa.field("input_ids", pa.list_(pa.int32())),
    pa.field("assistant_masks", pa.list_(pa.bool_())),
    pa.field("supervised_tokens", pa.int32()),
    pa.field("domain", pa.string()),
    pa.field("source_file", pa.int32()),
    pa.field("source_line", pa.int64()),
    pa.field("source_record", pa.int64()),
]
SCHEMA = pa.schema(_COLUMNS)

_LABELS: list[Any] = [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))]
LABELS = pa.schema(_LABELS)
"""The columns that transformers' Trainer takes instead of a mask."""

NOT_LEARNT = -100
"""The label that PyTorch's cross-entropy leaves out."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Conversations ready to be written: flat tokens and one entry a row of everything else.

    Row i holds `ids[offsets[i]:offsets[i + 1]]` (int32) and the same range of `mask` (bool, true =
    supervised). `lines` are 1-based, `records` 0-based (int64); `source` indexes the manifest's sources, one
    for all rows or one each.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    domains: Sequence[str]
    source: int | NDArray[np.int32]
    lines: NDArray[np.int64]
    records: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Row(NamedTuple):
    """One conversation as it stands in a shard; `ids` is a view into the mapped file."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    domain: str
    source: int
    line: int
    record: int


class RowFacts(NamedTuple):
    """Where the rows of a shard come from, and a hash of each row's mask: parallel arrays."""

    source: NDArray[np.int32]
    line: NDArray[np.int64]
    record: NDArray[np.int64]
    mask_hash: NDArray[np.uint64]


def index_rows(
    ids: NDArray[np.int32],
    mask: NDArray[np.bool_],
    offsets: NDArray[np.integer[Any]],
    domains: Any,
) -> pa.RecordBatch:
    """Return the rows of the index that rows of a shard ask for; `domains` is dictionary-encoded."""
    supervised = np.concatenate([[0], np.cumsum(mask, dtype=np.int32)])[offsets]
    columns = [
        arrow.numbers(np.diff(offsets).astype(np.int32)),
        arrow.numbers(np.diff(supervised).astype(np.int32)),
        domains,
        arrow.numbers(content_hashes(ids, offsets)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PART_SCHEMA)
