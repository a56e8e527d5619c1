"""A chunk's records become rows: validated, converted, rendered, encoded; every drop is taken down."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yayi_data.convert import FROM
from yayi_data.domains import Registry
from yayi_data.encode import Encoded, ReservedIdError, encode
from yayi_data.errors import ConversionError, DataError
from yayi_data.read import Partition, Source
from yayi_data.render import render
from yayi_data.shard.columns import Rows
from yayi_data.shard.write import shard_name
from yayi_data.template import Rendered, Template, TrainOn
from yayi_data.tokenizer import Tokenizer
from yayi_data.truncate import truncate
from yayi_data.types import Chunk, Conversation, Problem, Severity
from yayi_data.validate import ERRORS, check


class Tools(NamedTuple):
    """What every partition of a run is packed with."""

    tokenizer: Tokenizer
    template: Template
    registry: Registry


@dataclass(frozen=True, slots=True)
class Job:
    """A partition, its number of records, where its shard goes, and the options that decide what is kept."""

    partition: Partition
    dialect: str
    folder: Path
    records: int
    limit: int | None
    max_length: int
    on_long: str
    train_on: TrainOn
    on_problem: str

    @property
    def shard(self) -> Path:
        """The path of the shard that this partition becomes."""
        return self.folder / shard_name(self.partition.index)


class Draft(NamedTuple):
    """The conversations of a chunk that are to be encoded: parallel lists, one entry each."""

    talks: list[Conversation]
    rendered: list[Rendered]
    lines: list[int]
    records: list[int]
    domains: list[str]

    def only(self, keep: NDArray[np.bool_]) -> "Draft":
        """Return the entries that are kept."""
        kept = np.flatnonzero(keep).tolist()
        columns: tuple[list[Any], ...] = self
        return Draft(*([column[i] for i in kept] for column in columns))


@dataclass(slots=True)
class Ledger:
    """What was read of a partition, and every drop: the record, its line and the reason."""

    source: Source
    read: int = 0
    straddling: int = 0
    truncated: int = 0
    drops: list[tuple[int, int, str]] = field(default_factory=list)

    def drop(self, place: tuple[int, int], reason: str, policy: str, message: str) -> None:
        """Take down the record at `place` (record, line) as dropped; raise where the policy is to fail."""
        if policy == "fail":
            raise DataError(f"{self.source.path}:{place[1]}: {message}")
        self.drops.append((*place, reason))


def draft_chunk(template: Template, registry: Registry, job: Job, chunk: Chunk, ledger: Ledger) -> Draft:
    """Validate, convert and render a chunk; what has an error fails the run or goes to the ledger."""
    ledger.read += len(chunk)
    checked = check(chunk, job.partition.source, job.dialect, ERRORS)
    errors = [problem for problem in checked.problems if problem.severity is Severity.ERROR]
    if errors and job.on_problem == "fail":
        raise DataError(_told(errors))
    talks = _converted(checked.values, chunk, job, ledger)
    reasons = {problem.record: problem.rule for problem in reversed(errors)}
    for i, value in enumerate(checked.values):
        if value is None:
            ledger.drops.append((chunk.number + i, chunk.lines[i], reasons[chunk.number + i]))
    sound = [i for i, talk in enumerate(talks) if talk is not None]
    kept = [talk for talk in talks if talk is not None]
    return Draft(
        talks=kept,
        rendered=[render(talk, template, job.train_on) for talk in kept],
        lines=[chunk.lines[i] for i in sound],
        records=[chunk.number + i for i in sound],
        domains=list(map(registry.domain_of, kept)),
    )


def _converted(values: Sequence[Any], chunk: Chunk, job: Job, ledger: Ledger) -> list[Conversation | None]:
    """Convert a chunk's sound records; what no conversation can hold is dropped."""
    convert = FROM[job.dialect]
    talks: list[Conversation | None] = []
    for i, value in enumerate(values):
        try:
            talks.append(None if value is None else convert(value))
        except ConversionError as error:
            talks.append(None)
            ledger.drop((chunk.number + i, chunk.lines[i]), error.reason, job.on_problem, str(error))
    return talks


def kept_rows(tools: Tools, job: Job, draft: Draft, ledger: Ledger) -> Rows:
    """Encode a draft and keep the rows that fit --max-length and have something to learn."""
    draft, encoded = _encode(tools, job, draft, ledger)
    cut = np.zeros(len(draft.records), np.bool_)
    if job.on_long == "truncate":
        encoded, cut = _truncate(tools, job, draft, encoded)
    lengths, supervised = np.diff(encoded.offsets), _supervised(encoded)
    keep = (lengths <= job.max_length) & (supervised > 0)
    for i in np.flatnonzero(~keep):
        place = draft.records[i], draft.lines[i]
        if lengths[i] > job.max_length:
            found = f"the conversation has {lengths[i]} tokens, --max-length allows {job.max_length}"
            ledger.drop(place, "too-long", job.on_long, f"{found}; see --on-long")
        else:
            ledger.drop(place, "nothing-supervised", "drop", "")
    ledger.truncated += int(np.count_nonzero(keep & cut))
    if not keep.all():
        draft, encoded = draft.only(keep), _only(encoded, keep)
    ledger.straddling += int(encoded.straddling.sum())
    return Rows(
        ids=encoded.ids,
        mask=encoded.mask,
        offsets=encoded.offsets,
        domains=draft.domains,
        source=job.partition.source.index,
        lines=np.array(draft.lines, np.int64),
        records=np.array(draft.records, np.int64),
    )


def _encode(tools: Tools, job: Job, draft: Draft, ledger: Ledger) -> tuple[Draft, Encoded]:
    """Encode a draft, without the conversations whose text would yield a control id."""
    while True:
        try:
            return draft, encode(draft.rendered, tools.tokenizer)
        except ReservedIdError as error:
            place = draft.records[error.row], draft.lines[error.row]
            ledger.drop(place, "control-id", job.on_problem, str(error))
            draft = draft.only(np.arange(len(draft.records)) != error.row)


def _truncate(tools: Tools, job: Job, draft: Draft, encoded: Encoded) -> tuple[Encoded, NDArray[np.bool_]]:
    """Cut whole exchanges from the end of rows that are too long; return which ones were cut."""
    cut = np.diff(encoded.offsets) > job.max_length
    long = np.flatnonzero(cut).tolist()
    if not long:
        return encoded, cut
    talks = [draft.talks[i] for i in long]
    rendered = list(draft.rendered)
    shortened = truncate(talks, tools.template, tools.tokenizer, job.max_length, job.train_on)
    for i, shorter in zip(long, shortened, strict=True):
        cut[i] = shorter is not None
        rendered[i] = shorter or rendered[i]
    return encode(rendered, tools.tokenizer), cut


def _supervised(encoded: Encoded) -> NDArray[np.int64]:
    """Return the number of supervised tokens of each row."""
    return np.diff(np.concatenate([[0], np.cumsum(encoded.mask)])[encoded.offsets])


def _only(encoded: Encoded, keep: NDArray[np.bool_]) -> Encoded:
    """Return the rows of `encoded` that are kept."""
    lengths = np.diff(encoded.offsets)
    tokens = np.repeat(keep, lengths)
    return Encoded(
        ids=encoded.ids[tokens],
        mask=encoded.mask[tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths[keep])]),
        straddling=encoded.straddling[keep],
    )


def _told(errors: Sequence[Problem]) -> str:
    """Say where the first error stands, how many more there are in its chunk, and what can be done."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return (
        f"{first.path}:{first.line}:{first.column}: {first.rule} {first.pointer} {first.message}{more}; "
        f"yayi-data validate {first.path} lists all, --on-problem drop packs the sound records"
    )
