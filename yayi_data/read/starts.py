"""Where the next record of an array plausibly begins, after one that is malformed."""

import re

from yayi_data.read.scan import Scan, scan, skip_space

REACH = 1 << 16
"""Bytes from a record's start that tell whether it is one."""

LOOK_BEHIND = 64

# In valid JSON this matches structure only, since a quote inside a text is escaped.
_OBJECT = re.compile(rb'\{[ \t\r\n]*"([^"\\]{1,64})"[ \t\r\n]*:')
_OF_RECORDS = frozenset(("instruction", "system", "conversations", "messages"))
_INSIDE = frozenset(
    (b"from", b"value", b"role", b"content", b"type", b"function", b"name", b"arguments", b"id")
)
"""First keys of objects inside records, which therefore tell nothing."""


def next_start(data: bytes, start: int, end: int, first_key: bytes) -> int | None:
    """Return the first offset in [start, end) where a record plausibly begins.

    `first_key` is the first key of the file's first record. `data` should reach `REACH` bytes past `end`.
    """
    while (match := _OBJECT.search(data, start)) and match.start() < end:
        found = scan(data[match.start() : match.start() + REACH])
        if _is_record(data, match, found, first_key):
            return match.start()
        start = match.start() + (1 if found.syntax else found.end)
    return None


def begins_record(data: bytes, at: int, first_key: bytes) -> bool:
    """Tell whether a record plausibly begins at an offset."""
    return next_start(data, at, at + 1, first_key) is not None


def _is_record(data: bytes, match: re.Match[bytes], found: Scan, first_key: bytes) -> bool:
    """Judge an object by its members, and by what stands around it."""
    at = match.start()
    before = data[max(0, at - LOOK_BEHIND) : at].rstrip()[-1:]
    usual = match[1] == first_key
    known = not found.members.isdisjoint(_OF_RECORDS)
    if before == b":":  # mostly a member's value
        return usual and known
    if not known and not (usual and first_key not in _INSIDE):
        return False
    # What is whole and stands in the midst of words is an example in a text.
    following = skip_space(data, at + found.end)
    return found.syntax is not None or before in b",[}]" or data[following : following + 1] in b",]{"
