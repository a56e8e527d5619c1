"""A strict JSON scanner that knows where it is: the slow path, for text that a fast parser refused.

It finds the first character at which a strict parser must fail, faults that fast parsers let pass
(duplicate keys) or report without a place, and the byte offsets of chosen values and keys.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_DEPTH = 1024
"""Nesting that orjson reads; both must refuse the same records."""

TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels: remove the member, or write it as a text"

Path = tuple[str | int, ...]
"""Keys and indices from the record down to a value."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_BAD_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)?(?:(?<=[0-9])\.[0-9]*)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?")
"""As much as can begin a number: one that ends with a digit is whole."""
_NUMBER_STARTS = frozenset(b"%c" % byte for byte in b"-0123456789")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LITERALS = (b"true", b"false", b"null")
_ESCAPES = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r"}
_NOT_NUMBERS = (b"NaN", b"Infinity", b"-Infinity")


class Fault(NamedTuple):
    """One fault at a byte offset; `rule` as in the table of rules, `path` where it is known."""

    offset: int
    rule: str
    message: str
    path: Path = ()


@dataclass(slots=True)
class Scan:
    """What a scan found: `end` is one past the value, or where scanning had to stop at a syntax fault.

    `members` are the keys of the outermost object.
    """

    end: int = 0
    syntax: Fault | None = None
    faults: list[Fault] = field(default_factory=list)
    values: dict[Path, int] = field(default_factory=dict)
    keys: dict[Path, int] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)


def scan(raw: bytes, start: int = 0, wanted: Collection[Path] = ()) -> Scan:
    """Scan the one value that starts at or after `start`; offsets of the `wanted` paths are collected."""
    scanner = _Scanner(raw, wanted)
    try:
        scanner.found.end = scanner.document(start)
    except _Stop as stop:
        scanner.found.end = stop.fault.offset
        scanner.found.syntax = stop.fault
    return scanner.found


def scan_record(raw: bytes, wanted: Collection[Path] = ()) -> Scan:
    """Scan a record that must fill its bytes, spaces apart."""
    found = scan(raw, 0, wanted)
    end = skip_space(raw, found.end)
    if found.syntax is None and end < len(raw):
        found.syntax = Fault(
            end, "syntax", f"{shown(raw, end)} after the end of the record{_after(raw, end)}"
        )
    return found


def skip_space(raw: bytes, start: int) -> int:
    """Return the offset of the first byte at or after `start` that is no JSON white space."""
    match = _SPACE.match(raw, start)
    return match.end() if match else start


def shown(raw: bytes, offset: int) -> str:
    """Name what stands at an offset: a character, an invalid byte, or the end."""
    if offset >= len(raw):
        return "the end"
    character = raw[offset : offset + 4].decode("utf-8", "replace")[0]
    if not raw.startswith(character.encode(), offset):
        return f"the invalid byte 0x{raw[offset]:02x}"
    if character.isprintable() and character != " ":
        return f"{character!r}" if character.isascii() else f"{character!r} (U+{ord(character):04X})"
    return {"\n": "a line break", "\t": "a tab"}.get(character, f"U+{ord(character):04X}")


def _after(raw: bytes, end: int) -> str:
    if raw[end : end + 1] == b",":
        return ": JSON Lines holds one record a line, with no comma between them"
    return ": put each record on its own line" if raw[end : end + 1] == b"{" else _step(raw, end)


_COMMENT = "JSON has no comments, remove it"
_STEPS = {
    b"//": _COMMENT,
    b"/*": _COMMENT,
    b"#": _COMMENT,
    b"'": "texts and keys stand in double quotes",
    b"None": "write null",
    b"True": "write true",
    b"False": "write false",
    b"\x00": "save the file as UTF-8",
    b"\xff": "save the file as UTF-8",
    b"\xfe": "save the file as UTF-8",
}
"""What to do about text of other languages and encodings, by how it begins."""


def _step(raw: bytes, offset: int) -> str:
    """Return what to do about what stands where JSON cannot go on, "" where nobody knows."""
    if offset >= len(raw):
        return ": it breaks off here, was the file cut short?"
    if raw[offset : offset + 1] in (b"}", b"]") and raw[:offset].rstrip().endswith(b","):
        return ": remove the comma before it"
    return next((f": {step}" for start, step in _STEPS.items() if raw.startswith(start, offset)), "")


class _Stop(Exception):  # noqa: N818 - it ends a scan, and is never seen outside
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def _stop(offset: int, message: str) -> _Stop:
    return _Stop(Fault(offset, "syntax", message))


class _Scanner:
    """Walks one value with its own stack, so that no nesting can exhaust Python's."""

    def __init__(self, raw: bytes, wanted: Collection[Path]) -> None:
        self.raw = raw
        self.wanted = wanted
        self.found = Scan()
        self.path: list[str | int] = []
        self.keys: list[set[str]] = []
        self.expects_value = True

    def document(self, position: int) -> int:
        """Scan one value, containers included, and return its end."""
        while self.expects_value or self.path:
            position = skip_space(self.raw, position)
            position = self.value(position) if self.expects_value else self.next_member(position)
        return position

    def value(self, position: int) -> int:
        if self.wanted and (path := tuple(self.path)) in self.wanted:
            self.found.values[path] = position
        self.expects_value = False
        head = self.raw[position : position + 1]
        if head == b'"':
            return self.string(position)[0]
        if head in (b"{", b"["):
            return self.opened(position, head)
        return self.scalar(position)

    def opened(self, position: int, head: bytes) -> int:
        """Step into a container: to its first value, or past its end where it is empty."""
        if len(self.path) >= MAX_DEPTH:
            raise _stop(position, TOO_DEEP)
        first = skip_space(self.raw, position + 1)
        if self.raw[first : first + 1] == (b"}" if head == b"{" else b"]"):
            return first + 1
        self.expects_value = True
        self.path.append(0 if head == b"[" else "")
        self.keys.append(set() if self.keys else self.found.members)
        return first if head == b"[" else self.key(first, "a key in double quotes or }")

    def next_member(self, position: int) -> int:
        """Step from behind a member to the next value, or past the container's end."""
        head, inside = self.raw[position : position + 1], self.path[-1]
        if head == (b"]" if isinstance(inside, int) else b"}"):
            self.path.pop()
            self.keys.pop()
            return position + 1
        if head != b",":
            raise _stop(position, self.unexpected(position))
        position = skip_space(self.raw, position + 1)
        self.expects_value = True
        if isinstance(inside, int):
            self.path[-1] = inside + 1
            return position
        return self.key(position, "a key in double quotes")

    def unexpected(self, position: int) -> str:
        inside = self.path[-1]
        closing = "]" if isinstance(inside, int) else "}"
        name = f"the value of {inside!r}" if isinstance(inside, str) else f"item {inside}"
        message = f"expected , or {closing} after {name}, found {shown(self.raw, position)}"
        quoted = self.raw[:position].rstrip().endswith(b'"') and position < len(self.raw)
        return message + ('; a quote inside a text is written \\"' if quoted else _step(self.raw, position))

    def key(self, position: int, expected: str) -> int:
        """Scan a key and its colon; note it where it is wanted or stands there for the second time."""
        if self.raw[position : position + 1] != b'"':
            raise _stop(
                position, f"expected {expected}, found {shown(self.raw, position)}{_step(self.raw, position)}"
            )
        self.path[-1] = "?"
        end, key = self.string(position)
        self.path[-1] = key
        if key in self.keys[-1]:
            message = f"the key {key!r} stands twice in one object: remove one of the two"
            self.fault(position, "duplicate-key", message)
        self.keys[-1].add(key)
        if self.wanted and (path := tuple(self.path)) in self.wanted:
            self.found.keys[path] = position
        colon = skip_space(self.raw, end)
        if self.raw[colon : colon + 1] != b":":
            raise _stop(colon, f"expected : after the key {key!r}, found {shown(self.raw, colon)}")
        return colon + 1

    def fault(self, offset: int, rule: str, message: str) -> None:
        self.found.faults.append(Fault(offset, rule, message, tuple(self.path)))

    def string(self, position: int) -> tuple[int, str]:
        """Scan a string token; return its end and its text."""
        match = _STRING.match(self.raw, position + 1)
        end = match.end() if match else position + 1
        if self.raw[end : end + 1] != b'"':
            raise _stop(*self.broken_string(end))
        body = self.raw[position + 1 : end]
        text = self.decoded(body, position + 1)
        return end + 1, self.unescaped(text, position) if b"\\" in body else text

    def broken_string(self, end: int) -> tuple[int, str]:
        if end >= len(self.raw):
            return end, "the text ends inside a string: its closing quote is missing"
        if match := _BAD_ESCAPE.match(self.raw, end):
            offset = match.end()
            found = f"{shown(self.raw, offset)} does not continue the escape {match[0].decode()}"
            return offset, f"{found}; a backslash is written \\\\"
        escape = _ESCAPES.get(self.raw[end], f"\\u{self.raw[end]:04x}")
        return end, f"{shown(self.raw, end)} inside a string: write it as {escape}, or remove it"

    def decoded(self, body: bytes, start: int) -> str:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            offset = start + error.start
            message = f"the byte 0x{self.raw[offset]:02x} is not UTF-8: save the file as UTF-8"
            if not any(fault.rule == "encoding-utf8" for fault in self.found.faults):
                self.fault(offset, "encoding-utf8", message)
            return body.decode("utf-8", "replace")

    def unescaped(self, text: str, position: int) -> str:
        """Resolve a string's escapes; half a surrogate pair is a fault."""
        unescaped: str = json.loads(f'"{text}"')
        if lone := _SURROGATE.search(unescaped):
            message = (
                f"\\u{ord(lone[0]):04x} at character {lone.start() + 1} is half of a surrogate pair: "
                "write the whole character"
            )
            self.fault(position, "encoding-surrogate", message)
        return unescaped

    def scalar(self, position: int) -> int:
        for word in _NOT_NUMBERS:
            if self.raw.startswith(word, position):
                message = f"{word.decode()} is not JSON: use a number or null"
                self.fault(position, "not-a-number", message)
                return position + len(word)
        if self.raw[position : position + 1] in _NUMBER_STARTS:
            return self.number(position)
        for word in _LITERALS:
            if self.raw[position : position + 1] == word[:1]:
                return self.literal(position, word)
        raise _stop(
            position, f"expected a value, found {shown(self.raw, position)}{_step(self.raw, position)}"
        )

    def number(self, position: int) -> int:
        match = _NUMBER.match(self.raw, position)
        end = match.end() if match else position
        if not self.raw[position:end][-1:].isdigit():
            raise _stop(end, f"expected a digit, found {shown(self.raw, end)}")
        return end

    def literal(self, position: int, word: bytes) -> int:
        for i in range(len(word)):
            if self.raw[position + i : position + i + 1] != word[i : i + 1]:
                message = f"expected {word.decode()}, found {shown(self.raw, position + i)}"
                raise _stop(position + i, message)
        return position + len(word)
