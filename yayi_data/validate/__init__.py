"""Records -> problems: a fast path that says which records are clean, and exact places for the others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from shlex import quote
from typing import Any

import numpy as np
import orjson

from yayi_data.console import one_line
from yayi_data.errors import DataError
from yayi_data.read.buffer import MAX_RECORD_BYTES
from yayi_data.read.locate import Where, problems
from yayi_data.read.records import first_chunks
from yayi_data.read.scan import Fault, scan_record, skip_space
from yayi_data.read.sources import DamagedStreamError, Source, blocks
from yayi_data.schema import TURNS, accepts
from yayi_data.types import Chunk, Problem, Severity
from yayi_data.validate.batch import Batch
from yayi_data.validate.findings import find
from yayi_data.validate.prefilter import suspicious
from yayi_data.validate.ruleset import RuleSet

__all__ = ["ERRORS", "Checked", "RuleSet", "check", "detect"]


@dataclass(slots=True)
class Checked:
    """What checking a chunk gave: parsed records (None where one has an error), problems in their order.

    `usual`: all records have an instruction, an input, an output, no more, and no error.
    """

    values: list[Any | None]
    problems: list[Problem]
    usual: bool


def detect(source: Source) -> str:
    """Return the dialect of a source, from its first records.

    Raises DataError where none fits: with the first fault at its place, where reading found one.
    """
    looked, first = 0, None
    for chunk in first_chunks(source):
        for raw in chunk.raws[: _LOOKED_AT - looked]:
            value = _parsed(raw)
            if dialect := _dialect(_leniently(raw) if value is _BROKEN else value):
                return dialect
        first = first or next(iter(check_syntax(chunk, source, ERRORS)), None)
        looked += len(chunk)
        if looked >= _LOOKED_AT:
            break
    if first is None:
        raise DataError(f"{source.path}: holds no records: was the step before this one cut short?")
    first = one_document(source) or first
    raise DataError(
        f"{first.path}:{first.line}:{first.column}: {first.rule} {first.message}; "
        f"yayi-data validate {quote(first.path)} lists all"
    )


_LOOKED_AT = 100
_EXPECTED = (
    "`instruction` and `output` (alpaca), `conversations` (multi-turn, sharegpt) or `messages`; "
    "`yayi-data validate --dialect NAME` tells what a record lacks"
)


def _dialect(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    if isinstance(turns := value.get("conversations"), list):
        roles = {str(turn.get("from")) for turn in turns if isinstance(turn, dict)}
        return "sharegpt" if "yayi" not in roles and (roles - {"human"} or "tools" in value) else "multi-turn"
    if isinstance(value.get("messages"), list):
        return "messages"
    return "alpaca" if "instruction" in value or "output" in value else None


def _other_dialect(value: Any, dialect: str) -> str | None:
    """Return the dialect of a record that has no member of the file's own; None where it has."""
    other = _dialect(value)
    own = (TURNS[dialect],) if dialect in TURNS else ("instruction", "output")
    return other if other and not any(name in value for name in own) else None


_APART = "put it into a file of its own, or convert all to one dialect with yayi-data convert"


def _evidence(value: Any) -> str:
    """Say what a record is, where no dialect was recognised by it."""
    if not isinstance(value, dict):
        kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
        return f"the record is {kinds.get(type(value), 'a number')}"
    names = [f"`{one_line(name)[:40]}`" for name in value]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the record has {', '.join(names[:_SHOWN]) or 'no members'}{more}"


_SHOWN = 8


def check(chunk: Chunk, source: Source, dialect: str, rules: RuleSet) -> Checked:
    """Check the records of a chunk; a pure function of its arguments."""
    values, valid, batch = _parse(chunk, dialect)
    checked = Checked(list(values), list(chunk.problems), batch.usual)
    suspects = suspicious(batch, rules)
    keys = {valid[i] for i in suspects.keys}
    closely = keys.union(valid[i] for i in suspects.content)
    in_doubt = set() if len(valid) == len(chunk) else set(range(len(chunk))).difference(valid)
    for i in sorted(closely | in_doubt):
        if not chunk.raws[i]:
            checked.values[i] = None  # reading has told why
            continue
        look = _Look(chunk, i, values[i], source, dialect)
        problems = look.problems(rules, valid=i not in in_doubt, keys=i in keys)
        if i in in_doubt or any(problem.severity is Severity.ERROR for problem in problems):
            checked.values[i] = None
        checked.problems += problems
    checked.problems = sorted((p for p in checked.problems if p.rule in rules.enabled), key=by_place)
    checked.usual &= None not in checked.values
    return checked


def check_syntax(chunk: Chunk, source: Source, rules: RuleSet) -> list[Problem]:
    """Check what needs no dialect; the first record that is sound is told not to have one."""
    found = list(chunk.problems)
    for i, raw in enumerate(chunk.raws):
        value = _parsed(raw)
        look = _Look(chunk, i, value, source, "")
        if raw and value is _BROKEN:
            found += look.problems(rules, valid=False, keys=False)
        elif raw and chunk.number + i < _LOOKED_AT and not any(p.rule == "dialect" for p in found):
            found.append(look.unclear())
    return sorted((p for p in found if p.rule in rules.enabled), key=by_place)


def one_document(source: Source) -> Problem | None:
    """Return the problem of a file that is one JSON value over several lines, each of them broken."""
    if source.kind != "jsonl" or (text := _small(source)) is None:
        return None
    whole = Chunk(source.index, 0, [1], [0], [text])
    value = _parsed(whole.raws[0])
    if value is _BROKEN or b"\n" not in whole.raws[0].strip():
        return None
    look = _Look(whole, 0, value, source, "")
    return look.unclear()._replace(message=ONE_DOCUMENT)


def _small(source: Source) -> bytes | None:
    """Return the text of a source; None where it is too long to hold, or damaged."""
    held, size = [], 0
    try:
        for block in blocks(source, keep=True):
            held.append(block)
            size += len(block)
            if size > MAX_RECORD_BYTES:
                return None
    except DamagedStreamError:
        return None
    return b"".join(held)


ONE_DOCUMENT = "the file is one JSON value over several lines: put its records in an array, or one a line"


def by_place(problem: Problem) -> tuple[int, int, str]:
    """Order the problems of one file."""
    return problem.line, problem.column, problem.rule


_BROKEN = object()
"""Stands for the value of a record that does not parse."""


def _parse(chunk: Chunk, dialect: str) -> tuple[list[Any], Sequence[int], Batch]:
    """Return the values of the records, and the indices of those that parse and that the schema accepts."""
    if chunk.values is None and (batch := _parsed_together(chunk, dialect)):
        return batch.values, range(len(chunk)), batch
    validator = accepts(dialect)
    if chunk.values is not None and chunk.data and validator.is_valid(chunk.values):  # none is malformed
        return chunk.values, range(len(chunk)), _batch(chunk, chunk.values, range(len(chunk)), dialect)
    values = chunk.values or list(map(_parsed, chunk.raws))
    read = zip(chunk.raws, values, strict=True)
    valid = [i for i, (raw, value) in enumerate(read) if raw and value is not _BROKEN]
    if not validator.is_valid([values[i] for i in valid]):
        valid = [i for i in valid if validator.is_valid([values[i]])]
    return values, valid, _batch(chunk, values, valid, dialect)


def _batch(chunk: Chunk, values: list[Any], valid: Sequence[int], dialect: str) -> Batch:
    """Put the valid records of a chunk side by side."""
    if len(valid) == len(chunk) and chunk.data:
        return Batch(values, chunk.data, chunk.starts, dialect, chunk.starts[0])
    raws = [chunk.raws[i] for i in valid]
    starts = list(accumulate((len(raw) + 1 for raw in raws[:-1]), initial=0))
    return Batch([values[i] for i in valid], b"\n".join(raws), starts, dialect)


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _BROKEN


def _leniently(raw: bytes) -> Any:
    """Parse a record whose only faults are such as NaN or an invalid byte, for what else may be wrong."""
    try:
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _BROKEN


def _parsed_together(chunk: Chunk, dialect: str) -> Batch | None:
    """Parse all lines at once as one array, a third faster; None where that might not be the same.

    A line break is kept behind each comma, so no text can span two lines. Every line ends with a closing
    brace, which in a flat record of texts only is its end; so as many values as lines are one each.
    """
    if dialect != "alpaca" or not chunk.data or not _lines_end_records(chunk):
        return None
    lines = chunk.data.removesuffix(b"\n").replace(b"\n", b",\n")
    try:
        values = orjson.loads(b"".join((b"[", lines, b"]")))
    except orjson.JSONDecodeError:
        return None
    batch = Batch(values, chunk.data, chunk.starts, dialect, chunk.starts[0])
    together = len(values) == len(chunk) and accepts(dialect).is_valid(values)
    return batch if together and batch.flat else None


def _lines_end_records(chunk: Chunk) -> bool:
    """Tell whether every line's last byte is a closing brace."""
    text = np.frombuffer(chunk.data, np.uint8)
    ends = np.asarray(chunk.starts[1:], np.int64) - chunk.starts[0] - 2
    return bool((text[ends] == ord("}")).all()) and chunk.data.endswith((b"}", b"}\n"))


@dataclass(frozen=True, slots=True)
class _Look:
    """A close look at one record."""

    chunk: Chunk
    index: int
    value: Any
    source: Source
    dialect: str

    def problems(self, rules: RuleSet, *, valid: bool, keys: bool) -> list[Problem]:
        raw = self.chunk.raws[self.index]
        broken = _faults(raw) if self.value is _BROKEN else []
        value = _leniently(raw) if broken else self.value
        if value is _BROKEN or not self.dialect or any(fault.rule == "syntax" for fault in broken):
            return self._placed(raw, broken)
        if not valid and (other := _other_dialect(value, self.dialect)):
            message = f"the record is {other}, the file {self.dialect}: {_APART}"
            return self._placed(raw, [Fault(skip_space(raw, 0), "dialect", message)])
        at_faults = {fault.path for fault in broken}
        found = [
            finding
            for finding in find(value, self.dialect, rules, valid=valid)
            if finding.path not in at_faults
        ]
        if not found and not broken and valid and not keys:
            return []
        scan = scan_record(raw, {finding.path for finding in found})
        for rule, path, message, at_key in found:
            scan.faults.append(Fault((scan.keys if at_key else scan.values)[path], rule, message, path))
        return self._placed(raw, scan.faults)

    def unclear(self) -> Problem:
        """Say that no dialect fits this record."""
        raw = self.chunk.raws[self.index]
        message = f"{_evidence(self.value)}, which fits no dialect: expected {_EXPECTED}"
        return self._placed(raw, [Fault(skip_space(raw, 0), "dialect", message)])[0]

    def _placed(self, raw: bytes, faults: list[Fault]) -> list[Problem]:
        chunk, i = self.chunk, self.index
        column = chunk.columns[i] if chunk.columns else 1
        return problems(Where(self.source.path, chunk.number + i, chunk.lines[i], column), raw, faults)


def _faults(raw: bytes) -> list[Fault]:
    """Return what is wrong with a record that the fast parser refused."""
    scan = scan_record(raw)
    faults = [*scan.faults, scan.syntax] if scan.syntax else scan.faults
    if not any(fault.rule != "duplicate-key" for fault in faults):
        # Should the two parsers ever disagree, the record is still not called clean.
        faults = [*faults, Fault(0, "syntax", "a strict parser does not read this record")]
    return faults


ERRORS = RuleSet.errors_only()
"""The rules that `pack` and `convert` ask for."""
