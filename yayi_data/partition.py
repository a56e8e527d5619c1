"""One partition of a source becomes one shard: a pure function of the partition and the tools.

Who runs it, and when, leaves no trace in what it writes.
"""

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import orjson

from yayi_data.atomic import write_atomically
from yayi_data.domains import Registry, load_registry
from yayi_data.errors import DataError
from yayi_data.manifest import FileFacts, ShardFacts, canonical, file_facts
from yayi_data.output import UNIT
from yayi_data.read import chunks
from yayi_data.render import parts
from yayi_data.rows import Job, Ledger, Tools, draft_chunk, kept_rows
from yayi_data.shard.columns import Rows
from yayi_data.shard.write import index_part, write_shard
from yayi_data.template import Template, load_template
from yayi_data.tokenizer import Engine, load_tokenizer
from yayi_data.unchanged import ChangedError

_SAMPLE_RECORDS = 200
_DRAFTS_AHEAD = 16  # of about 1 MB each: what can be drafted while a large tokenizer still loads

Item = TypeVar("Item")
Result = TypeVar("Result")


class Unit(NamedTuple):
    """What a partition became: its shard and the files beside it, and where every record went."""

    shard: ShardFacts
    beside: list[FileFacts]
    read: int
    dropped: dict[str, int]
    straddling: int
    truncated: int


def load_tools(tokenizer: str, engine: Engine, template: str, domains: str | None) -> Tools:
    """Load what partitions are packed with; a worker process calls this once."""
    loaded = load_template(template)
    return Tools(load_tokenizer(tokenizer, loaded, engine), loaded, load_registry(domains))


def sample(template: Template, registry: Registry, job: Job) -> list[str]:
    """Return the texts of a partition's first records, on which the tokenizer engines are compared."""
    ledger = Ledger(job.partition.source)
    lenient = replace(job, on_problem="drop")
    texts: dict[str, None] = {}
    for chunk in chunks(job.partition, _SAMPLE_RECORDS):
        for rendered in draft_chunk(template, registry, lenient, chunk, ledger).rendered:
            texts |= dict.fromkeys(parts(rendered))
    return list(texts)


def pack_partition(tools: Tools, job: Job) -> Unit:
    """Pack a partition into its shard, unless an earlier run has done so already.

    Beside the shard stand its part of the index, its drops, and last the unit's own facts, which mark it as
    whole: the next run believes them only if the hashes agree. Raises DataError at the first record that the
    options do not let pass, ChangedError where there are more or fewer records than the cut counted.
    """
    done = finished(job.shard)
    if done is not None:
        return done
    ledger = Ledger(job.partition.source)
    with no_collection(), ThreadPoolExecutor(1) as background:
        shard = write_shard(job.shard, _rows(tools, job, ledger, background))
    if ledger.read != job.records:
        raise ChangedError.of(job.partition.source.path)
    drops = [
        {"reason": reason, "path": job.partition.source.name, "line": line, "record": record}
        for record, line, reason in sorted(ledger.drops)
    ]
    write_atomically(
        drops_file(job.shard), b"".join(orjson.dumps(drop) + b"\n" for drop in drops), lasting=False
    )
    dropped = dict(sorted(Counter(reason for _, _, reason in ledger.drops).items()))
    beside = [file_facts(job.folder, path.name) for path in (index_part(job.shard), drops_file(job.shard))]
    unit = Unit(shard, beside, ledger.read, dropped, ledger.straddling, ledger.truncated)
    write_atomically(unit_file(job.shard), canonical(unit._asdict()), lasting=False)
    return unit


@contextmanager
def no_collection() -> Iterator[None]:
    """Look for no reference cycles meanwhile: records make none, and looking takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def drops_file(shard: Path) -> Path:
    """Return where a shard's drops wait until the folder is finished."""
    return shard.with_suffix(".drops")


def unit_file(shard: Path) -> Path:
    """Return the file that marks a shard as whole."""
    return shard.with_suffix(UNIT)


def finished(shard: Path) -> Unit | None:
    """Return the unit that an earlier run made of a shard, if its files are what they were."""
    if not unit_file(shard).is_file():
        return None
    try:
        content = orjson.loads(unit_file(shard).read_bytes())
        beside = [FileFacts(**facts) for facts in content["beside"]]
        unit = Unit(**(content | {"shard": ShardFacts(**content["shard"]), "beside": beside}))
    except (ValueError, TypeError, LookupError):  # damaged
        return None
    expected = [FileFacts(unit.shard.file, unit.shard.bytes, unit.shard.sha256), *unit.beside]
    own = [path.name for path in (shard, index_part(shard), drops_file(shard))]
    whole = [facts.path for facts in expected] == own and all(holds(shard.parent, f) for f in expected)
    return unit if whole else None


def holds(folder: Path, facts: FileFacts) -> bool:
    """Tell whether a folder holds a file with these very bytes."""
    return (folder / facts.path).is_file() and file_facts(folder, facts.path) == facts


def _rows(tools: Tools, job: Job, ledger: Ledger, background: ThreadPoolExecutor) -> Iterator[Rows]:
    """Yield a partition's kept conversations, a chunk at a time; the next chunks are encoded meanwhile."""
    found = chunks(job.partition, job.limit)
    drafts = (draft_chunk(tools.template, tools.registry, job, chunk, ledger) for chunk in found)
    yield from _ahead(background, lambda draft: kept_rows(tools, job, draft, ledger), drafts)


def _ahead(
    background: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterator[Item]
) -> Iterator[Result]:
    """Yield `work(item)` in order, working on the items in the background while the next ones are made."""
    waiting: deque[Future[Result]] = deque()
    failure = None
    try:
        for item in items:
            waiting.append(background.submit(work, item))
            while waiting and (waiting[0].done() or len(waiting) > _DRAFTS_AHEAD):
                yield waiting.popleft().result()
    except DataError as error:
        failure = error  # an item before it may have failed too, and comes first
    while waiting:
        yield waiting.popleft().result()
    if failure:
        raise failure
