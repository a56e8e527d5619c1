"""Fill rows from a histogram of lengths: which lengths share a row, and how often each such pattern occurs.

Each row begins with the largest length left, goes on with lengths as they come in a seeded draw, and is
closed with one length or two that fit exactly. Sets of lengths are bits of an integer, so "which pairs add up
to r?" is one AND of the set with itself reversed: the cost follows the range of lengths, not the number of
examples.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

Pattern = tuple[list[int], int]
"""The lengths in a row, and the number of rows that are filled so."""


def fill(counts: Sequence[int], seq_len: int, draws: Sequence[int]) -> list[Pattern]:
    """Return patterns that use up `counts[length]` examples of each length in rows of `seq_len` slots.

    `draws` are lengths in a random order, as frequent as they are in the data; they decide what the rows are
    made of, so other draws give other companions. Closing rows early leaves almost no slot free; where the
    lengths do not add up well, closing them later is tried too, and the best kept.
    """
    tokens = sum(length * n for length, n in enumerate(counts))
    mean = tokens // max(1, sum(counts))
    best: list[Pattern] = []
    for closing in (2 * mean, mean, 0):
        patterns = list(_Filler(list(counts), seq_len, cycle(draws), closing).patterns())
        if not best or _rows(patterns) < _rows(best):
            best = patterns
        if _rows(best) * seq_len <= tokens * 1.002 + seq_len:
            break
    return best


def _rows(patterns: list[Pattern]) -> int:
    return sum(rows for _, rows in patterns)


@dataclass(slots=True)
class _Filler:
    """What is left to place; a row is closed by a pair once at most `closing` of its slots are free."""

    counts: list[int]
    seq_len: int
    draws: Iterator[int]
    closing: int

    def patterns(self) -> Iterator[Pattern]:
        """Yield patterns until every length is used up."""
        longest = len(self.counts) - 1
        left = sum(1 << length for length, n in enumerate(self.counts) if n)
        mirrored = sum(1 << (longest - length) for length, n in enumerate(self.counts) if n)
        while left:
            row = self._row(left, mirrored)
            used = Counter(row)
            # Half of what is possible: the lengths wear down together, so exact fits remain to the end.
            rows = max(1, min(self.counts[length] // n for length, n in used.items()) // 2)
            for length, n in used.items():
                self.counts[length] -= n * rows
                if not self.counts[length]:
                    left ^= 1 << length
                    mirrored ^= 1 << (longest - length)
            yield row, rows

    def _row(self, left: int, mirrored: int) -> list[int]:
        """Choose one row; a length l that is left is bit l of `left` and bit longest - l of `mirrored`."""
        longest = len(self.counts) - 1
        used: Counter[int] = Counter()
        row: list[int] = []
        free, length = self.seq_len, left.bit_length() - 1
        while True:
            row.append(length)
            free -= length
            used[length] += 1
            if used[length] == self.counts[length]:
                left ^= 1 << length
                mirrored ^= 1 << (longest - length)
            fitting = left & ((2 << free) - 1)
            if not free or not fitting:
                return row
            if fitting >> free & 1:
                length = free
                continue
            draw = next(self.draws)
            close = free <= self.closing or draw >= free
            pairs = self._pairs(fitting, mirrored, free, used) if close else 0
            length = _nearest(pairs or fitting, draw)

    def _pairs(self, fitting: int, mirrored: int, free: int, used: Counter[int]) -> int:
        """Return the lengths of `fitting` whose complement to `free` is left too."""
        shift = len(self.counts) - 1 - free
        pairs = fitting & (mirrored >> shift if shift >= 0 else mirrored << -shift)
        half = free // 2
        if free == 2 * half and pairs >> half & 1 and self.counts[half] - used[half] < 2:
            pairs ^= 1 << half  # one example cannot be both halves
        return pairs


def _nearest(lengths: int, draw: int) -> int:
    """Return the largest of `lengths` up to `draw`, or the smallest where all are larger."""
    lower = lengths & ((2 << draw) - 1)
    return lower.bit_length() - 1 if lower else (lengths & -lengths).bit_length() - 1
