"""Where the next record of an array plausibly begins, after one that is malformed."""

import re

from yayi_data.read.scan import Scan, scan, skip_space

REACH = 1 << 16
"""Bytes from a record's start that tell whether it is one."""

LOOK_BEHIND = 64

# In valid JSON this matches structure only, since a quote inside a text is escaped.
_OBJECT = re.compile(rb'\{[ \t\r\n]*"([^"\\]{1,64})"[ \t\r\n]*:')
_OF_RECORDS = frozenset(("instruction", "system", "conversations", "messages"))
_OF_TURNS = frozenset(("from", "value", "role", "content", "type", "function", "name", "arguments"))
"""Members that records alone have, and first keys of objects inside records; `id` may be either."""

_MOST_BROKEN = 16
"""Malformed objects that are looked at before one is a record: a record has few around one fault."""

_BESIDE = b",[}]"
"""What stands before a record that is not in the midst of a text."""


def next_start(data: bytes, start: int, end: int, first_key: bytes) -> int | None:
    """Return the first offset in [start, end) where a record plausibly begins.

    `first_key` is the first key of the file's first record. `data` should reach `REACH` bytes past `end`.
    """
    usual, broken = first_key.decode(errors="replace"), 0
    while (match := _OBJECT.search(data, start)) and match.start() < end:
        at, key = match.start(), match[1].decode(errors="replace")
        start = at + 1
        if key in _OF_TURNS and key != usual:
            continue
        before = data[max(0, at - LOOK_BEHIND) : at].rstrip()[-1:]
        if key in _OF_RECORDS and before in _BESIDE:
            return at
        if broken > _MOST_BROKEN:
            continue
        found = scan(data[at : at + REACH])
        following = skip_space(data, at + found.end)
        ended = found.syntax is None and data[following : following + 1] not in b",]{"
        if _is_record(found, key, usual, before) and (before in _BESIDE or not ended):
            return at
        broken += found.syntax is not None
        start = at + (1 if found.syntax else found.end)
    return None


def begins_record(data: bytes, at: int, first_key: bytes) -> bool:
    """Tell whether a record plausibly begins at an offset."""
    return next_start(data, at, at + 1, first_key) is not None


def _is_record(found: Scan, key: str, usual: str, before: bytes) -> bool:
    """Judge an object by its members, and more strictly behind a colon, where it is mostly a value."""
    known = not found.members.isdisjoint(_OF_RECORDS)
    if before == b":":
        return known and key == usual
    return known or (key == usual and key not in _OF_TURNS and key != "id")
