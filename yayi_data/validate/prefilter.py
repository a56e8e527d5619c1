"""Which records of a batch may break a rule: searches over all their bytes at once.

The searches may name a clean record, and never miss one that is not; what is named is looked at closely.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from yayi_data.domains import Registry
from yayi_data.schema import TURNS, members
from yayi_data.validate.batch import Batch, Positions
from yayi_data.validate.content import MOJIBAKE
from yayi_data.validate.ruleset import DOMAIN_RULES, RuleSet
from yayi_data.validate.tags import CLOSE, OPEN, WRONG
from yayi_data.validate.turns import FIRST_ASK, in_order

_COLON = re.compile(rb"[ \t\r\n]*:")


def _table(characters: bytes) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(256), np.frombuffer(characters, np.uint8))


_CONTROL_ESCAPE = _table(b"bfu")
_NONE: Positions = np.empty(0, np.int64)
_BLANK = re.compile(
    rb'"(?: |\\[nrt]|\\u[0-9a-fA-F]{4}|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2[\x80\x81][\x80-\xaf]|\xe3\x80\x80)+"'
)
_MAY_BE_SPACE = _table(b" \\\xc2\xe1\xe2")
"""What a text of white space can begin with, U+3000 apart: a space, an escape, a wider one's first byte."""


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
        found.update(unreadable, _low_controls(plain), _signs(plain, rules))
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
    """Return the quotes that a colon follows, perhaps behind white space."""
    quotes, after = batch.quotes
    near, spaced = quotes[after == 0x3A], quotes[after <= 0x20]
    far = [at for at in spaced.tolist() if _COLON.match(batch.data, at + 1)]
    return np.concatenate((near, np.asarray(far, np.int64))) if far else near


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
    """Return records with a text of white space, or of escapes that may stand for it."""
    quotes, after = batch.quotes
    wide = _matching(batch, quotes[after == 0xE3], '"\u3000'.encode())
    spaces = np.concatenate((quotes[_MAY_BE_SPACE[after]], wide))
    blank = [at for at in spaces.tolist() if _BLANK.match(batch.data, at)]
    return set(batch.records(np.asarray(blank, np.int64)).tolist())


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


def _low_controls(plain: Batch) -> Iterable[int]:
    r"""Return records with DEL, or one of \b, \f and \u00 as an escape."""
    found = plain.followed(0x7F)[0] if b"\x7f" in plain.data else _NONE
    backslashes, letters = plain.backslashes
    if not len(backslashes):
        return set(plain.records(found).tolist())
    first = np.concatenate(([True], np.diff(backslashes) > 1))
    run = backslashes - np.maximum.accumulate(np.where(first, backslashes, 0))
    escape = run % 2 == 0  # in a run, every other backslash is itself escaped
    escaped = backslashes[escape & _CONTROL_ESCAPE[letters]]
    return set(plain.records(np.concatenate((found, escaped))).tolist())


def _signs(plain: Batch, rules: RuleSet) -> Iterable[int]:
    """Return records that hold one of the needles."""
    found = _needles(rules.control_tokens).find_matches_as_indexes(plain.data)
    signs = np.array([start for needle, start, _ in found if needle >= len(WRONG)], np.int64)
    brackets = np.array([start + 1 for needle, start, _ in found if needle < len(WRONG)], np.int64)
    if plain.flat:  # elsewhere than in questions they are usual
        brackets = _asked_first(plain, brackets)
    return set(plain.records(np.concatenate((signs, brackets))).tolist())


@lru_cache(maxsize=1)
def _needles(control_tokens: tuple[str, ...]) -> BytesAhoCorasick:
    """Return what finds at once all signs of trouble that are rare.

    They are control tokens, the C1 control characters, signs of a broken encoding, and texts that begin with
    a bracket that may have been meant for a tag's.
    """
    controls = map(chr, range(0x80, 0xA0))
    brackets = [f'"{bracket}' for bracket in WRONG]
    needles = [*brackets, "\ufffd", *MOJIBAKE, *control_tokens, *controls]
    # The library's vectorised search knows only this kind of match, and no needle of one byte.
    return BytesAhoCorasick([needle.encode() for needle in needles], MatchKind.LeftmostLongest)


def _matching(batch: Batch, candidates: Positions, needle: bytes) -> Positions:
    """Return the candidates at which a needle stands, comparing eight bytes at a time."""
    if not len(candidates):
        return candidates
    candidates = candidates[candidates >= 0]
    inside = candidates[candidates < len(batch.data) - len(needle) - 7]
    late = candidates[candidates >= len(batch.data) - len(needle) - 7].tolist()
    for at in range(0, len(needle), 8):
        piece = needle[at : at + 8]
        mask = np.uint64((1 << 8 * len(piece)) - 1)
        inside = inside[(batch.windows[inside + at] & mask) == int.from_bytes(piece, "little")]
    late = [at for at in late if batch.data.startswith(needle, at)]
    return np.concatenate((inside, np.asarray(late, np.int64))) if late else inside


def _tags(plain: Batch, registry: Registry) -> Iterable[int]:
    """Return records whose brackets are not those of one known tag at the start of the first question."""
    opens, closes = _brackets(plain)
    if plain.flat:
        known = _known_tags(plain, _asked_first(plain, opens), registry)
        if len(known) == len(opens) == len(closes):  # every bracket belongs to such a tag
            return ()
        tagged = plain.counts(known)
    else:
        tagged = _tagged(plain, registry)
    unequal = (plain.counts(opens) != tagged) | (plain.counts(closes) != tagged)
    return np.flatnonzero(unequal).tolist()


def _brackets(plain: Batch) -> tuple[Positions, Positions]:
    """Return where 【 and 】 stand: E3 80 90 and E3 80 91, found by their last two bytes."""
    even, odd = (np.flatnonzero((numbers & 0xFEFF) == 0x9080) for numbers in plain.doubles)
    found = np.concatenate((even * 2, odd * 2 + 1))
    found = found[plain.bytes[found - 1] == 0xE3]
    last = plain.bytes[found + 1]
    return found[last == 0x90] - 1, found[last == 0x91] - 1


def _tagged(plain: Batch, registry: Registry) -> Positions:
    """Return 1 for each record that begins with a known tag, 0 for the others."""
    known = registry.domain_by_wording
    asked = map(FIRST_ASK[plain.dialect], plain.values)
    begins = [text[0] == OPEN and text[1 : text.find(CLOSE, 1, 35)] in known for text in asked]
    return np.asarray(begins, np.int64)


def _asked_first(plain: Batch, opens: Positions) -> Positions:
    """Return the brackets that begin the text of an instruction."""
    for key in (b'"instruction": "', b'"instruction":"'):
        if len(found := _matching(plain, opens - len(key), key)):
            return found + len(key)
    return opens[:0]


def _known_tags(plain: Batch, opens: Positions, registry: Registry) -> Positions:
    found = [opens[:0]]
    for wordings in zip_longest(*registry.domains.values()):  # the usual ones first
        for wording in wordings:
            if wording and sum(map(len, found)) < len(opens):
                found.append(_matching(plain, opens, f"{OPEN}{wording}{CLOSE}".encode()))
    return np.concatenate(found)
