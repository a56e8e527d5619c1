"""Records side by side, with the positions of the bytes that matter: what the prefilters search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Followed = tuple[Positions, npt.NDArray[np.uint8]]

_FLAT = frozenset(["instruction", "input", "output", "system"])


def is_flat(values: Sequence[Any], dialect: str) -> bool:
    """Tell whether valid records are alpaca with texts only: no history, no unknown members."""
    return dialect == "alpaca" and _FLAT.issuperset(set().union(*values))


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
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The data as numbers."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def offsets(self) -> Positions:
        """Where the records begin in `data`."""
        return np.asarray(self.starts, np.int64) - self.base

    @cached_property
    def flat(self) -> bool:
        """Tell whether the records are alpaca with texts only: no history, no unknown members."""
        return is_flat(self.values, self.dialect)

    @cached_property
    def windows(self) -> npt.NDArray[np.uint64]:
        """The eight bytes from each offset on, as one number; the last seven offsets have none."""
        return np.ndarray((max(0, len(self.data) - 7),), "<u8", self.data, strides=(1,))

    @cached_property
    def doubles(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
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
        found = np.flatnonzero(self.bytes[:-1] == byte)
        return found, self.bytes[found + 1]

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
