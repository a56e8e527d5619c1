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
import orjson
import xxhash

from yayi_data.rules import RULES
from yayi_data.schema import TURNS
from yayi_data.types import Chunk, Problem
from yayi_data.validate import Checked

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint32]

_MARKS = 1 << 26


class Prints(NamedTuple):
    """Hashes of a chunk's prompts and records (0 for a record with an error), and the records' places."""

    prompts: Ints
    records: Ints
    lines: Sequence[int]
    columns: list[int]


Hashed = str | bytes | tuple[str, ...]

Hash = Callable[[Hashed], int]
"""Python's own `hash`, equal between processes only where PYTHONHASHSEED is, or the slower `stable_hash`."""


def stable_hash(content: Hashed) -> int:
    """Return a signed 64-bit hash that is the same in every run."""
    text = "\0".join(content) if isinstance(content, tuple) else content
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return xxhash.xxh3_64_intdigest(data) - (1 << 63)


def prints(chunk: Chunk, checked: Checked, dialect: str, hashed: Hash = hash) -> Prints:
    """Return the hashes of the records of a chunk."""
    values: list[Any] = checked.values
    count = len(values)
    if checked.usual:  # no Python of ours runs for such a record
        asked, replied = map(itemgetter("instruction", "input"), values), map(itemgetter("output"), values)
        prompts = np.fromiter(map(hashed, asked), np.int64, count)
        replies = np.fromiter(map(hashed, replied), np.int64, count)
    else:
        prompt, reply = _PROMPTS[dialect], _REPLIES[dialect]
        prompts = np.fromiter((0 if v is None else hashed(prompt(v)) for v in values), np.int64, count)
        replies = np.fromiter((0 if v is None else hashed(reply(v)) for v in values), np.int64, count)
    records = (prompts.view(np.uint64) * _MIX ^ replies.view(np.uint64)).view(np.int64)
    return Prints(prompts, records, chunk.lines, chunk.columns)


_MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with bits all over, so that prompt and reply do not cancel out."""


def _alpaca_prompt(value: Any) -> tuple[str, ...]:
    prompt = (value["instruction"], value.get("input", ""))
    if value.get("system") or value.get("history"):
        return (*prompt, value.get("system") or "", str(value.get("history") or ""))
    return prompt


def _prompt_of_turns(dialect: str) -> Callable[[Any], bytes]:
    name = TURNS[dialect]
    return lambda value: _written([value.get("system") or "", value.get("tools") or "", value[name][:-1]])


def _reply_of_turns(dialect: str) -> Callable[[Any], bytes]:
    name = TURNS[dialect]
    return lambda value: _written(value[name][-1])


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested too deeply for it
        return str(value).encode()


_PROMPTS: dict[str, Callable[[Any], Hashed]] = {"alpaca": _alpaca_prompt} | {
    d: _prompt_of_turns(d) for d in TURNS
}
_REPLIES: dict[str, Callable[[Any], Hashed]] = {"alpaca": itemgetter("output")} | {
    d: _reply_of_turns(d) for d in TURNS
}


@dataclass(slots=True)
class _Begin:
    """Where a source's records begin in the run's numbering."""

    path: str
    ordinal: int


class _Chunk(NamedTuple):
    """The hashes of a chunk; of the records whose prompt may have come before, the indices and places too.

    `columns` is empty where all are 1.
    """

    prompts: Ints
    records: Ints
    at: Places
    lines: Places
    columns: Places

    def place(self, row: int) -> tuple[int, int]:
        """Return the line and column of a record whose prompt may have come before."""
        at = np.searchsorted(self.at, row)
        return int(self.lines[at]), int(self.columns[at]) if len(self.columns) else 1


class Repeat(NamedTuple):
    """A record that breaks a rule because of an earlier one, `first`; both count over the whole run.

    `record` is its hash, `row` its place in its chunk.
    """

    rule: str
    first: int
    ordinal: int
    record: int
    chunk: _Chunk
    row: int


_NONE: Ints = np.zeros(0, np.int64)


def _unique(chunks: list[_Chunk]) -> Ints:
    """Return the prompts of some chunks that may have come before, each once: often much fewer."""
    found = [chunk.prompts[chunk.at] for chunk in chunks if len(chunk.at)]
    return np.unique(np.concatenate(found)) if found else _NONE


def _short(numbers: list[int]) -> Places:
    return np.array(numbers, np.uint32)


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
        at = np.flatnonzero(again & (found.prompts != 0)).astype(np.uint32)
        lines = [found.lines[i] + lines_before for i in at.tolist()]
        columns = [found.columns[i] for i in at.tolist()] if found.columns else []
        self.chunks.append(_Chunk(found.prompts, found.records, at, _short(lines), _short(columns)))
        self.count += len(found.prompts)

    def found(self) -> Iterator[Repeat]:
        """Yield the records whose prompt came before, in the order of the records."""
        wanted = self._doubted()
        if not len(wanted):
            return
        earlier, start = _Earlier(), 0
        for chunk in self.chunks:
            near = np.minimum(np.searchsorted(wanted, chunk.prompts), len(wanted) - 1)
            compared = np.flatnonzero(wanted[near] == chunk.prompts)
            columns = chunk.prompts[compared], chunk.records[compared], compared
            for prompt, record, i in zip(*map(np.ndarray.tolist, columns), strict=True):
                if told := earlier.of(start + i, prompt, record):
                    yield Repeat(*told, start + i, record, chunk, i)
            start += len(chunk.prompts)

    def _doubted(self) -> Ints:
        """Return the prompts that may stand there twice, each once, sorted."""
        found = [_unique(self.chunks[i : i + 64]) for i in range(0, len(self.chunks), 64)]
        found = [prompts for prompts in found if len(prompts)]
        return np.unique(np.concatenate(found)) if found else _NONE

    def problem(self, repeat: Repeat) -> Problem:
        """Return the problem that a repeat is."""
        here, there = self._begin(repeat.ordinal), self._begin(repeat.first)
        other = f" of {there.path}" if there.path != here.path else ""
        message = _MESSAGES[repeat.rule].format(
            f"record {repeat.first - there.ordinal}{other} (counted from 0)"
        )
        return Problem(
            here.path,
            *repeat.chunk.place(repeat.row),
            repeat.ordinal - here.ordinal,
            "",
            repeat.rule,
            RULES[repeat.rule].severity,
            message,
            content=f"{repeat.record:x}",
        )

    def _begin(self, ordinal: int) -> _Begin:
        return next(begin for begin in reversed(self.begins) if begin.ordinal <= ordinal)


_MESSAGES = {
    "duplicate-record": "the same record as {}: keep one of them",
    "conflicting-reply": "the same prompt as {}, with another reply: keep the better one",
}


def _repeated(slots: Ints) -> npt.NDArray[np.bool_]:
    """Mark the slots that stand there before in the same array."""
    ordered = np.sort(slots)
    if not (ordered[1:] == ordered[:-1]).any():  # as nearly always
        return np.zeros(len(slots), np.bool_)
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
