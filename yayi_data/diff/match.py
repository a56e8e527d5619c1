"""Which entries of two lists are the same, by hashes: first by content, the rest by another key."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


class Keys(NamedTuple):
    """Two hashes an entry: of its content, and of what it may share with the entry it became."""

    content: Hashes
    other: Hashes


class Matches(NamedTuple):
    """Pairs of entries with the same content, pairs that share the other key only, and those of one side.

    Pairs are arrays of shape (n, 2), ordered by their place in the first list.
    """

    same: Numbers
    changed: Numbers
    removed: Numbers
    added: Numbers

    @property
    def reordered(self) -> bool:
        """Tell whether the entries of the same content stand in another order."""
        return bool((np.diff(self.same[:, 1]) < 0).any())


def match(a: Keys, b: Keys) -> Matches:
    """Match each entry once; of several with one hash, the first with the first."""
    same = _pairs(a.content, b.content)
    rest_a = np.delete(np.arange(len(a.content)), same[:, 0])
    rest_b = np.delete(np.arange(len(b.content)), same[:, 1])
    near = _pairs(a.other[rest_a], b.other[rest_b])
    changed = np.stack([rest_a[near[:, 0]], rest_b[near[:, 1]]], axis=1)
    return Matches(same, changed, np.delete(rest_a, near[:, 0]), np.delete(rest_b, near[:, 1]))


def _pairs(a: Hashes, b: Hashes) -> Numbers:
    """Pair the nth of the entries with a hash in A with the nth in B, ordered by their place in A."""
    order_a, order_b = np.argsort(a, kind="stable"), np.argsort(b, kind="stable")
    sorted_a, sorted_b = a[order_a], b[order_b]
    nth = np.arange(len(a)) - np.searchsorted(sorted_a, sorted_a)
    place = np.searchsorted(sorted_b, sorted_a) + nth
    there = place < len(b)
    there[there] = sorted_b[place[there]] == sorted_a[there]
    pairs = np.stack([order_a[there], order_b[place[there]]], axis=1)
    return pairs[np.argsort(pairs[:, 0])]
