"""Signs of trouble that are rare, searched for in the bytes of many records at once."""

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from yayi_data.validate.batch import Positions
from yayi_data.validate.content import MOJIBAKE, REPLACEMENT
from yayi_data.validate.tags import WRONG

_SPACES = (0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
"""White space that JSON texts may hold as it is."""

_SHAPES = {
    "escaped": [r"\u", r"\/"],
    "low": [r"\b", r"\f"],
    "bracket": [f'"{bracket}' for bracket in WRONG],
    "blank": [*(f'"{chr(space)}' for space in _SPACES), r'"\n', r'"\r', r'"\t'],
    "spaced": [f'"{space}{after}' for space in " \t\r\n" for after in " \t\r\n:"],
}
"""Needles by what they are a sign of. None begins within another but at its start, so none hides another."""


def mostly_escaped(data: bytes) -> bool:
    r"""Tell by samples whether a byte in a hundred begins a \u: too many to look at one by one."""
    samples = range(0, len(data), 1 << 16)
    return sum(data.count(rb"\u", at, at + 4096) for at in samples) > 40 * len(samples)


class Shapes(NamedTuple):
    r"""Where something stands that may matter.

    `escaped`: \u or \/. `low`: \b or \f. `bracket`: a text that begins with a bracket which may have been
    meant for a tag's. `blank`: a text that may be white space. `spaced`: a quote with white space between it
    and a colon, perhaps.
    """

    escaped: Positions
    low: Positions
    bracket: Positions
    blank: Positions
    spaced: Positions


def shapes(data: bytes) -> Shapes:
    """Find the escapes and quotes in JSON text that may matter."""
    found: dict[str, list[int]] = {kind: [] for kind in _SHAPES}
    kinds = [kind for kind, needles in _SHAPES.items() for _ in needles]
    for needle, start, _ in _shapes().find_matches_as_indexes(data):
        found[kinds[needle]].append(start)
    found["blank"] += found["spaced"]  # the longer needle hides the shorter one
    return Shapes(**{kind: np.array(starts, np.int64) for kind, starts in found.items()})


def signs(data: bytes, control_tokens: tuple[str, ...]) -> Positions:
    """Return where control tokens, C1 control characters and signs of a broken encoding stand.

    Of those that overlap, one is found.
    """
    found = _signs(control_tokens).find_matches_as_indexes(data)
    return np.array([start for _, start, _ in found], np.int64)


@cache
def _shapes() -> BytesAhoCorasick:
    return _searcher(needle for needles in _SHAPES.values() for needle in needles)


@lru_cache(maxsize=1)
def _signs(control_tokens: tuple[str, ...]) -> BytesAhoCorasick:
    return _searcher([REPLACEMENT, *MOJIBAKE, *control_tokens, *map(chr, range(0x80, 0xA0))])


def _searcher(needles: Iterable[str]) -> BytesAhoCorasick:
    """Return what finds all needles at once.

    The library's vectorised search knows only this kind of match, at most 64 needles, and none of one byte.
    """
    return BytesAhoCorasick([needle.encode() for needle in needles], MatchKind.LeftmostLongest)
