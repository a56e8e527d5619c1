"""Which records of a batch may break a rule: searches over all their bytes at once.

The searches may name a clean record, and never miss one that is not; what is named is looked at closely.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from yayi_data.domains import Registry
from yayi_data.schema import TURNS, members
from yayi_data.validate.batch import Batch, Positions
from yayi_data.validate.content import MOJIBAKE
from yayi_data.validate.ruleset import DOMAIN_RULES, RuleSet
from yayi_data.validate.tags import CLOSE, OPEN, WRONG
from yayi_data.validate.turns import FIRST_ASK, in_order

_ENCODING_SIGNS = tuple(sign.encode() for sign in ("\ufffd", *MOJIBAKE))
_COLON = re.compile(rb"[ \t\r\n]*:")
_RARE = {"\ufffd".encode(): 1, "锟斤拷".encode(): 1}
"""Which two bytes of a needle to look for first, where the first two are common in Chinese."""


def _table(characters: bytes) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(256), np.frombuffer(characters, np.uint8))


_CONTROL_ESCAPE = _table(b"bfu")
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


def _control_characters(plain: Batch) -> Iterable[int]:
    r"""Return records with DEL, a C1 control, or one of \b, \f, \u00 as an escape."""
    leads, second = plain.latin
    leads = leads[second < 0xA0]
    found = [leads[plain.bytes[leads] == 0xC2]]
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
    found: dict[bytes, Positions] = {}
    for needle in (*_ENCODING_SIGNS, *(token.encode() for token in rules.control_tokens)):
        at = _RARE.get(needle, 0)
        pair = needle[at : at + 2]
        if pair not in found:
            found[pair] = _pairs(plain, pair)
        yield from set(plain.records(_matching(plain, found[pair] - at, needle)).tolist())


def _pairs(batch: Batch, pair: bytes) -> Positions:
    """Return where two bytes follow each other, several times faster than a search for them."""
    found: Positions
    if pair[0] == 0xC3:
        leads, second = batch.latin
        found = leads[(second == pair[1]) & (batch.bytes[leads] == 0xC3)]
        return found
    if pair[0] < 0x80:
        leads, second = batch.followed(pair[0])
        found = leads[second == pair[1]]
        return found
    value = int.from_bytes(pair, "little")
    even, odd = (np.flatnonzero(numbers == value) for numbers in batch.doubles)
    return np.concatenate((even * 2, odd * 2 + 1))


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
    odd = set(plain.records(_other_brackets(plain)).tolist())
    if plain.flat:
        known = _known_tags(plain, _asked_first(plain, opens), registry)
        if len(known) == len(opens) == len(closes):  # every bracket belongs to such a tag
            return odd
        tagged = plain.counts(known)
    else:
        tagged = _tagged(plain, registry)
    unequal = (plain.counts(opens) != tagged) | (plain.counts(closes) != tagged)
    return odd.union(np.flatnonzero(unequal).tolist())


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


def _other_brackets(plain: Batch) -> Positions:
    """Return where a text begins with a bracket that may have been meant for a tag's."""
    quotes, after = plain.quotes
    needles = [b'"' + bracket.encode() for bracket in WRONG]
    found = np.concatenate([_matching(plain, quotes[after == needle[1]], needle) for needle in needles])
    return _asked_first(plain, found + 1) if plain.flat else found
