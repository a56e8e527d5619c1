"""Pack, from sources to a folder of shards: the file to read first.

The sources are cut into partitions, a partition becomes a shard (`yayi_data.partition`), and the driver here
cuts, sends the partitions out, adds up what they became and publishes the folder, the manifest last.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import cpu_count
from pathlib import Path
from typing import Literal, NamedTuple

from yayi_data import runner
from yayi_data.domains import Registry, load_registry
from yayi_data.finish import TOKENIZER, Limits, finish, refuse_losses, write_tokenizer
from yayi_data.manifest import Ledger, Manifest, SourceFacts, TemplateFacts, TokenizerFacts
from yayi_data.output import (
    beside,
    locked,
    made_before,
    partial_folder,
    publish,
    real,
    refuse_existing,
    refuse_inputs,
    spool_folder,
)
from yayi_data.partition import Unit, load_tools, no_collection, pack_partition, sample
from yayi_data.plan import ORDER_VERSION
from yayi_data.progress import Progress
from yayi_data.read import PARTITION_BYTES, Partition, Source, open_sources, partitions
from yayi_data.rows import Job, Tools
from yayi_data.template import Template, TrainOn, load_template
from yayi_data.tokenizer import Engine, begin_tokenizer
from yayi_data.unchanged import Stamps, stamps_of, unchanged
from yayi_data.validate import detect


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
    runner: Literal["local", "ray"] = "local"
    address: str | None = None
    tokenizer_engine: Engine = "auto"
    overwrite: bool = False


class Packed(NamedTuple):
    """A finished pack: the folder (or the URL of its upload), its manifest, and what only this run knows."""

    output: Path | str
    manifest: Manifest
    engine: str
    engine_reason: str
    seconds: float


class Inputs(NamedTuple):
    """What a run reads, opened: sources, and how their records are tagged and rendered."""

    sources: list[Source]
    registry: Registry
    template: Template
    stamps: Stamps


class Prepared(NamedTuple):
    """A run before anything is packed: what the folder is made from, a job for each partition, the tools."""

    facts: Manifest
    jobs: list[Job]
    tools: Tools


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
    options = replace(options, output=real(options.output))
    refuse_existing(options.output, overwrite=options.overwrite)
    inputs = open_inputs(options)
    with no_collection(), locked(options.output), spool_folder(options.output) as spool:
        facts, jobs, tools = prepare(inputs, options, spool)
        engine, reason = tools.tokenizer.engine, tools.tokenizer.engine_reason
        limits = Limits(options.paths, options.max_drop)
        whole = made_before(options.output, facts) if reuse else None
        if whole:
            refuse_losses(whole.ledger, limits)
            return Packed(options.output, whole, engine, reason, time.monotonic() - started)
        with partial_folder(options.output, key_of(facts)) as folder:
            here = _runs_here(options, jobs)
            if not here:
                tokenizer = write_tokenizer(folder, tools.tokenizer)  # which the workers load
            with unchanged(inputs.stamps):
                units = run_jobs(jobs, options, tools, folder)
            if here:
                tokenizer = write_tokenizer(folder, tools.tokenizer)
            del tools  # a large vocabulary takes as much memory as the index of a large input
            whole = finish(folder, facts, units, tokenizer, limits)
            publish(options.output, overwrite=options.overwrite)
    return Packed(options.output, whole, engine, reason, time.monotonic() - started)


def open_inputs(options: PackOptions) -> Inputs:
    """Find the sources and load the registry and the template; YayiError where one cannot be used, or Ray."""
    if options.runner == "ray":
        runner.refuse_unusable(runner.Ray(options.address))
    sources = open_sources(options.paths)
    refuse_inputs(options.output, options.paths, sources)
    stamps = stamps_of(sources)
    registry = load_registry(str(options.domains) if options.domains else None)
    return Inputs(sources, registry, load_template(options.template), stamps)


def prepare(inputs: Inputs, options: PackOptions, spool: Path) -> Prepared:
    """Cut the sources into jobs, while the tokenizer loads, and check its engine on the first records."""
    registry, template = inputs.registry, inputs.template
    with ThreadPoolExecutor(1) as background:
        loading = background.submit(begin_tokenizer, options.tokenizer, template, options.tokenizer_engine)
        cut = _cut(inputs.sources, options, spool)
        texts = sample(template, registry, cut.jobs[0]) if cut.jobs else []
        tools = Tools(loading.result(), template, registry)
    tools.tokenizer.check_sample(texts)
    return Prepared(_facts(cut, options, tools), cut.jobs, tools)


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
                jobs.append(_job(part, dialect, options, records, left))
            left = None if left is None else left - records
    return _Cut(facts, jobs)


def _sizes(parts: Sequence[Partition], records: int) -> list[int]:
    """Return the number of records of each partition of a source."""
    borders = [part.record for part in parts] + [records]
    return [end - start for start, end in pairwise(borders)]


def _job(part: Partition, dialect: str, options: PackOptions, records: int, left: int | None) -> Job:
    limit = None if left is None or left >= records else left
    return Job(
        partition=part,
        dialect=dialect,
        folder=beside(options.output, ".partial"),
        records=records if limit is None else limit,
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


def run_jobs(jobs: Sequence[Job], options: PackOptions, tools: Tools, folder: Path) -> list[Unit]:
    """Pack every partition, here or elsewhere, and return the units in order.

    Whoever packs them elsewhere loads the tokenizer from `folder`.
    """
    load: Callable[[], Tools] = lambda: tools  # noqa: E731
    if not _runs_here(options, jobs):
        template = options.template
        load = partial(
            load_tools,
            str(folder.absolute() / TOKENIZER),
            tools.tokenizer.engine,
            str(Path(template).absolute()) if template.endswith(".toml") else template,
            str(options.domains.absolute()) if options.domains else None,
        )
    ray = None
    if options.runner == "ray":
        jobs, ray = [_absolute(job) for job in jobs], runner.Ray(options.address)
    units = []
    with Progress("packing", len(jobs)) as progress:
        for unit in runner.run(pack_partition, jobs, _workers(options, jobs), load, ray):
            units.append(unit)
            progress.advance(1)
    return units


def _runs_here(options: PackOptions, jobs: Sequence[Job]) -> bool:
    return options.runner == "local" and _workers(options, jobs) == 1


def _workers(options: PackOptions, jobs: Sequence[Job]) -> int | None:
    """Return how many jobs run at a time; None is as many as the Ray cluster allows.

    The default here is half the cores: each worker keeps a second one busy with tokenizing.
    """
    if options.runner == "ray":
        return options.workers
    return max(1, min(options.workers or (cpu_count() or 1) // 2, len(jobs)))


def _absolute(job: Job) -> Job:
    """Return the job with paths that mean the same in another working directory."""
    source = job.partition.source
    if "://" not in source.location:
        source = replace(source, location=str(Path(source.location).absolute()))
    return replace(job, folder=job.folder.absolute(), partition=replace(job.partition, source=source))


def key_of(facts: Manifest, *more: object) -> str:
    """Return the key of a run: the digest of all that decides what the folder will hold, and of `more`."""
    return hashlib.sha256(facts.to_bytes() + repr(more).encode() * bool(more)).hexdigest()
