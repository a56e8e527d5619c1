"""How long conversations are: bins that suit lengths, which spread over powers of two."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class LengthBin(NamedTuple):
    """How many conversations have `low` to `high` tokens, both included."""

    low: int
    high: int
    number: int


def length_bins(lengths: NDArray[np.int32], most: int) -> list[LengthBin]:
    """Count lengths in at most about `most` bins, as many to each doubling; there must be a length.

    The first bin begins at a power of two, the last ends just before one.
    """
    first = math.floor(math.log2(lengths.min()))
    last = math.ceil(math.log2(int(lengths.max()) + 1))
    each = next((n for n in (8, 4, 2) if n * (last - first) <= most), 1)
    edges = np.unique(np.ceil(2 ** np.arange(first, last + 1e-9, 1 / each) - 1e-9).astype(np.int64))
    counts = np.histogram(lengths, edges)[0]  # the last edge itself would count, but is above every length
    return [
        LengthBin(low, after - 1, number)
        for low, after, number in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    ]
