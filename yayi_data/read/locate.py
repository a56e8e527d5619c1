"""From byte offsets to lines and columns that a person sees, and problems placed there. Slow path only."""

from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from yayi_data.read.scan import Fault, Path
from yayi_data.rules import RULES
from yayi_data.types import Problem

_BEFORE, _AFTER = 40, 60
"""Characters of a line shown before and after the place of a problem."""

SHOWN_BYTES = 4 * _AFTER
"""Bytes from a place on that hold all that is shown: a character has four at most."""


class Where(NamedTuple):
    """The place where a stretch of bytes begins: what a problem inside it is placed against."""

    path: str
    record: int | None
    line: int
    column: int


def advance(line: int, column: int, data: bytes) -> tuple[int, int]:
    """Return the line and column behind `data`, given those of its first byte.

    Columns count code points, one for an invalid byte; lines end at LF.
    """
    lines = data.count(b"\n")
    if lines:
        return line + lines, 1 + characters(data[data.rfind(b"\n") + 1 :])
    return line, column + characters(data)


def characters(data: bytes) -> int:
    """Count code points, one for each invalid byte."""
    return len(data.decode("utf-8", "surrogateescape"))


def pointer(path: Path) -> str:
    """Write a path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def problem(where: Where, raw: bytes, offset: int, rule: str, message: str, path: Path = ()) -> Problem:
    """Make the problem that stands at a byte offset of `raw`, which begins at `where`."""
    return problems(where, raw, [Fault(offset, rule, message, path)])[0]


def problems(where: Where, raw: bytes, faults: Iterable[Fault]) -> list[Problem]:
    """Make the problems of `raw`, which begins at `where`, in the order of their places."""
    made, behind, line, column = [], 0, where.line, where.column
    for offset, rule, message, path in sorted(faults, key=itemgetter(0)):
        line, column = advance(line, column, raw[behind:offset])
        behind = offset
        severity, shown = RULES[rule].severity, _snippet(raw, offset)
        made.append(
            Problem(where.path, line, column, where.record, pointer(path), rule, severity, message, *shown)
        )
    return made


def _snippet(raw: bytes, offset: int) -> tuple[str, int]:
    left = raw[max(0, offset - 4 * _BEFORE) : offset].rpartition(b"\n")[2]
    right = raw[offset : offset + SHOWN_BYTES].partition(b"\n")[0]
    before = left.decode("utf-8", "replace")[-_BEFORE:]
    return before + right.decode("utf-8", "replace")[:_AFTER].rstrip("\r"), len(before)
