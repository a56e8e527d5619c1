"""How alike two texts are: sets of character 5-grams, their Jaccard similarity, and signatures that find it.

Signatures are MinHash (rensa, in Rust), cut into bands: records that agree in a whole band are candidates.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

Grams = NDArray[np.uint64]
Signatures = NDArray[np.uint32]

GRAM = 5
_SLOTS = 128  # the most numbers of a signature
_RECALL = 0.99  # of pairs that are exactly as alike as the threshold
_SEED = 20
_HELD = 1 << 22  # grams: 32 MB
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_PAD = "\x00"  # makes up what a text lacks to one gram; no normalised text holds it beside letters


@dataclass(frozen=True, slots=True)
class Bands:
    """How signatures are cut: `count` bands of `rows` numbers."""

    count: int
    rows: int

    @property
    def slots(self) -> int:
        """The numbers of a signature."""
        return self.count * self.rows


def bands_for(threshold: float) -> Bands:
    """Return the widest bands that find 99 of 100 pairs which are just as alike as `threshold` says."""
    for rows in range(_SLOTS, 1, -1):
        count = _SLOTS // rows
        if 1 - (1 - threshold**rows) ** count >= _RECALL:
            return Bands(count, rows)
    return Bands(_SLOTS, 1)


def normalised(text: str) -> str:
    """Return a text as it is compared: NFKC, case folded, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def grams(text: str) -> Grams:
    """Return the sorted 64-bit hashes of the text's distinct 5-grams; a shorter text is one gram itself."""
    found: Grams = np.unique(_grams_of([text])[0])
    return found


def jaccard(a: Grams, b: Grams) -> float:
    """Return the Jaccard similarity of two sets of grams, each sorted and none empty."""
    shared = np.count_nonzero(b.take(b.searchsorted(a), mode="clip") == a)
    return shared / (len(a) + len(b) - shared)


def signatures(texts: Sequence[str], bands: Bands) -> Signatures:
    """Return the MinHash signatures of normalised texts, one row each; they depend on nothing else."""
    if not texts:
        return np.zeros((0, bands.slots), np.uint32)
    hashes, offsets = _grams_of(texts)
    made = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, bands.slots, _SEED)
    return np.array(made.to_rows(), np.uint32)


def _grams_of(texts: Sequence[str]) -> tuple[Grams, NDArray[np.uint64]]:
    """Return the hashes of the grams of all texts side by side, and where each text's begin and end."""
    padded = [text if len(text) >= GRAM else text + _PAD * (GRAM - len(text)) for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), "<u4")
    hashes = np.zeros(len(codes) - GRAM + 1, np.uint64)
    for i in range(GRAM):
        hashes *= _BASE
        hashes += codes[i : len(codes) - GRAM + 1 + i]
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    hashes ^= hashes >> np.uint64(29)
    ends = np.cumsum([len(text) for text in padded])
    inside = np.ones(len(codes), np.bool_)
    for i in range(1, GRAM):
        inside[ends - i] = False  # such a gram would reach into the next text
    offsets = np.concatenate(([0], ends - (GRAM - 1) * np.arange(1, len(ends) + 1)))
    return hashes[inside[: len(hashes)]], offsets.astype(np.uint64)


class HeldGrams:
    """The grams of texts by number, of which the last ones asked for are held."""

    def __init__(self, text_of: Callable[[int], str]) -> None:
        self._text_of = text_of
        self._held: dict[int, Grams] = {}
        self._total = 0

    def of(self, i: int) -> Grams:
        """Return the grams of text i."""
        if i not in self._held:
            if self._total > _HELD:
                self._held.clear()
                self._total = 0
            self._held[i] = grams(self._text_of(i))
            self._total += len(self._held[i])
        return self._held[i]


def band_keys(found: Signatures, which: NDArray[np.int64], bands: Bands) -> NDArray[np.int32]:
    """Return the numbers of the buckets of the records `which`: shape (records, bands).

    -1 stands where a record is alone in its bucket.
    """
    keys = np.empty((len(which), bands.count), np.int32)
    for i in range(bands.count):
        part: Any = found[which, i * bands.rows : (i + 1) * bands.rows]
        _, inverse, counts = np.unique(
            part.view(f"V{4 * bands.rows}").ravel(), return_inverse=True, return_counts=True
        )
        keys[:, i] = np.where(counts[inverse] > 1, inverse, -1)
    return keys
