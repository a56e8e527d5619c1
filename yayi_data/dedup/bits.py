"""What the similarity of texts is at most, by bits in place of their grams: many pairs in one go.

Records around one long instruction are all candidates of each other; nearly all of their pairs end here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from yayi_data.dedup.similarity import Grams

_HELD = 1 << 25  # bytes for each width
_SPARSE = 16  # bits or more a gram, so that few grams share one
_NARROWEST, _WIDEST = 1 << 12, 1 << 18


class HeldBits:
    """Bits of `count` texts, by which many pairs that are not alike are known without their grams.

    A gram sets the bit that its hash names, so those grams of a text whose bits another lacks are not in it.
    """

    def __init__(self, grams_of: Callable[[int], Grams], count: int) -> None:
        self._grams_of, self._count = grams_of, count
        self._held: dict[int, _Table] = {}

    def bounds(self, i: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each of `others` what its similarity to text i is at most."""
        size = len(self._grams_of(i))
        width = 1 << (_SPARSE * size - 1).bit_length()
        table = self._table(max(_NARROWEST, min(width, _WIDEST)))
        at = table.rows_of(np.append(i, others), self._grams_of)
        sizes, doubled, bits = table.sizes[at], table.doubled[at], table.bits[at]
        both = np.bitwise_count(bits[1:] & bits[0]).sum(axis=1, dtype=np.int64)
        shared = both + np.minimum(doubled[1:], doubled[0])
        bounds: NDArray[np.float64] = shared / (size + sizes[1:] - shared)
        return bounds

    def _table(self, width: int) -> "_Table":
        if width not in self._held:
            self._held[width] = _Table(width, self._count)
        return self._held[width]


class _Table:
    """Rows of `width` bits of the texts last asked for, how many grams each has, how many share a bit."""

    def __init__(self, width: int, count: int) -> None:
        self.width = width
        capacity = _HELD * 8 // width
        self.bits = np.empty((capacity, width // 64), np.uint64)
        self.sizes, self.doubled = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
        self._row = np.full(count, -1, np.int32)
        self._used = 0

    def rows_of(self, texts: NDArray[np.int64], grams_of: Callable[[int], Grams]) -> NDArray[np.int32]:
        """Return the rows of texts, which are no more than the table has; what it lacks is made."""
        missing = texts[self._row[texts] < 0]
        if self._used + len(missing) > len(self.bits):
            self._row[:] = -1
            self._used, missing = 0, texts
        for i in missing.tolist():
            self._set(self._used, grams_of(i))
            self._row[i] = self._used
            self._used += 1
        return self._row[texts]

    def _set(self, row: int, found: Grams) -> None:
        bits = np.zeros(self.width, np.bool_)
        bits[found & np.uint64(self.width - 1)] = True
        self.bits[row] = np.packbits(bits).view(np.uint64)
        self.sizes[row], self.doubled[row] = len(found), len(found) - np.count_nonzero(bits)
