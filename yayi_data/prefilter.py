"""Which records of a batch may break a rule: searches over all their bytes at once.

The searches may name a clean record, and never miss one that is not; what is named is looked at closely.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from yayi_data.content import MOJIBAKE
from yayi_data.domains import Registry
from yayi_data.ruleset import DOMAIN_RULES, RuleSet
from yayi_data.schema import TURNS, members
from yayi_data.tags import CLOSE, OPEN, WRONG
from yayi_data.turns import FIRST_ASK, in_order

Positions = npt.NDArray[np.int64]
Followed = tuple[Positions, npt.NDArray[np.uint8]]

_ENCODING_SIGNS = tuple(sign.encode() for sign in ("\ufffd", *MOJIBAKE))
_RARE = {"\ufffd".encode(): 1, "锟斤拷".encode(): 1}
"""Which two bytes of a needle to look for first, where the first two are common in Chinese."""


def _table(characters: bytes) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(256), np.frombuffer(characters, np.uint8))


_CONTROL_ESCAPE = _table(b"bfu")
_MAY_BE_SPACE = _table(b" \\\xc2\xe1\xe2\xe3")
"""What a text of white space can begin with: a space, an escape, or the first byte of a wider one."""
_MAY_BE_BRACKET = _table(bytes(bracket.encode()[0] for bracket in WRONG))

_FLAT = frozenset(["instruction", "input", "output", "system"])


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
        return self.dialect == "alpaca" and all(map(_FLAT.issuperset, self.values))

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


@dataclass(slots=True)
class Suspects:
    """Indices of records to look at: for what they say, and for keys that may stand there twice."""

    content: set[int]
    keys: set[int]


def suspicious(batch: Batch, rules: RuleSet) -> Suspects:
    """Return the records of a batch that must be looked at closely."""
    found: set[int] = set()
    if not batch.values:
        return Suspects(found, set())
    if batch.dialect in TURNS:
        found.update(i for i, value in enumerate(batch.values) if not in_order(batch.dialect, value))
    if rules.warns:
        found.update(_unknown_members(batch), _blank(batch))
        plain, unreadable = _unescaped(batch)
        found.update(unreadable, _control_characters(plain), _signs(plain, rules))
        if rules.registry and rules.enabled & DOMAIN_RULES:
            found.update(_tags(plain, rules.registry))
    return Suspects(found, _repeated_keys(batch))


# Keys


def _repeated_keys(batch: Batch) -> set[int]:
    r"""Return records whose bytes may hold more keys than the parsed record.

    A quote and a colon stand behind every key, and elsewhere only inside texts (as \": or where a text begins
    with a colon): the count in the bytes may be too high, never too low.
    """
    colons = _key_colons(batch)
    expected = list(map(len, batch.values)) if batch.flat else list(map(_count_keys, batch.values))
    if len(colons) == sum(expected):
        return set()
    return set(np.flatnonzero(batch.counts(colons) != np.asarray(expected)).tolist())


def _key_colons(batch: Batch) -> Positions:
    colons = np.flatnonzero(batch.bytes == 0x3A)
    before = batch.bytes[colons - 1]
    near = colons[before == 0x22]
    far = colons[before <= 0x20]
    if not len(far):
        return near
    quoted = [at for at in far.tolist() if batch.data[:at].rstrip(b" \t\r\n").endswith(b'"')]
    return np.concatenate((near, np.asarray(quoted, np.int64)))


def _count_keys(value: Any) -> int:
    count, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            count += len(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    return count


# Members and texts


def _unknown_members(batch: Batch) -> Iterable[int]:
    if batch.flat:
        return ()
    known = members(batch.dialect)
    record, turn = frozenset(known["record"]), frozenset(known["turn"])
    name = TURNS.get(batch.dialect, "")
    return [
        i
        for i, value in enumerate(batch.values)
        if not record.issuperset(value) or not all(map(turn.issuperset, value.get(name, ())))
    ]


def _blank(batch: Batch) -> Iterable[int]:
    """Return records with a text that begins with white space, or with what may stand for it."""
    quotes, after = batch.quotes
    spaces = quotes[_MAY_BE_SPACE[after]]
    text = batch.bytes
    spaces = spaces[spaces < len(text) - 3]
    wide = text[spaces + 1] >= 0xE2
    third = text[spaces + 3]
    # 0x80 ends U+3000; of U+2000 to U+205F the curly quotes, which begin many texts, are no white space.
    kept = ~wide | (third <= 0x8A) | (third >= 0x9F) & (text[spaces + 1] == 0xE2)
    return set(batch.records(spaces[kept]).tolist())


# Signs


def _unescaped(batch: Batch) -> tuple[Batch, list[int]]:
    r"""Return the batch with \uXXXX and \/ resolved, so that texts can be searched for as they are.

    Records that are nested too deeply to be written again are returned too.
    """
    backslashes, letters = batch.backslashes
    escapes = backslashes[(letters == 0x75) | (letters == 0x2F)]
    if not len(escapes):
        return batch, []
    escaped = set(batch.records(escapes).tolist())
    raws, unreadable = [], []
    starts = [start - batch.base for start in batch.starts]
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], len(batch.data)], strict=True)):
        raw = batch.data[start:end]
        if i in escaped:
            try:
                raw = orjson.dumps(batch.values[i]) + b"\n"
            except orjson.JSONEncodeError:
                unreadable.append(i)
        raws.append(raw)
    sizes = np.fromiter(map(len, raws), np.int64, len(raws))
    begins: list[int] = (np.cumsum(sizes) - sizes).tolist()
    return Batch(batch.values, b"".join(raws), begins, batch.dialect), unreadable


def _control_characters(plain: Batch) -> Iterable[int]:
    r"""Return records with DEL, a C1 control, or one of \b, \f, \u00 as an escape."""
    leads, second = plain.followed(0xC2)
    found = [leads[second < 0xA0]]
    if b"\x7f" in plain.data:
        found.append(plain.followed(0x7F)[0])
    backslashes, letters = plain.backslashes
    if len(backslashes):
        first = np.concatenate(([True], np.diff(backslashes) > 1))
        run = backslashes - np.maximum.accumulate(np.where(first, backslashes, 0))
        escape = run % 2 == 0  # in a run, every other backslash is itself escaped
        found.append(backslashes[escape & _CONTROL_ESCAPE[letters]])
    return set(plain.records(np.concatenate(found)).tolist())


def _signs(plain: Batch, rules: RuleSet) -> Iterable[int]:
    """Return records that hold control tokens or signs of a broken encoding."""
    found: dict[tuple[bytes, int], Positions] = {}
    for needle in (*_ENCODING_SIGNS, *(token.encode() for token in rules.control_tokens)):
        at = _RARE.get(needle, 0)
        pair = needle[at : at + 2]
        if (pair, at) not in found:
            found[pair, at] = _pairs(plain, pair) - at
        yield from set(plain.records(_matching(plain, found[pair, at], needle)).tolist())


def _occurrences(batch: Batch, needle: bytes, rare: int) -> Positions:
    """Return where a needle stands; its two bytes at `rare` should seldom occur."""
    return _matching(batch, _pairs(batch, needle[rare : rare + 2]) - rare, needle)


def _pairs(batch: Batch, pair: bytes) -> Positions:
    """Return where two bytes follow each other, several times faster than a search for them."""
    text = batch.bytes
    return np.flatnonzero((text[:-1] == pair[0]) & (text[1:] == pair[1]))


def _matching(batch: Batch, candidates: Positions, needle: bytes) -> Positions:
    candidates = candidates[(candidates >= 0) & (candidates <= len(batch.data) - len(needle))]
    for i, byte in enumerate(needle):
        candidates = candidates[batch.bytes[candidates + i] == byte]
    return candidates


def _tags(plain: Batch, registry: Registry) -> Iterable[int]:
    """Return records whose brackets are not those of one known tag at the start of the first question."""
    known = registry.domain_by_wording
    asked = list(map(FIRST_ASK[plain.dialect], plain.values)) if not plain.flat else _instructions(plain)
    tagged = [text[0] == OPEN and text[1 : text.find(CLOSE, 1, 35)] in known for text in asked]
    opens, closes = (_occurrences(plain, bracket.encode(), 1) for bracket in (OPEN, CLOSE))
    odd: set[int] = set(plain.records(_other_brackets(plain)).tolist())
    expected = np.asarray(tagged, np.int64)
    unequal = (plain.counts(opens) != expected) | (plain.counts(closes) != expected)
    return odd.union(np.flatnonzero(unequal).tolist())


def _instructions(plain: Batch) -> list[str]:
    return [value["instruction"] for value in plain.values]


def _other_brackets(plain: Batch) -> Positions:
    """Return where a text begins with a bracket that may have been meant for a tag's."""
    quotes, after = plain.quotes
    quotes = quotes[_MAY_BE_BRACKET[after]]
    brackets = [_matching(plain, quotes, b'"' + bracket.encode()) for bracket in WRONG]
    return np.concatenate(brackets)
