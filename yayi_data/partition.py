"""One partition of a source becomes one shard: read, validate, convert, render, encode, write.

A pure function of the partition and the tools; who runs it, and when, leaves no trace in what it writes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from yayi_data.atomic import write_atomically
from yayi_data.convert import conversation
from yayi_data.domains import Registry, load_registry
from yayi_data.encode import Encoded, ReservedIdError, encode
from yayi_data.errors import ConversionError, DataError
from yayi_data.manifest import ShardFacts, canonical, file_facts
from yayi_data.read import Partition, Source, chunks
from yayi_data.render import Rendered, parts, render
from yayi_data.shard import Rows, index_part, shard_name, write_shard
from yayi_data.template import Template, load_template
from yayi_data.tokenizer import Engine, Tokenizer, load_tokenizer
from yayi_data.types import Chunk, Problem, Severity
from yayi_data.validate import RuleSet, check

_SAMPLE_RECORDS = 200

Item = TypeVar("Item")
Result = TypeVar("Result")


class Tools(NamedTuple):
    """What every partition of a run is packed with."""

    tokenizer: Tokenizer
    template: Template
    registry: Registry


@dataclass(frozen=True, slots=True)
class Job:
    """A partition, where its shard goes, and the options that decide what is kept."""

    partition: Partition
    dialect: str
    folder: Path
    limit: int | None
    max_length: int
    on_long: str
    train_on: str
    on_problem: str

    @property
    def shard(self) -> Path:
        """The path of the shard that this partition becomes."""
        return self.folder / shard_name(self.partition.index)


class Unit(NamedTuple):
    """What a partition became: its shard, how many records were read, and where the others went."""

    shard: ShardFacts
    read: int
    dropped: dict[str, int]
    straddling: int


class _Draft(NamedTuple):
    """The conversations of a chunk that are to be encoded: parallel lists, one entry each."""

    rendered: list[Rendered]
    lines: list[int]
    records: list[int]
    domains: list[str]

    def only(self, keep: Sequence[bool]) -> "_Draft":
        return _Draft(*([entry for entry, kept in zip(column, keep, strict=True) if kept] for column in self))


@dataclass(slots=True)
class _Ledger:
    """What was read of a partition, and every drop: the record, its line and the reason."""

    source: Source
    read: int = 0
    straddling: int = 0
    drops: list[tuple[int, int, str]] = field(default_factory=list)

    def drop(self, place: tuple[int, int], reason: str, policy: str, message: str) -> None:
        """Take down the record at `place` (record, line) as dropped; where the policy is to fail, raise instead."""
        if policy == "fail":
            raise DataError(f"{self.source.path}:{place[1]}: {message}")
        self.drops.append((*place, reason))


def load_tools(tokenizer: str, engine: Engine, template: str, domains: str | None) -> Tools:
    """Load what partitions are packed with; a worker process calls this once."""
    loaded = load_template(template)
    return Tools(load_tokenizer(tokenizer, loaded, engine), loaded, load_registry(domains))


def sample(tools: Tools, job: Job) -> list[str]:
    """Return the texts of a partition's first records, on which the tokenizer engines are compared."""
    ledger = _Ledger(job.partition.source)
    lenient = replace(job, on_problem="drop")
    drafts = (_draft(tools, lenient, chunk, ledger) for chunk in chunks(job.partition, _SAMPLE_RECORDS))
    return list(dict.fromkeys(part for draft in drafts for one in draft.rendered for part in parts(one)))


def pack_partition(tools: Tools, job: Job) -> Unit:
    """Pack a partition into its shard, unless an earlier run has done so already.

    Beside the shard stand its part of the index, its drops, and last the unit's own facts, which mark it as
    whole. Raises DataError at the first record that the options do not let pass.
    """
    done = _whole(job)
    if done is not None:
        return done
    ledger = _Ledger(job.partition.source)
    with ThreadPoolExecutor(1) as background:
        shard = write_shard(job.shard, _rows(tools, job, ledger, background))
    name = job.partition.source.name
    drops = [
        {"reason": reason, "path": name, "line": line, "record": record}
        for record, line, reason in sorted(ledger.drops)
    ]
    write_atomically(drops_file(job.shard), b"".join(orjson.dumps(drop) + b"\n" for drop in drops))
    dropped = dict(sorted(Counter(drop["reason"] for drop in drops).items()))
    unit = Unit(shard, ledger.read, dropped, ledger.straddling)
    write_atomically(unit_file(job.shard), canonical(unit._asdict()))
    return unit


def drops_file(shard: Path) -> Path:
    """Return where a shard's drops wait until the folder is finished."""
    return shard.with_suffix(".drops")


def unit_file(shard: Path) -> Path:
    """Return the file that marks a shard as whole."""
    return shard.with_suffix(".unit")


def _whole(job: Job) -> Unit | None:
    """Return the unit that an interrupted run finished, if its shard is still what it was."""
    if not unit_file(job.shard).is_file():
        return None
    content = orjson.loads(unit_file(job.shard).read_bytes())
    unit = Unit(**(content | {"shard": ShardFacts(**content["shard"])}))
    found = file_facts(job.folder, job.shard.name)
    return unit if (found.bytes, found.sha256) == (unit.shard.bytes, unit.shard.sha256) else None


def _rows(tools: Tools, job: Job, ledger: _Ledger, background: ThreadPoolExecutor) -> Iterator[Rows]:
    """Yield a partition's kept conversations, a chunk at a time; the next chunk is encoded meanwhile."""
    drafts = (_draft(tools, job, chunk, ledger) for chunk in chunks(job.partition, job.limit))
    for draft, encoded in _ahead(background, lambda draft: _encode(tools, job, draft, ledger), drafts):
        yield _kept(job, draft, encoded, ledger)


def _ahead(
    background: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterator[Item]
) -> Iterator[Result]:
    """Yield `work(item)` in order, working on each item in the background while the next is made."""
    waiting = None
    for item in items:
        future = background.submit(work, item)
        if waiting is not None:
            yield waiting.result()
        waiting = future
    if waiting is not None:
        yield waiting.result()


def _draft(tools: Tools, job: Job, chunk: Chunk, ledger: _Ledger) -> _Draft:
    """Validate, convert and render a chunk; what has an error fails the run or goes to the ledger."""
    ledger.read += len(chunk)
    checked = check(chunk, job.partition.source, job.dialect, RuleSet.errors_only())
    errors = [problem for problem in checked.problems if problem.severity is Severity.ERROR]
    if errors and job.on_problem == "fail":
        raise DataError(_told(errors))
    reasons = {problem.record: problem.rule for problem in reversed(errors)}
    draft = _Draft([], [], [], [])
    for i, value in enumerate(checked.values):
        record, line = chunk.number + i, chunk.lines[i]
        if value is None:
            ledger.drops.append((record, line, reasons[record]))
            continue
        try:
            talk = conversation(value, job.dialect)
        except ConversionError as error:
            ledger.drop((record, line), error.reason, job.on_problem, str(error))
            continue
        draft.rendered.append(render(talk, tools.template, job.train_on))
        draft.lines.append(line)
        draft.records.append(record)
        draft.domains.append(tools.registry.domain_of(talk))
    return draft


def _encode(tools: Tools, job: Job, draft: _Draft, ledger: _Ledger) -> tuple[_Draft, Encoded]:
    """Encode a draft, without the conversations whose text would yield a control id."""
    while True:
        try:
            return draft, encode(draft.rendered, tools.tokenizer)
        except ReservedIdError as error:
            place = draft.records[error.row], draft.lines[error.row]
            ledger.drop(place, "control-id", job.on_problem, str(error))
            draft = draft.only([row != error.row for row in range(len(draft.records))])


def _kept(job: Job, draft: _Draft, encoded: Encoded, ledger: _Ledger) -> Rows:
    """Keep the rows that fit --max-length and have something to learn; the others go to the ledger."""
    lengths = np.diff(encoded.offsets)
    supervised = np.diff(np.concatenate([[0], np.cumsum(encoded.mask)])[encoded.offsets])
    for i in np.flatnonzero((lengths > job.max_length) | (supervised == 0)):
        place = draft.records[i], draft.lines[i]
        if lengths[i] > job.max_length:
            found = f"the conversation has {lengths[i]} tokens, --max-length allows {job.max_length}; see --on-long"
            ledger.drop(place, "too-long", job.on_long, found)
        else:
            ledger.drop(place, "nothing-supervised", "drop", "")
    keep = (lengths <= job.max_length) & (supervised > 0)
    if not keep.all():
        draft, encoded = draft.only(keep.tolist()), _only(encoded, keep)
    ledger.straddling += encoded.straddling
    return Rows(
        ids=encoded.ids,
        mask=encoded.mask,
        offsets=encoded.offsets,
        domains=draft.domains,
        source=job.partition.source.index,
        lines=np.array(draft.lines, np.int64),
        records=np.array(draft.records, np.int64),
    )


def _only(encoded: Encoded, keep: NDArray[np.bool_]) -> Encoded:
    """Return the rows of `encoded` that are kept."""
    lengths = np.diff(encoded.offsets)
    tokens = np.repeat(keep, lengths)
    return Encoded(
        ids=encoded.ids[tokens],
        mask=encoded.mask[tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths[keep])]),
        straddling=encoded.straddling,
    )


def _told(errors: Sequence[Problem]) -> str:
    """Say where the first error stands, how many more there are in its chunk, and what can be done."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return (
        f"{first.path}:{first.line}:{first.column}: {first.rule} {first.pointer} {first.message}{more}; "
        f"yayi-data validate {first.path} lists all, --on-problem drop packs the sound records"
    )
