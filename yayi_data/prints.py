"""What tells records apart and where each stands: 50 bytes and a signature a record, never its text.

Partitions are read by any number of processes; texts are read again from the file where one is needed.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from yayi_data.convert import FROM
from yayi_data.domains import Registry, load_registry
from yayi_data.errors import ConversionError, DataError
from yayi_data.near import Bands, Grams, Signatures, grams, normalised, signatures
from yayi_data.read import Partition, Source, chunks, partitions
from yayi_data.runner import run
from yayi_data.types import Chunk, Conversation, Problem
from yayi_data.validate import ERRORS, check

JOB_BYTES = 4 << 20
_HELD = 1 << 22  # grams that are kept for the next comparison: 32 MB


@dataclass(frozen=True, slots=True)
class Drop:
    """A record that cannot be compared: its source, record, line, and why."""

    source: int
    record: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Prints:
    """The sound records in the order of the input: parallel arrays; and those with an error.

    A record is `length` bytes from `start` of its source; `digest` is two numbers, equal where the compared
    texts are; `warnings` tell of errors between records, which cost none.
    """

    source: NDArray[np.int32]
    record: NDArray[np.int64]
    line: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    digest: NDArray[np.uint64]
    signature: Signatures
    drops: list[Drop] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.line)


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are read: the bands of their signatures, what an error does, domain tags, processes."""

    bands: Bands
    on_problem: str
    domains: str | None
    workers: int


@dataclass(frozen=True, slots=True)
class _Job:
    partition: Partition
    dialect: str
    bands: Bands
    on_problem: str


def compared_text(talk: Conversation, registry: Registry) -> str:
    """Return the text by which conversations are compared: their turns, without the domain tag, normalised.

    The system prompt and the tools are left out: many records share them, and would look alike by them.
    """
    asked = next((i for i, turn in enumerate(talk.turns) if turn.role == "user"), -1)
    said = [registry.strip(turn.text) if i == asked else turn.text for i, turn in enumerate(talk.turns)]
    return normalised("\n".join(said))


def spooled(source: Source, first: int, spool: Path) -> list[Partition]:
    """Cut a source into partitions whose records can be read again by their byte range."""
    return partitions(source, first, JOB_BYTES, spool)[0]


def print_records(
    parts: Sequence[tuple[Partition, str]], reading: Reading, advance: Callable[[int], None]
) -> Prints:
    """Read the partitions, each with its dialect, and return the prints of their records in order.

    Raises DataError at the first record with an error unless such records are to be dropped.
    """
    jobs = [_Job(part, dialect, reading.bands, reading.on_problem) for part, dialect in parts]
    workers = min(reading.workers, len(jobs))
    found = []
    for job, made in zip(
        jobs, run(_print_part, jobs, workers, partial(load_registry, reading.domains)), strict=True
    ):
        advance(_size(job.partition))
        found.append(made)
    return _joined(found)


def _size(part: Partition) -> int:
    return (part.end if part.end >= 0 else part.source.size or part.start) - part.start


def _print_part(registry: Registry, job: _Job) -> Prints:
    made = [_print_chunk(registry, job, chunk) for chunk in chunks(job.partition)]
    return _joined(made or [_print_chunk(registry, job, Chunk(0, 0, [], [], []))])


def _print_chunk(registry: Registry, job: _Job, chunk: Chunk) -> Prints:
    source, drops = job.partition.source, []
    checked = check(chunk, source, job.dialect, ERRORS)
    if checked.problems and job.on_problem == "fail":
        raise DataError(_told(checked.problems[0]) + _LEAVE)
    reasons = {problem.record: problem.rule for problem in reversed(checked.problems)}
    at: list[int] = []
    texts: list[str] = []
    for i, value in enumerate(checked.values):
        try:
            if value is not None:
                texts.append(compared_text(FROM[job.dialect](value), registry))
                at.append(i)
                continue
            reason = reasons[chunk.number + i]
        except ConversionError as error:
            reason = error.reason
            if job.on_problem == "fail":
                raise DataError(f"{source.path}:{chunk.lines[i]}: {reason} {error}{_LEAVE}") from None
        drops.append(Drop(source.index, chunk.number + i, chunk.lines[i], reason))
    digests = [xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in texts]
    return Prints(
        source=np.full(len(at), source.index, np.int32),
        record=np.array(at, np.int64) + chunk.number,
        line=np.array([chunk.lines[i] for i in at], np.int64),
        start=np.array([chunk.starts[i] for i in at], np.int64),
        length=np.array([len(chunk.raws[i]) for i in at], np.int64),
        digest=np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2),
        signature=signatures(texts, job.bands),
        drops=drops,
        warnings=[_told(problem) for problem in checked.problems if problem.record is None],
    )


_LEAVE = "; --on-problem drop leaves such records out"


def _told(problem: Problem) -> str:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    return f"{place}: {problem.rule} {problem.pointer} {problem.message}"


_COLUMNS = ("source", "record", "line", "start", "length", "digest", "signature")


def _joined(parts: Sequence[Prints]) -> Prints:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS
    }
    drops = [drop for part in parts for drop in part.drops]
    return Prints(**columns, drops=drops, warnings=[told for part in parts for told in part.warnings])


class Records:
    """Reads records again by their byte range, and holds the grams of the last ones that were compared."""

    def __init__(
        self, prints: Prints, sources: Sequence[Source], dialects: Sequence[str], registry: Registry
    ):
        self.prints, self.sources, self.dialects, self.registry = prints, sources, dialects, registry
        self._files = ExitStack()
        self._opened: dict[int, BinaryIO] = {}
        self._grams: dict[int, Grams] = {}
        self._held = 0

    def raw(self, i: int) -> bytes:
        """Return a record's bytes; DataError where its file is shorter now."""
        prints, number = self.prints, int(self.prints.source[i])
        file = self._opened.get(number)
        if file is None:
            path = Path(self.sources[number].location)
            file = self._opened[number] = self._files.enter_context(path.open("rb"))
        file.seek(int(prints.start[i]))
        raw = file.read(int(prints.length[i]))
        if len(raw) < prints.length[i]:
            raise self._changed(i)
        return raw

    def text(self, i: int) -> str:
        """Return the text of a record as it is compared."""
        number = int(self.prints.source[i])
        try:
            value = orjson.loads(self.raw(i))
            text = compared_text(FROM[self.dialects[number]](value), self.registry)
        except (ValueError, LookupError, TypeError) as error:
            raise self._changed(i) from error
        return text

    def grams(self, i: int) -> Grams:
        """Return the grams of a record's text."""
        if i not in self._grams:
            found = grams(self.text(i))
            if self._held > _HELD:
                self._grams.clear()
                self._held = 0
            self._grams[i] = found
            self._held += len(found)
        return self._grams[i]

    def place(self, i: int) -> dict[str, Any]:
        """Return path, line and record as the ledger names them."""
        prints = self.prints
        path = self.sources[int(prints.source[i])].path
        return {"path": path, "line": int(prints.line[i]), "record": int(prints.record[i])}

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def _changed(self, i: int) -> DataError:
        return DataError(
            f"{self.sources[int(self.prints.source[i])].path}: changed while it was read: run again"
        )
