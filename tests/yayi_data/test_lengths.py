"""Bins of lengths count every length once, whatever the lengths."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yayi_data.lengths import length_bins


@given(st.lists(st.integers(1, 200_000), min_size=1), st.sampled_from([10, 16, 40]))
def test_every_length_is_in_exactly_one_bin(lengths: list[int], most: int) -> None:
    bins = length_bins(np.array(lengths, np.int32), most)
    assert sum(one.number for one in bins) == len(lengths)
    assert all(after.low == before.high + 1 for before, after in pairwise(bins))
    assert all(one.number == sum(one.low <= n <= one.high for n in lengths) for one in bins)
    assert len(bins) <= max(most, 18)


def test_bins_begin_and_end_at_powers_of_two() -> None:
    bins = length_bins(np.array([48, 1017], np.int32), 40)
    assert (bins[0].low, bins[-1].high + 1, len(bins)) == (32, 1024, 40)
    assert [(one.low, one.high) for one in length_bins(np.array([1], np.int32), 40)] == [(1, 1)]
