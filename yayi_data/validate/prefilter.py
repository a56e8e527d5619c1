"""Which records of a batch may break a rule: searches over all their bytes at once.

The searches may name a clean record, and never miss one that is not; what is named is looked at closely.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from yayi_data.domains import Registry
from yayi_data.schema import TURNS, members
from yayi_data.validate.batch import Batch, Positions, begin_with
from yayi_data.validate.needles import Shapes, mostly_escaped, shapes, signs
from yayi_data.validate.ruleset import DOMAIN_RULES, RuleSet
from yayi_data.validate.tags import CLOSE, OPEN, WRONG
from yayi_data.validate.turns import FIRST_ASK, in_order

_COLON = re.compile(rb"[ \t\r\n]*:")
_ESCAPE = re.compile(rb"\\.")
_COLON_BEHIND_TEXT = re.compile(rb'"[^"]*"[ \t\r\n]*(:?)')
_SPACE = re.compile(
    rb'"(?: |\\[nrt]|\\u[0-9a-fA-F]{4}|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2[\x80\x81][\x80-\xaf]|\xe3\x80\x80)+'
    + f'("|{"|".join(map(re.escape, WRONG))})'.encode()
)
"""A text that begins with white space, and either ends there or goes on with a bracket."""
_TAG = re.compile(f"{OPEN}([^{OPEN}{CLOSE}\r\n]{{1,99}}){CLOSE}")
_HEAD = re.compile(rb'\{\s{0,64}"instruction"\s{0,64}:\s{0,64}"')


def _table(characters: bytes) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(256), np.frombuffer(characters, np.uint8))


_CONTROL_ESCAPE = _table(b"bfu")
_NONE: Positions = np.empty(0, np.int64)


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
    seen = shapes(batch.data) if rules.warns and not mostly_escaped(batch.data) else None
    if rules.warns:
        found.update(_unknown_members(batch))
        found.update(_in_texts(batch, seen, rules))
    spaced = len(seen.spaced) > 0 if seen else _has_spaced_colon(batch)
    return Suspects(found, _repeated_keys(batch, spaced=spaced))


def _in_texts(batch: Batch, seen: Shapes | None, rules: RuleSet) -> Iterator[int]:
    """Yield the records whose texts may hold what they should not."""
    plain = batch
    if seen is None or len(seen.escaped):
        escaped = range(len(batch.values)) if seen is None else batch.records(seen.escaped).tolist()
        plain, unreadable = _unescaped(batch, set(escaped))
        seen = shapes(plain.data)
        yield from unreadable
    blank, indented = _behind_space(plain, seen.blank)
    rare = [signs(plain.data, rules.control_tokens), blank, _low_controls(plain, seen)]
    yield from plain.records(np.concatenate(rare)).tolist()
    if rules.registry and rules.enabled & DOMAIN_RULES:
        yield from _wrong_brackets(plain, np.concatenate((seen.bracket, indented)))
        yield from _tags(plain, rules.registry)


# Keys


def _repeated_keys(batch: Batch, *, spaced: bool) -> set[int]:
    r"""Return records whose bytes hold more keys than the parsed record.

    A quote and a colon stand behind every key, and elsewhere only inside texts (as \": or where a text begins
    with a colon): their count may be too high, never too low. `spaced`: perhaps with white space in between.
    """
    least = _keys_at_least(batch)
    if not spaced and batch.pairs(b'":').total() == sum(least):
        return set()
    doubted = np.flatnonzero(batch.counts(_key_colons(batch)) != np.array(least)).tolist()
    written = {i: _written_keys(batch.record(i)) for i in doubted}
    return {i for i in doubted if written[i] > least[i] and written[i] > _count_keys(batch.values[i])}


def _has_spaced_colon(batch: Batch) -> bool:
    """Tell whether a space, or a byte below it, stands before a colon."""
    return any(bool((numbers - (ord(":") << 8) <= ord(" ")).any()) for numbers in batch.doubles)


def _keys_at_least(batch: Batch) -> list[int]:
    """Count the members of each record and of its turns."""
    turns = TURNS.get(batch.dialect)
    if turns is None:
        return batch.sizes
    return [len(value) + sum(map(len, value[turns])) for value in batch.values]


def _key_colons(batch: Batch) -> Positions:
    """Return the quotes that a colon follows, perhaps behind white space."""
    quotes, after = batch.quotes
    near, spaced = quotes[after == 0x3A], quotes[after <= 0x20]
    far = [at for at in spaced.tolist() if _COLON.match(batch.data, at + 1)]
    return np.concatenate((near, np.asarray(far, np.int64))) if far else near


def _written_keys(raw: bytes) -> int:
    """Count the keys in a valid record's bytes, those that stand there twice included."""
    return sum(map(bool, _COLON_BEHIND_TEXT.findall(_ESCAPE.sub(b"", raw))))


def _count_keys(value: Any) -> int:
    """Count the keys in a parsed value, at any depth."""
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


def _behind_space(plain: Batch, quotes: Positions) -> tuple[Positions, Positions]:
    """Return where a text of white space begins, or of escapes that may stand for it; and where one that
    goes on with a bracket which may have been meant for a tag's.
    """
    found: tuple[list[int], list[int]] = [], []
    for at in quotes.tolist():
        if match := _SPACE.match(plain.data, at):
            found[match[1] != b'"'].append(at)
    return np.array(found[0], np.int64), np.array(found[1], np.int64)


# Signs


def _unescaped(batch: Batch, escaped: set[int]) -> tuple[Batch, list[int]]:
    r"""Return the batch with \uXXXX and \/ resolved, so that texts can be searched for as they are.

    Records that are nested too deeply to be written again are returned too.
    """
    raws, unreadable = [], []
    for i, value in enumerate(batch.values):
        raw = batch.record(i)
        if i in escaped:
            try:
                raw = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
            except orjson.JSONEncodeError:
                unreadable.append(i)
        raws.append(raw)
    starts = [0, *accumulate(map(len, raws[:-1]))]
    return Batch(batch.values, b"".join(raws), starts, batch.dialect), unreadable


def _low_controls(plain: Batch, seen: Shapes) -> Positions:
    r"""Return where DEL stands, or one of \b, \f and \u00 as an escape."""
    found = np.flatnonzero(plain.codes == 0x7F) if b"\x7f" in plain.data else _NONE
    if not len(seen.low) and not len(seen.escaped):
        return found
    backslashes, letters = plain.backslashes
    first = np.concatenate(([True], np.diff(backslashes) > 1))
    run = backslashes - np.maximum.accumulate(np.where(first, backslashes, 0))
    escape = run % 2 == 0  # in a run, every other backslash is itself escaped
    return np.concatenate((found, backslashes[escape & _CONTROL_ESCAPE[letters]]))


# Tags


def _tags(plain: Batch, registry: Registry) -> Iterator[int]:
    """Yield records in which a bracket may be that of a broken, unknown, second or misplaced tag."""
    tagged = _tagged(plain, registry)
    brackets = plain.pairs(b"\x80\x90", 0xFEFF)  # 【 and 】 are E3 80 90 and E3 80 91; others may end alike
    if brackets.total() == 2 * tagged.sum():  # every bracket belongs to one known tag at the start
        return
    found = brackets.positions()
    found = found[plain.codes[found - 1] == 0xE3]
    asked = FIRST_ASK[plain.dialect]
    for i in np.flatnonzero(plain.counts(found) != 2 * tagged).tolist():
        begin = asked(plain.values[i])
        if tagged[i]:
            begin = begin[begin.find(CLOSE) + 1 :]
        names = _TAG.findall(plain.record(i).decode())
        known = sum(name.strip() in registry.domain_by_wording or "\\" in name for name in names)
        if (
            known > tagged[i]
            or OPEN in begin.lstrip()[:1]
            or (not tagged[i] and CLOSE in begin.lstrip()[:34])
        ):
            yield i


def _wrong_brackets(plain: Batch, quotes: Positions) -> Iterator[int]:
    """Yield the records, of those that hold these quotes, whose first question begins with such a bracket."""
    asked = FIRST_ASK[plain.dialect]
    for i in set(plain.records(quotes).tolist()):
        if asked(plain.values[i]).lstrip().startswith(tuple(WRONG)):
            yield i


def _tagged(plain: Batch, registry: Registry) -> Positions:
    """Return 1 for each record that begins with a known tag, 0 for the others."""
    if plain.flat and len(begins := _instructions(plain)):
        return _known_tags(plain, begins, registry)
    known = registry.domain_by_wording
    asked = map(FIRST_ASK[plain.dialect], plain.values)
    return np.array(
        [text[0] == OPEN and text[1 : text.find(CLOSE, 1, 35)] in known for text in asked], np.int64
    )


def _instructions(plain: Batch) -> Positions:
    """Return where the texts of the instructions begin, if all records begin with them in the same way."""
    head = _HEAD.match(plain.data, plain.offsets[0])
    if head and plain.stands(head[0], plain.offsets).all():
        return plain.offsets + len(head[0])
    return _NONE


def _known_tags(plain: Batch, begins: Positions, registry: Registry) -> Positions:
    """Return 1 for each of those places at which a known tag stands."""
    tagged = np.zeros(len(begins), np.int64)
    first = plain.windows[begins]
    opened = np.flatnonzero(begin_with(first, OPEN.encode()))
    left, first = len(opened), first[opened]
    for wordings in zip_longest(*registry.domains.values()):  # the usual ones first
        for wording in wordings:
            if wording and left:
                tag = f"{OPEN}{wording}{CLOSE}".encode()
                alike = opened[begin_with(first, tag[:8])]
                known = alike[plain.stands(tag, begins[alike])]
                tagged[known] = 1
                left -= len(known)
    return tagged
