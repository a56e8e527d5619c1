"""Which records repeat an earlier one, exactly or nearly: a greedy walk in the order of the input.

A record is dropped where one that is kept before it is equal or near enough, so that what is dropped always
has a kept twin that is itself alike (chains of likeness drop nothing further).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from yayi_data.dedup.bits import HeldBits
from yayi_data.dedup.similarity import Bands, Grams, Signatures, band_keys, jaccard

EXACT, NEAR, QUESTION = range(3)
_SIGMAS = 3.0
_TOGETHER = 256  # candidates that are looked at in one go


@dataclass(frozen=True, slots=True)
class Twins:
    """For each record its kept twin (-1: it is kept itself), how alike the texts are, and what makes it one.

    `why` is EXACT, NEAR or QUESTION; it means nothing for a record that is kept.
    """

    twin: NDArray[np.int64]
    similarity: NDArray[np.float64]
    why: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Search:
    """How to search: the threshold, the bands, how many of the first records stay whatever they are like.

    Those are of evaluation sets: what asks a question of theirs (`questions` has a hash a record, 0 for none)
    is their twin, whatever it answers.
    """

    threshold: float
    bands: Bands
    staying: int = 0
    questions: NDArray[np.uint64] | None = None


def find_twins(
    digests: NDArray[np.uint64],
    found: Signatures,
    grams_of: Callable[[int], Grams],
    search: Search,
    advance: Callable[[int], None] = lambda _: None,
) -> Twins:
    """Return the twin of every record; the earliest kept one where several are near enough.

    `digests` has two numbers a record, equal where the texts are; `grams_of` gives the grams of a record;
    `advance` is told of the records done.
    """
    asked = _asked(search)
    n = len(digests)
    heads = _heads(digests)
    firsts = np.flatnonzero(heads == np.arange(n))
    twin, similarity, why = np.full(n, -1, np.int64), np.ones(n), np.full(n, NEAR, np.int8)
    walk = _Walk(found, firsts, search, grams_of)
    for i, ordinal in enumerate(firsts.tolist()):
        near = None if ordinal < search.staying else walk.near(i)
        other = asked.get(ordinal, -1)
        if other >= 0 and (near is None or near[0] >= search.staying):
            twin[ordinal], why[ordinal] = other, QUESTION
            similarity[ordinal] = jaccard(grams_of(ordinal), grams_of(other))
        elif near is None:
            walk.keep(i)
        else:
            twin[ordinal], similarity[ordinal] = near
        advance(1)
    # What equals a kept record is its twin; what equals a dropped one shares that one's twin.
    exact = (heads != np.arange(n)) & (twin[heads] < 0)
    twin = np.where(exact, heads, twin[heads])
    twin[: search.staying] = -1
    return Twins(twin, similarity[heads], np.where(exact, np.int8(EXACT), why[heads]))


def _asked(search: Search) -> dict[int, int]:
    """Return the records that ask a question of an evaluation set, each with the first that asks it there."""
    if search.questions is None or not search.staying:
        return {}
    questions = search.questions.tolist()
    first: dict[int, int] = {}
    for i, question in enumerate(questions[: search.staying]):
        first.setdefault(question, i)
    first.pop(0, None)
    rest = enumerate(questions[search.staying :], search.staying)
    return {i: first[question] for i, question in rest if question in first}


def _heads(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return for each record the first that is equal to it."""
    keys = np.ascontiguousarray(digests).view("V16").ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    heads: NDArray[np.int64] = first[inverse]
    return heads


class _Walk:
    """The kept records so far, by bucket; records are numbered as in `firsts`, the first of each text."""

    def __init__(
        self, found: Signatures, firsts: NDArray[np.int64], search: Search, grams_of: Callable[[int], Grams]
    ) -> None:
        self.found, self.firsts, self.grams_of = found, firsts, grams_of
        self.bits = HeldBits(grams_of, len(found))
        self.keys = band_keys(found, firsts, search.bands)
        self.kept: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        self.threshold, slots = search.threshold, search.bands.slots
        # What a signature estimates is off by more than this once in a thousand.
        self.least = slots * self.threshold - _SIGMAS * sqrt(slots * self.threshold * (1 - self.threshold))

    def near(self, i: int) -> tuple[int, float] | None:
        """Return the earliest kept record that is near enough to record i (its ordinal), and how near."""
        found = {j for bucket in self._buckets(i) for j in self.kept.get(bucket, ())}
        if not found:
            return None
        candidates, this = self.firsts[sorted(found)], int(self.firsts[i])
        agree = np.count_nonzero(self.found[candidates] == self.found[this], axis=1)
        for other in self._likely(this, candidates[agree >= self.least]):
            similarity = jaccard(self.grams_of(this), self.grams_of(other))
            if similarity >= self.threshold:
                return other, similarity
        return None

    def _likely(self, this: int, candidates: NDArray[np.int64]) -> Iterator[int]:
        """Yield those candidates, in order, that may be near enough by their bits."""
        for start in range(0, len(candidates), _TOGETHER):
            some = candidates[start : start + _TOGETHER]
            yield from some[self.bits.bounds(this, some) >= self.threshold].tolist()

    def keep(self, i: int) -> None:
        """Let later records find record i."""
        for bucket in self._buckets(i):
            self.kept[bucket].append(i)

    def _buckets(self, i: int) -> list[tuple[int, int]]:
        keys = self.keys[i]
        at = np.flatnonzero(keys >= 0)
        return list(zip(at.tolist(), keys[at].tolist(), strict=True))
