"""Records that came before, and prompts that came before with another reply: 16 bytes a record.

Two 64-bit hashes of every record are kept, and the places only of records whose prompt may have come before:
a table of marks says so at once. The end of the run tells which of them it did.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yayi_data.rules import RULES
from yayi_data.schema import TURNS
from yayi_data.types import Problem

Ints = npt.NDArray[np.int64]

_MARKS = 1 << 26
_NO_PROMPTS = np.zeros(0, np.int64)


class Prints(NamedTuple):
    """Hashes of a chunk's prompts and records (0 for a record with an error), and the records' places.

    The hashes are Python's own, equal between processes only where PYTHONHASHSEED is.
    """

    prompts: Ints
    records: Ints
    lines: list[int]
    columns: list[int]


def prints(values: Sequence[Any], lines: list[int], columns: list[int], dialect: str) -> Prints:
    """Return the hashes of the records of a chunk; `columns` may be empty, as in a chunk."""
    count = len(values)
    if _usual(values, dialect):  # no Python of ours runs for such a record
        prompts = np.fromiter(map(hash, map(itemgetter("instruction", "input"), values)), np.int64, count)
        replies = np.fromiter(map(hash, map(itemgetter("output"), values)), np.int64, count)
    else:
        prompts = np.fromiter(map(_PROMPTS[dialect], values), np.int64, count)
        replies = np.fromiter(map(_REPLIES[dialect], values), np.int64, count)
    records = (prompts.view(np.uint64) * _MIX ^ replies.view(np.uint64)).view(np.int64)
    return Prints(prompts, records, lines, columns)


def _usual(values: Sequence[Any], dialect: str) -> bool:
    """Tell whether all records have an instruction, an input, an output, and no more."""
    return (
        dialect == "alpaca"
        and None not in values
        and set(map(len, values)) == {3}
        and set().union(*values) == {"instruction", "input", "output"}
    )


_MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with bits all over, so that prompt and reply do not cancel out."""


def _alpaca_prompt(value: Any) -> int:
    if value is None:
        return 0
    prompt = (value["instruction"], value.get("input", ""))
    if value.get("system") or value.get("history"):
        return hash((*prompt, value.get("system") or "", str(value.get("history") or "")))
    return hash(prompt)


def _alpaca_reply(value: Any) -> int:
    return hash(value["output"]) if value else 0


def _prompt_of_turns(dialect: str) -> Callable[[Any], int]:
    name = TURNS[dialect]

    def prompt(value: Any) -> int:
        if value is None:
            return 0
        said = [str(list(turn.values())) for turn in value[name][:-1]]
        return hash((value.get("system") or "", str(value.get("tools") or ""), *said))

    return prompt


def _reply_of_turns(dialect: str) -> Callable[[Any], int]:
    name = TURNS[dialect]
    return lambda value: hash(str(list(value[name][-1].values()))) if value else 0


_PROMPTS: dict[str, Callable[[Any], int]] = {"alpaca": _alpaca_prompt} | {
    d: _prompt_of_turns(d) for d in TURNS
}
_REPLIES: dict[str, Callable[[Any], int]] = {"alpaca": _alpaca_reply} | {d: _reply_of_turns(d) for d in TURNS}


@dataclass(slots=True)
class _Begin:
    """Where a source's records begin in the run's numbering."""

    path: str
    ordinal: int


class _Chunk(NamedTuple):
    """The hashes of a chunk; of the records whose prompt may have come before, the indices and places too."""

    prompts: Ints
    records: Ints
    at: Ints
    lines: Ints
    columns: Ints


@dataclass(slots=True)
class Repeats:
    """Collects the hashes of a run, chunk by chunk in their order."""

    chunks: list[_Chunk] = field(default_factory=list)
    begins: list[_Begin] = field(default_factory=list)
    marks: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(_MARKS, np.bool_))
    count: int = 0

    def add(self, path: str, found: Prints, lines_before: int = 0) -> None:
        """Add a chunk's hashes; its lines count from behind `lines_before` others."""
        if not self.begins or self.begins[-1].path != path:
            self.begins.append(_Begin(path, self.count))
        slots = found.prompts & (_MARKS - 1)
        again = self.marks[slots] | _repeated(slots)
        self.marks[slots] = True
        at = np.flatnonzero(again & (found.prompts != 0))
        lines = np.fromiter((found.lines[i] + lines_before for i in at), np.int64, len(at))
        columns = np.fromiter((found.columns[i] if found.columns else 1 for i in at), np.int64, len(at))
        self.chunks.append(_Chunk(found.prompts, found.records, at, lines, columns))
        self.count += len(found.prompts)

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each record whose prompt came before, in the order of the records."""
        wanted = np.unique(np.concatenate([_NO_PROMPTS, *(c.prompts[c.at] for c in self.chunks)]))
        if not len(wanted):
            return
        earlier, start = _Earlier(), 0
        for chunk in self.chunks:
            near = np.minimum(np.searchsorted(wanted, chunk.prompts), len(wanted) - 1)
            compared = np.flatnonzero(wanted[near] == chunk.prompts)
            rows = zip(*(array[compared].tolist() for array in chunk[:2]), compared.tolist(), strict=True)
            for prompt, record, i in rows:
                if told := earlier.of(start + i, prompt, record):
                    place = int(np.searchsorted(chunk.at, i))
                    yield self._problem(start + i, int(chunk.lines[place]), int(chunk.columns[place]), *told)
            start += len(chunk.prompts)

    def _problem(self, ordinal: int, line: int, column: int, rule: str, first: int) -> Problem:
        here, there = self._begin(ordinal), self._begin(first)
        other = f" of {there.path}" if there.path != here.path else ""
        message = _MESSAGES[rule].format(f"record {first - there.ordinal}{other}")
        severity = RULES[rule].severity
        return Problem(here.path, line, column, ordinal - here.ordinal, "", rule, severity, message)

    def _begin(self, ordinal: int) -> _Begin:
        return next(begin for begin in reversed(self.begins) if begin.ordinal <= ordinal)


_MESSAGES = {
    "duplicate-record": "the same record as {}: keep one of them",
    "conflicting-reply": "the same prompt as {}, with another reply: keep the better one",
}


def _repeated(slots: Ints) -> npt.NDArray[np.bool_]:
    """Mark the slots that stand there before in the same array."""
    order = np.argsort(slots, kind="stable")
    again = np.zeros(len(slots), np.bool_)
    again[order[1:]] = slots[order[1:]] == slots[order[:-1]]
    return again


class _Earlier:
    """The first record of each prompt, and of each prompt with a reply, as far as they were asked for."""

    def __init__(self) -> None:
        self.prompts: dict[int, int] = {}
        self.records: dict[tuple[int, int], int] = {}

    def of(self, ordinal: int, prompt: int, record: int) -> tuple[str, int] | None:
        """Return the rule that a record breaks, and the record that it repeats; None for the first."""
        prompt_first = self.prompts.setdefault(prompt, ordinal)
        record_first = self.records.setdefault((prompt, record), ordinal)
        if record_first < ordinal:
            return "duplicate-record", record_first
        if prompt_first < ordinal:
            return "conflicting-reply", prompt_first
        return None
