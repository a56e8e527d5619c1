"""Which entries of two lists are the same, by hashes: first by content, the rest by another key."""

from typing import Any, NamedTuple

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
    rest_a = np.setdiff1d(np.arange(len(a.content)), same[:, 0])
    rest_b = np.setdiff1d(np.arange(len(b.content)), same[:, 1])
    near = _pairs(a.other[rest_a], b.other[rest_b])
    changed = np.stack([rest_a[near[:, 0]], rest_b[near[:, 1]]], axis=1)
    removed, added = np.setdiff1d(rest_a, changed[:, 0]), np.setdiff1d(rest_b, changed[:, 1])
    return Matches(same, changed, removed, added)


def _pairs(a: Hashes, b: Hashes) -> Numbers:
    _, i, j = np.intersect1d(_counted(a), _counted(b), assume_unique=True, return_indices=True)
    order = np.argsort(i)
    return np.stack([i[order], j[order]], axis=1)


def _counted(hashes: Hashes) -> NDArray[Any]:
    """Return each hash with how many equal ones stand before it, which makes all entries distinct."""
    order = np.argsort(hashes, kind="stable")
    begins = np.flatnonzero(np.diff(hashes[order], prepend=hashes[order][:1] + np.uint64(1)))
    lengths = np.diff(np.append(begins, len(hashes)))
    counted = np.empty(len(hashes), np.dtype([("hash", np.uint64), ("nth", np.int64)]))
    counted["hash"] = hashes
    counted["nth"][order] = np.arange(len(hashes)) - np.repeat(begins, lengths)
    return counted
