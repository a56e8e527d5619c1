"""Where the records of a JSON array begin and end: a vectorised scan, checked by a strict parser.

The scan marks quotes and brackets of a whole stretch at once. It is exact where the stretch is valid JSON,
so what it found counts only after a strict parser read it; otherwise records are taken one by one, and a
malformed one costs itself: reading goes on at the next place where a record can start.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from yayi_data.read.scan import skip_space

_GAP = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_QUOTE, _BACKSLASH = 0x22, 0x5C


class Spans(NamedTuple):
    """Records as byte ranges of a stretch that begins where a record is expected."""

    starts: list[int]
    ends: list[int]


def find_spans(data: bytes) -> Spans:
    """Find the objects of depth one in `data`, up to the array's end; a cut-off last one is left out."""
    text = np.frombuffer(data, np.uint8)
    quotes = _quotes(text, data)
    # `{` and `[` differ in one bit, and so do their closers.
    folded = text | 0x20
    brackets = np.flatnonzero((folded == 0x7B) | (folded == 0x7D))
    outside = np.searchsorted(quotes, brackets) % 2 == 0
    brackets = brackets[outside]
    opens = folded[brackets] == 0x7B
    depth = np.cumsum(np.where(opens, 1, -1))
    if (below := np.flatnonzero(depth < 0)).size:
        brackets, opens, depth = brackets[: below[0]], opens[: below[0]], depth[: below[0]]
    starts = brackets[opens & (depth == 1)]
    ends = brackets[~opens & (depth == 0)] + 1
    return Spans(starts[: len(ends)].tolist(), ends.tolist())


def _quotes(text: npt.NDArray[np.uint8], data: bytes) -> npt.NDArray[np.int64]:
    """Return the offsets of quotes that are not escaped: an even number of backslashes before them."""
    quotes = np.flatnonzero(text == _QUOTE)
    if b'\\"' not in data:
        return quotes
    backslashes = text == _BACKSLASH
    first = np.flatnonzero(backslashes[1:] & ~backslashes[:-1]) + 1
    if backslashes[0]:
        first = np.concatenate(([0], first))
    behind = quotes[(quotes > 0) & backslashes[quotes - 1]]
    run = behind - first[np.searchsorted(first, behind) - 1]
    return np.setdiff1d(quotes, behind[run % 2 == 1], assume_unique=True)


def parse_all(data: bytes, spans: Spans) -> list[Any] | None:
    """Parse all records of a stretch together; None unless it is strict JSON and the spans are its items."""
    try:
        values = orjson.loads(b"[%b]" % data[spans.starts[0] : spans.ends[-1]])
    except orjson.JSONDecodeError:
        return None
    return values if len(values) == len(spans.starts) else None


def adjoin(data: bytes, spans: Spans, i: int) -> bool:
    """Tell whether span `i` is followed by a comma and the next span, or by what can follow a record."""
    if i + 1 < len(spans.starts):
        gap = _GAP.match(data, spans.ends[i])
        return gap is not None and gap.end() == spans.starts[i + 1]
    following = skip_space(data, spans.ends[i])
    return data[following : following + 1] in (b",", b"]")


def parses(raw: bytes) -> bool:
    """Tell whether a strict parser reads a record."""
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def places(data: bytes, spans: Spans, line: int, column: int) -> tuple[list[int], list[int]]:
    """Return the lines and columns of the spans of `data`: valid UTF-8 that begins at the given ones.

    Between the spans stands nothing but white space and commas.
    """
    text = np.frombuffer(data, np.uint8)
    starts = np.asarray(spans.starts)
    breaks = np.flatnonzero(text == 0x0A)
    before = np.searchsorted(breaks, starts)
    line_start = np.concatenate(([0], breaks + 1))[before]
    columns = starts - line_start
    if (
        line_start[1:] < spans.ends[:-1]
    ).any():  # records that share a line: their characters must be counted
        characters = np.concatenate(([0], np.cumsum((text & 0xC0) != 0x80, dtype=np.int64)))
        columns = characters[starts] - characters[line_start]
    columns += np.where(before == 0, column, 1)
    return (before + line).tolist(), columns.tolist()
