"""A record batch of a shard, read without a copy."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from yayi_data import arrow
from yayi_data.shard.columns import LABELS, NOT_LEARNT, SCHEMA, Row, RowFacts, index_rows


class Batch:
    """A record batch as the flat arrays under its columns; nothing is copied."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        if batch.schema != SCHEMA:
            raise ValueError(f"its columns are {', '.join(batch.schema.names)}")
        batch.validate(full=True)
        self.columns = batch
        columns: list[Any] = batch.columns
        ids, masks, _, domain, *places = columns
        self.offsets = arrow.values(ids.offsets)
        self.ids = arrow.values(ids.values)
        if not np.array_equal(arrow.values(masks.offsets), self.offsets):
            raise ValueError("a mask is not as long as its ids")
        self.bits = np.frombuffer(masks.values.buffers()[1] or b"", np.uint8)
        self.domains = domain.dictionary_encode()
        self.codes, self.names = arrow.values(self.domains.indices), self.domains.dictionary.to_pylist()
        self.source, self.lines, self.records = (arrow.values(place) for place in places)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> Row:
        """Return the conversation at `i`."""
        start, end = self.offsets[i : i + 2].tolist()
        first = start // 8
        bits = np.unpackbits(self.bits[first : (end + 7) // 8], bitorder="little")
        return Row(
            ids=self.ids[start:end],
            mask=bits[start - 8 * first : end - 8 * first].view(np.bool_),
            domain=self.names[self.codes[i]],
            source=int(self.source[i]),
            line=int(self.lines[i]),
            record=int(self.records[i]),
        )

    def labelled(self) -> pa.RecordBatch:
        """Return the conversations as LABELS has them."""
        labels = np.where(self._mask(), self.ids, np.int32(NOT_LEARNT))
        offsets: Any = pa.array(self.offsets)
        columns = [pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in (self.ids, labels)]
        return pa.RecordBatch.from_arrays(columns, schema=LABELS)

    def index_rows(self) -> pa.RecordBatch:
        """Return the rows of the index that the conversations ask for."""
        return index_rows(self.ids, self._mask(), self.offsets, self.domains)

    def row_facts(self) -> RowFacts:
        """Return what the index does not have of the rows."""
        mask, ends = self._mask().view(np.uint8).data, self.offsets.tolist()
        hashes = [xxhash.xxh3_64_intdigest(mask[start:end]) for start, end in pairwise(ends)]
        return RowFacts(self.source, self.lines, self.records, np.array(hashes, np.uint64))

    def _mask(self) -> NDArray[np.bool_]:
        return np.unpackbits(self.bits, count=len(self.ids), bitorder="little").view(np.bool_)
