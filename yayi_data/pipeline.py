"""Pack, from sources to a folder of shards: the file to read first.

The sources are cut into partitions, a partition becomes a shard (`yayi_data.partition`), and the driver here
cuts, sends the partitions out, adds up what they became and publishes the folder, the manifest last.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import cpu_count, fsync
from pathlib import Path
from typing import Literal, NamedTuple

from yayi_data import manifest, runner
from yayi_data.atomic import write_atomically, writing
from yayi_data.domains import load_registry
from yayi_data.errors import DataError
from yayi_data.index import INDEX, domain_counts, merge_index, read_index
from yayi_data.manifest import MANIFEST, Ledger, Manifest, SourceFacts, TemplateFacts, TokenizerFacts
from yayi_data.output import UNIT, locked, made_before, partial_folder, publish, refuse_existing, spool_folder
from yayi_data.partition import Unit, drops_file, load_tools, no_collection, pack_partition, sample, unit_file
from yayi_data.plan import ORDER_VERSION
from yayi_data.progress import Progress
from yayi_data.read import PARTITION_BYTES, Partition, Source, open_sources, partitions
from yayi_data.remote import bare
from yayi_data.rows import Job, Tools
from yayi_data.shard import datasets_files, index_part
from yayi_data.template import TrainOn, load_template
from yayi_data.tokenizer import Engine, Tokenizer, begin_tokenizer
from yayi_data.validate import detect

TOKENIZER = "tokenizer"
DROPPED = "dropped.jsonl"


@dataclass(frozen=True, slots=True)
class PackOptions:
    """What `yayi-data pack` was asked for; see its --help."""

    paths: tuple[str, ...]
    tokenizer: str
    output: Path
    template: str = "yayi"
    max_length: int = 2048
    on_long: Literal["drop", "truncate", "fail"] = "drop"
    train_on: TrainOn = "all"
    on_problem: Literal["fail", "drop"] = "fail"
    max_drop: float | None = None
    domains: Path | None = None
    limit: int | None = None
    workers: int | None = None
    tokenizer_engine: Engine = "auto"
    overwrite: bool = False


class Packed(NamedTuple):
    """A finished pack: the folder (or the URL of its upload), its manifest, and what only this run knows."""

    output: Path | str
    manifest: Manifest
    engine: str
    engine_reason: str
    seconds: float


class _Cut(NamedTuple):
    """The sources of a run, cut: their facts and the jobs, one a partition."""

    sources: list[SourceFacts]
    jobs: list[Job]


def pack(options: PackOptions, *, reuse: bool = False) -> Packed:
    """Pack the sources into `options.output`, which appears only when it is whole.

    With `reuse`, a folder that an earlier run made there of the same inputs and options is not made again.
    Raises DataError where the data prevent it, YayiError for wrong use; an interrupted run leaves
    DIR.partial, and the same call continues it.
    """
    started = time.monotonic()
    refuse_existing(options.output, overwrite=options.overwrite)
    sources = open_sources(options.paths)
    registry = load_registry(str(options.domains) if options.domains else None)
    template = load_template(options.template)
    with no_collection(), locked(options.output), spool_folder(options.output) as spool:
        with ThreadPoolExecutor(1) as background:
            loading = background.submit(
                begin_tokenizer, options.tokenizer, template, options.tokenizer_engine
            )
            cut = _cut(sources, options, spool)
            texts = sample(template, registry, cut.jobs[0]) if cut.jobs else []
            tools = Tools(loading.result(), template, registry)
            del loading
        tools.tokenizer.check_sample(texts)
        facts = _facts(cut, options, tools)
        engine, reason = tools.tokenizer.engine, tools.tokenizer.engine_reason
        whole = made_before(options.output, facts) if reuse else None
        if whole is None:
            with partial_folder(options.output, _key(facts)) as folder:
                units = _run(cut.jobs, options, tools, folder)
                del tools  # a large vocabulary takes as much memory as the index of a large input
                whole = _finish(folder, facts, units, options)
                publish(options.output)
        else:
            _refuse_losses(whole.ledger, options)
    return Packed(options.output, whole, engine, reason, time.monotonic() - started)


def _cut(sources: Sequence[Source], options: PackOptions, spool: Path) -> _Cut:
    """Cut every source into partitions; with --limit, jobs after the last wanted record fall away."""
    facts: list[SourceFacts] = []
    jobs: list[Job] = []
    left = options.limit
    for source in sources:
        dialect = detect(source)
        parts, found = partitions(source, len(jobs), PARTITION_BYTES, spool)
        facts.append(SourceFacts(source.name, found.bytes, found.sha256, found.records, dialect))
        for part, records in zip(parts, _sizes(parts, found.records), strict=True):
            if left is None or left > 0:
                jobs.append(_job(part, dialect, None if left is None or left >= records else left, options))
            left = None if left is None else left - records
    return _Cut(facts, jobs)


def _sizes(parts: Sequence[Partition], records: int) -> list[int]:
    """Return the number of records of each partition of a source."""
    borders = [part.record for part in parts] + [records]
    return [end - start for start, end in pairwise(borders)]


def _job(part: Partition, dialect: str, limit: int | None, options: PackOptions) -> Job:
    return Job(
        partition=part,
        dialect=dialect,
        folder=options.output.with_name(options.output.name + ".partial"),
        limit=limit,
        max_length=options.max_length,
        on_long=options.on_long,
        train_on=options.train_on,
        on_problem=options.on_problem,
    )


def _facts(cut: _Cut, options: PackOptions, tools: Tools) -> Manifest:
    """Return the manifest as far as it is known before anything is packed: what the folder is made from."""
    tokenizer = tools.tokenizer
    return Manifest(
        sources=cut.sources,
        options={
            "max_length": options.max_length,
            "on_long": options.on_long,
            "train_on": options.train_on,
            "on_problem": options.on_problem,
            "limit": options.limit,
            "domains": tools.registry.fingerprint,
        },
        template=TemplateFacts(tools.template.name, tools.template.fingerprint),
        tokenizer=TokenizerFacts(tokenizer.fingerprint, tokenizer.control_ids, tokenizer.vocabulary),
        ledger=Ledger(0, 0, {}),
        domains={},
        rows=0,
        tokens=0,
        supervised_tokens=0,
        straddling_tokens=0,
        shards=[],
        files=[],
        order_version=ORDER_VERSION,
    )


def _write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    with writing(folder / TOKENIZER):
        (folder / TOKENIZER).mkdir(exist_ok=True)
        tokenizer.write(folder / TOKENIZER)
        for path in (folder / TOKENIZER).iterdir():
            with path.open("rb") as file:
                fsync(file)


def _run(jobs: Sequence[Job], options: PackOptions, tools: Tools, folder: Path) -> list[Unit]:
    """Pack every partition, here or in worker processes, and return the units in order."""
    workers = min(options.workers or _default_workers(), len(jobs))
    load: Callable[[], Tools] = lambda: tools  # noqa: E731
    if workers > 1:
        _write_tokenizer(folder, tools.tokenizer)  # which the workers load
        domains = str(options.domains) if options.domains else None
        load = partial(load_tools, str(folder / TOKENIZER), tools.tokenizer.engine, options.template, domains)
    units = []
    with Progress("packing", len(jobs)) as progress:
        for unit in runner.run(pack_partition, jobs, workers, load):
            units.append(unit)
            progress.advance(1)
    if workers <= 1:
        _write_tokenizer(folder, tools.tokenizer)
    return units


def _default_workers() -> int:
    """Return half the cores: each worker keeps a second one busy with tokenizing."""
    return max(1, (cpu_count() or 1) // 2)


def _finish(folder: Path, facts: Manifest, units: Sequence[Unit], options: PackOptions) -> Manifest:
    """Put the units together: index, drops, what `datasets` needs; then the manifest, which comes last."""
    ledger = _ledger(units)
    _refuse_losses(ledger, options)
    paths = [folder / unit.shard.file for unit in units]
    merge_index([index_part(path) for path in paths], folder / INDEX)
    write_atomically(folder / DROPPED, b"".join(drops_file(path).read_bytes() for path in paths))
    for name, content in datasets_files([unit.shard for unit in units]).items():
        write_atomically(folder / name, content)
    whole = _whole(folder, facts, units, ledger)
    manifest.write(folder, whole)
    for path in paths:
        for scratch in (unit_file(path), index_part(path), drops_file(path)):  # the mark of wholeness first
            scratch.unlink()
    return whole


def _ledger(units: Sequence[Unit]) -> Ledger:
    dropped: Counter[str] = Counter()
    for unit in units:
        dropped.update(unit.dropped)
    kept = sum(unit.shard.rows for unit in units)
    truncated = sum(unit.truncated for unit in units)
    return Ledger(sum(unit.read for unit in units), kept, dict(sorted(dropped.items())), truncated)


def _refuse_losses(ledger: Ledger, options: PackOptions) -> None:
    """Raise DataError where nothing is left, or more was dropped than --max-drop allows."""
    lost = ledger.read - ledger.kept
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.dropped.items())
    if not ledger.kept:
        found = (
            f"all {ledger.read} records were dropped ({reasons})" if ledger.read else "there are no records"
        )
        raise DataError(f"{' '.join(map(bare, options.paths))}: {found}; nothing was written")
    if options.max_drop is not None and lost > options.max_drop * ledger.read:
        raise DataError(
            f"{lost} of {ledger.read} records ({lost / ledger.read:.2%}) were dropped ({reasons}), "
            f"--max-drop allows {options.max_drop:.2%}; nothing was written; "
            "yayi-data validate shows what is wrong"
        )


def _whole(folder: Path, facts: Manifest, units: Sequence[Unit], ledger: Ledger) -> Manifest:
    """Return the finished manifest."""
    shards = [unit.shard for unit in units]
    listed = {MANIFEST, *(shard.file for shard in shards)}
    scratch = {UNIT, ".part", ".drops"}
    others = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in listed and path.suffix not in scratch
    )
    return replace(
        facts,
        ledger=ledger,
        domains=domain_counts(read_index(folder / INDEX)),
        rows=sum(shard.rows for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        supervised_tokens=sum(shard.supervised_tokens for shard in shards),
        straddling_tokens=sum(unit.straddling for unit in units),
        shards=shards,
        files=[manifest.file_facts(folder, path) for path in others],
    )


def _key(facts: Manifest) -> str:
    """Return the key of a run: the digest of everything that decides what the folder will hold."""
    return hashlib.sha256(facts.to_bytes()).hexdigest()
