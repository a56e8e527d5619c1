"""Which records of a batch may break a rule: searches over all their bytes at once.

The searches may name a clean record, and never miss one that is not; what is named is looked at closely.
"""

import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from yayi_data.content import MOJIBAKE
from yayi_data.domains import Registry
from yayi_data.ruleset import DOMAIN_RULES, RuleSet
from yayi_data.schema import TEXT, TURNS, members
from yayi_data.tags import CLOSE, OPEN, WRONG
from yayi_data.turns import FIRST_ASK, in_order

Positions = npt.NDArray[np.int64]

_REPLACEMENT = "\ufffd".encode()
_MOJIBAKE = tuple(sign.encode() for sign in MOJIBAKE)
_CONTROL_ESCAPES = np.frombuffer(b"bfu", np.uint8)
_BEFORE_TAG = frozenset(WRONG + string.whitespace + "\u3000\xa0")
_FLAT = frozenset(["instruction", "input", "output", "system"])


@dataclass
class Batch:
    """Valid records side by side: parsed, and their bytes; `starts` are where they begin in `data`."""

    values: list[Any]
    data: bytes
    starts: list[int]
    dialect: str
    pairs: dict[tuple[int, int], bool] = field(default_factory=dict)

    @cached_property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The data, as numbers."""
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def flat(self) -> bool:
        """Tell whether the records are alpaca with texts only: no history, no unknown members."""
        return self.dialect == "alpaca" and all(map(_FLAT.issuperset, self.values))

    @cached_property
    def first_asked(self) -> list[str]:
        """The text of each record whose start may hold the domain tag."""
        if self.flat:
            return [value["instruction"] for value in self.values]
        return list(map(FIRST_ASK[self.dialect], self.values))

    def records(self, positions: Positions) -> Positions:
        """Return which record each position in `data` belongs to."""
        return np.searchsorted(self.starts, positions, "right") - 1

    def counts(self, positions: Positions) -> npt.NDArray[np.int64]:
        """Count the positions that fall into each record."""
        return np.bincount(self.records(positions), minlength=len(self.values))

    def followers(self, byte: int) -> tuple[Positions, npt.NDArray[np.uint8]]:
        """Return where a byte stands, and the byte that follows each."""
        found = np.flatnonzero(self.bytes[:-1] == byte)
        return found, self.bytes[found + 1]


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
    text = batch.bytes
    colon = text[1:] == 0x3A
    spaced = colon & (text[:-1] <= 0x20)
    if spaced.any():
        far = _spaced_colons(batch, np.flatnonzero(spaced) + 1)
        return np.concatenate((far, np.flatnonzero(colon & (text[:-1] == 0x22)) + 1))
    return np.flatnonzero(colon & (text[:-1] == 0x22)) + 1


def _spaced_colons(batch: Batch, colons: Positions) -> Positions:
    """Return the colons before whose white space a quote stands."""
    quoted = [at for at in colons.tolist() if batch.data[:at].rstrip(b" \t\r\n").endswith(b'"')]
    return np.asarray(quoted, np.int64)


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
    if batch.flat and not any(any(map(str.isspace, column)) for column in _columns(batch.values)):
        return ()
    return [i for i, value in enumerate(batch.values) if any(map(str.isspace, _texts(batch.dialect, value)))]


def _columns(values: list[Any]) -> Iterable[list[str]]:
    yield [value["instruction"] for value in values]
    yield [value["output"] for value in values]
    yield [value["input"] for value in values if "input" in value]
    yield [value["system"] for value in values if "system" in value]


def _texts(dialect: str, value: Any) -> list[str]:
    texts = [value.get("system", "")]
    if dialect == "alpaca":
        texts += [value["instruction"], value["output"], value.get("input", "")]
        return texts + [text for pair in value.get("history", ()) for text in pair]
    name = TEXT[dialect]
    return texts + [turn.get(name) or "" for turn in value[TURNS[dialect]]]


# Signs


def _unescaped(batch: Batch) -> tuple[Batch, list[int]]:
    r"""Return the batch with \uXXXX and \/ resolved, so that texts can be searched for as they are.

    Records that are nested too deeply to be written again are returned too.
    """
    backslashes, letters = batch.followers(0x5C)
    escapes = backslashes[(letters == 0x75) | (letters == 0x2F)]
    if not len(escapes):
        return batch, []
    escaped = set(batch.records(escapes).tolist())
    raws, unreadable = [], []
    for i, (start, end) in enumerate(zip(batch.starts, [*batch.starts[1:], len(batch.data)], strict=True)):
        raw = batch.data[start:end]
        if i in escaped:
            try:
                raw = orjson.dumps(batch.values[i]) + b"\n"
            except orjson.JSONEncodeError:
                unreadable.append(i)
        raws.append(raw)
    sizes = np.fromiter(map(len, raws), np.int64, len(raws))
    starts: list[int] = (np.cumsum(sizes) - sizes).tolist()
    return Batch(batch.values, b"".join(raws), starts, batch.dialect), unreadable


def _control_characters(plain: Batch) -> Iterable[int]:
    r"""Return records with DEL, a C1 control, or one of \b, \f, \u00 as an escape."""
    leads, second = plain.followers(0xC2)
    found = [leads[second < 0xA0]]
    if b"\x7f" in plain.data:
        found.append(plain.followers(0x7F)[0])
    backslashes, letters = plain.followers(0x5C)
    if len(backslashes):
        first = np.concatenate(([True], np.diff(backslashes) > 1))
        run = backslashes - np.maximum.accumulate(np.where(first, backslashes, 0))
        escape = run % 2 == 0  # in a run, every other backslash is itself escaped
        found.append(backslashes[escape & np.isin(letters, _CONTROL_ESCAPES)])
    return set(plain.records(np.concatenate(found)).tolist())


def _signs(plain: Batch, rules: RuleSet) -> Iterable[int]:
    """Return records that hold control tokens or signs of a broken encoding."""
    needles = [_REPLACEMENT, *_MOJIBAKE, *(token.encode() for token in rules.control_tokens)]
    rare = [needle for needle in needles if _may_occur(plain, needle[0], needle[1])]
    positions = [at for needle in rare for at in _occurrences(plain.data, needle)]
    return set(plain.records(np.asarray(positions, np.int64)).tolist())


def _may_occur(batch: Batch, first: int, second: int) -> bool:
    """Tell whether two bytes follow each other anywhere, faster than a search does."""
    if (first, second) not in batch.pairs:
        text = batch.bytes
        batch.pairs[first, second] = bool(np.any((text[:-1] == first) & (text[1:] == second)))
    return batch.pairs[first, second]


def _occurrences(data: bytes, needle: bytes) -> Iterable[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def _tags(plain: Batch, registry: Registry) -> Iterable[int]:
    """Return records whose brackets are not those of one known tag at the start of the first question."""
    known = registry.domain_by_wording
    tagged = [text[1 : text.find(CLOSE)] in known if text[0] == OPEN else False for text in plain.first_asked]
    odd = [i for i, text in enumerate(plain.first_asked) if text[0] in _BEFORE_TAG]
    opens, closes = (plain.counts(_brackets(plain, last)) for last in (0x90, 0x91))
    expected = np.asarray(tagged)
    return odd + np.flatnonzero((opens != expected) | (closes != expected)).tolist()


def _brackets(batch: Batch, last: int) -> Positions:
    """Return where 【 or 】 stands, by its last byte."""
    text = batch.bytes
    found = np.flatnonzero((text[2:] == last) & (text[1:-1] == 0x80))
    return found[text[found] == 0xE3]
