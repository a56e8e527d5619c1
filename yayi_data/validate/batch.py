"""Records side by side, with the positions of the bytes that matter: what the prefilters search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.uint16]
Followed = tuple[Positions, npt.NDArray[np.uint8]]

_FLAT = frozenset(["instruction", "input", "output", "system"])
_USUAL = frozenset(["instruction", "input", "output"])


_BEHIND = 256


def begin_with(windows: npt.NDArray[np.uint64], piece: bytes) -> npt.NDArray[np.bool_]:
    """Mark the windows that begin with at most eight bytes."""
    mask = np.uint64((1 << 8 * len(piece)) - 1)
    marked: npt.NDArray[np.bool_] = (windows & mask) == np.uint64(int.from_bytes(piece, "little"))
    return marked


class Pairs(NamedTuple):
    """Marks for pairs of bytes: of those at even, and of those at odd offsets."""

    even: npt.NDArray[np.bool_]
    odd: npt.NDArray[np.bool_]

    def total(self) -> int:
        """Count the marks."""
        return int(np.count_nonzero(self.even)) + int(np.count_nonzero(self.odd))

    def positions(self) -> Positions:
        """Return the offsets that are marked, the even ones first."""
        return np.concatenate((np.flatnonzero(self.even) * 2, np.flatnonzero(self.odd) * 2 + 1))


@dataclass
class Batch:
    """Valid records side by side: parsed, and their bytes.

    `starts` are offsets in the source, as those of a chunk; `base` is that of the data's first byte.
    """

    values: list[Any]
    data: bytes
    starts: Sequence[int]
    dialect: str
    base: int = 0

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """The bytes of the data as numbers."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def offsets(self) -> Positions:
        """Where the records begin in `data`."""
        return np.asarray(self.starts, np.int64) - self.base

    @cached_property
    def members(self) -> set[str]:
        """The names of all members of the records."""
        return set().union(*self.values)

    @cached_property
    def flat(self) -> bool:
        """Tell whether the records are alpaca with texts only: no history, no unknown members."""
        return self.dialect == "alpaca" and self.members <= _FLAT

    @cached_property
    def sizes(self) -> list[int]:
        """How many members each record has."""
        return list(map(len, self.values))

    @cached_property
    def usual(self) -> bool:
        """Tell whether all records have an instruction, an input, an output, and no more."""
        return self.flat and self.members == _USUAL and min(self.sizes, default=0) == len(_USUAL)

    @cached_property
    def windows(self) -> npt.NDArray[np.uint64]:
        """The eight bytes from each offset on, as one number; behind the end of the data stand zeros."""
        return np.ndarray((len(self.data) + _BEHIND,), "<u8", self.data + bytes(_BEHIND + 7), strides=(1,))

    @cached_property
    def doubles(self) -> tuple[Doubles, Doubles]:
        """The data as pairs of bytes: those that begin at even, and those that begin at odd offsets."""
        size = len(self.data)
        return (
            np.frombuffer(self.data, "<u2", size // 2),
            np.frombuffer(self.data, "<u2", (size - 1) // 2, offset=1),
        )

    @cached_property
    def quotes(self) -> Followed:
        """Where quotes stand, and what follows them."""
        return self.followed(0x22)

    @cached_property
    def backslashes(self) -> Followed:
        """Where backslashes stand, and what follows them."""
        return self.followed(0x5C)

    def followed(self, byte: int) -> Followed:
        """Return where a byte stands, and the byte that follows each."""
        found = np.flatnonzero(self.codes[:-1] == byte)
        return found, self.codes[found + 1]

    def record(self, index: int) -> bytes:
        """Return the bytes of a record, and what stands between it and the next."""
        start, end = self.starts[index], self.starts[index + 1 : index + 2]
        return self.data[start - self.base : end[0] - self.base if end else None]

    def records(self, positions: Positions) -> Positions:
        """Return which record each position in `data` belongs to."""
        if not len(positions):
            return positions
        found: Positions = np.searchsorted(self.offsets, positions, "right") - 1
        return found

    def counts(self, positions: Positions) -> Positions:
        """Count the positions that fall into each record."""
        found: Positions = np.bincount(self.records(positions), minlength=len(self.values))
        return found

    def pairs(self, pair: bytes, mask: int = 0xFFFF) -> Pairs:
        """Mark where two bytes stand, compared in the bits of `mask`, whose low byte is for the first."""
        number = int.from_bytes(pair, "little")
        even, odd = self.doubles if mask == 0xFFFF else (numbers & mask for numbers in self.doubles)
        return Pairs(even == number, odd == number)

    def stands(self, needle: bytes, positions: Positions) -> npt.NDArray[np.bool_]:
        """Mark the positions at which a needle of at most 256 bytes, none of them zero, stands."""
        found = positions >= 0
        for at in range(0, len(needle), 8):
            found &= begin_with(self.windows[positions + at], needle[at : at + 8])
        return found
