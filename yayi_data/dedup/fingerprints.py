"""What tells records apart: a hash and a signature of the compared text, by any number of processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xxhash
from numpy.typing import NDArray

from yayi_data.convert import FROM
from yayi_data.dedup.similarity import Bands, Signatures, normalised, signatures
from yayi_data.domains import Registry, load_registry
from yayi_data.errors import ConversionError, DataError
from yayi_data.places import Places, joined_places, places_in, size_of
from yayi_data.read import Partition, chunks
from yayi_data.runner import run
from yayi_data.types import Chunk, Conversation, Problem
from yayi_data.validate import ERRORS, check

POOL_BYTES = 32 << 20
"""From which on further processes are worth their start."""


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

    `digest` has two numbers a record, equal where the compared texts are; `question` is a hash of all but the
    last reply; `warnings` tell of errors between records, which cost none.
    """

    places: Places
    digest: NDArray[np.uint64]
    question: NDArray[np.uint64]
    signature: Signatures
    drops: list[Drop] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)


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
    return normalised("\n".join(_said(talk, registry)))


def _said(talk: Conversation, registry: Registry) -> list[str]:
    said = [turn.text for turn in talk.turns]
    asked = next((i for i, turn in enumerate(talk.turns) if turn.role == "user"), None)
    if asked is not None:
        said[asked] = registry.strip(said[asked])
    return said


def _texts(talk: Conversation, registry: Registry) -> tuple[str, str]:
    """Return the text of a conversation, and that of its question: all but the last reply."""
    said = _said(talk, registry)
    return normalised("\n".join(said)), normalised("\n".join(said[:-1]))


def print_records(
    parts: Sequence[Partition], dialects: Sequence[str], reading: Reading, advance: Callable[[int], None]
) -> Prints:
    """Read partitions, whose sources have these dialects, and return the prints of their records in order.

    Raises DataError at the first record with an error unless such records are to be dropped. `advance` is
    told of the bytes done.
    """
    jobs = [_Job(part, dialects[part.source.index], reading.bands, reading.on_problem) for part in parts]
    small = sum(map(size_of, parts)) < POOL_BYTES
    workers = 1 if small else min(reading.workers, len(jobs))
    found: list[Prints] = []
    for made in run(_print_part, jobs, workers, partial(load_registry, reading.domains)):
        advance(size_of(jobs[len(found)].partition))
        found.append(made)
    return _joined(found)


def _print_part(registry: Registry, job: _Job) -> Prints:
    made = [_print_chunk(registry, job, chunk) for chunk in chunks(job.partition)]
    return _joined(made or [_print_chunk(registry, job, Chunk(0, 0, [], [], []))])


def _print_chunk(registry: Registry, job: _Job, chunk: Chunk) -> Prints:
    checked = check(chunk, job.partition.source, job.dialect, ERRORS)
    if checked.problems and job.on_problem == "fail":
        raise DataError(f"{_told(checked.problems[0])}{_LEAVE}")
    reasons = {problem.record: problem.rule for problem in reversed(checked.problems)}
    texts: dict[int, tuple[str, str]] = {}
    drops = []
    for i, value in enumerate(checked.values):
        try:
            if value is not None:
                texts[i] = _texts(FROM[job.dialect](value), registry)
                continue
            reason = reasons[chunk.number + i]
        except ConversionError as error:
            reason = error.reason
            if job.on_problem == "fail":
                place = f"{job.partition.source.path}:{chunk.lines[i]}"
                raise DataError(f"{place}: {reason} {error}{_LEAVE}") from None
        drops.append(Drop(chunk.source, chunk.number + i, chunk.lines[i], reason))
    said, asked = [text for text, _ in texts.values()], [question for _, question in texts.values()]
    digests = [xxhash.xxh3_128_digest(_encoded(text)) for text in said]
    questions = [xxhash.xxh3_64_intdigest(_encoded(text)) if text else 0 for text in asked]
    return Prints(
        places=places_in(chunk, list(texts)),
        digest=np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2),
        question=np.array(questions, np.uint64),
        signature=signatures(said, job.bands),
        drops=drops,
        warnings=[_told(problem) for problem in checked.problems if problem.record is None],
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


_LEAVE = "; --on-problem drop leaves such records out"


def _told(problem: Problem) -> str:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    return " ".join(filter(None, (f"{place}:", problem.rule, problem.pointer, problem.message)))


def _joined(parts: Sequence[Prints]) -> Prints:
    return Prints(
        places=joined_places([part.places for part in parts]),
        digest=np.concatenate([part.digest for part in parts]),
        question=np.concatenate([part.question for part in parts]),
        signature=np.concatenate([part.signature for part in parts]),
        drops=[drop for part in parts for drop in part.drops],
        warnings=[told for part in parts for told in part.warnings],
    )
