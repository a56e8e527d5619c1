"""Files -> one file without repeats: print every record, find the twins, write what is kept and a ledger."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from yayi_data.atomic import fsync_path
from yayi_data.console import say
from yayi_data.dedup.fingerprints import Prints, Reading, compared_text, print_records
from yayi_data.dedup.outcome import WRITERS, Deduped, Outcome
from yayi_data.dedup.similarity import HeldGrams, bands_for
from yayi_data.dedup.twins import Search, find_twins
from yayi_data.domains import load_registry
from yayi_data.errors import YayiError
from yayi_data.outfile import refuse_output
from yayi_data.places import Records, size_of, spooled
from yayi_data.progress import Progress
from yayi_data.read import Partition, Source, open_sources
from yayi_data.unchanged import stamps_of
from yayi_data.validate import detect

LEDGER = ".dropped.jsonl"


@dataclass(frozen=True, slots=True)
class DedupOptions:
    """What to compare; `against` are the files of evaluation sets, whose overlap goes.

    With `report`, `output` is the ledger and nothing is dropped. `examples` pairs of each reason are shown.
    """

    paths: tuple[str, ...]
    output: Path
    against: tuple[str, ...] = ()
    threshold: float = 0.8
    report: bool = False
    source_dialect: str = "auto"
    on_problem: Literal["fail", "drop"] = "fail"
    domains: str | None = None
    workers: int | None = None
    examples: int = 5


def dedup(options: DedupOptions) -> Deduped:
    """Write the records of `options.paths` that repeat none before them, and a ledger of the others.

    Both files appear when they are whole. Raises DataError where a record has an error and such are not to
    be dropped, and where no record is left.
    """
    ledger = ledger_path(options)
    sources, staying = _open(options, ledger)
    stamps = stamps_of(sources)
    dialects = [_dialect(source, options) for source in sources]
    if not options.report:
        _refuse_mixture(sources[staying:], dialects[staying:])
    with TemporaryDirectory(prefix="yayi-dedup-") as spool:
        parts = spooled(sources, Path(spool))
        prints = _print(parts, dialects, options)
        with closing(Records(prints.places, parts, dialects)) as records:
            outcome = _compare(prints, records, staying, options)
            result = outcome.counted(options.examples)
            if not result.kept and not options.report:
                raise result.nothing_left(options.paths)
            outcome.write(ledger, None if options.report else options.output, stamps)
    fsync_path(options.output.parent)
    return result


def ledger_path(options: DedupOptions) -> Path:
    """Return where the ledger goes; raise YayiError where the output's name will not do."""
    output = options.output
    if not options.report and output.suffix not in WRITERS:
        raise YayiError(f"{output}: the name of --output must end in one of {', '.join(WRITERS)}")
    if not output.parent.is_dir():
        raise YayiError(f"{output.parent}: there is no such folder for --output; make it first")
    return output if options.report else output.with_suffix(LEDGER)


def _open(options: DedupOptions, ledger: Path) -> tuple[list[Source], int]:
    """Return the sources, those of evaluation sets first, and how many these are."""
    if "-" in options.paths and "-" in options.against:
        raise YayiError("stdin (-) can be read once only: name it once")
    against = open_sources(options.against) if options.against else []
    sources = [*against, *open_sources(options.paths)]
    given = [source.path for source in sources] + ([options.domains] if options.domains else [])
    for output in (options.output, ledger):
        refuse_output(output, given)
    return [replace(source, index=i) for i, source in enumerate(sources)], len(against)


def _dialect(source: Source, options: DedupOptions) -> str:
    return detect(source) if options.source_dialect == "auto" else options.source_dialect


def _refuse_mixture(sources: Sequence[Source], dialects: Sequence[str]) -> None:
    """Raise YayiError where the kept records, which stay as they are, would make a file of two dialects."""
    for source, dialect in zip(sources, dialects, strict=True):
        if dialect != dialects[0]:
            raise YayiError(
                f"{source.path}: is {dialect}, {sources[0].path} is {dialects[0]}, and one file holds one "
                "dialect: run `yayi-data convert` on one of them first, or --report, which may mix them"
            )


def _print(parts: Sequence[Partition], dialects: Sequence[str], options: DedupOptions) -> Prints:
    workers = options.workers or os.cpu_count() or 1
    reading = Reading(bands_for(options.threshold), options.on_problem, options.domains, workers)
    with Progress("read", sum(map(size_of, parts))) as bar:
        prints = print_records(parts, dialects, reading, bar.advance)
    for warning in prints.warnings:
        say(f"warning: {warning}")
    return prints


def _compare(prints: Prints, records: Records, staying: int, options: DedupOptions) -> Outcome:
    """Find the twin of every record; those of the first `staying` sources all stay."""
    registry = load_registry(options.domains)

    def text_of(i: int) -> str:
        return compared_text(records.talk(i), registry)

    _tell_uncompared(prints, staying, records)
    held_out = int(np.count_nonzero(prints.places.source < staying))
    search = Search(options.threshold, bands_for(options.threshold), held_out, prints.question)
    with Progress("compare", len(prints)) as bar:
        twins = find_twins(prints.digest, prints.signature, HeldGrams(text_of).of, search, bar.advance)
    drops = [drop for drop in prints.drops if drop.source >= staying]
    return Outcome(records, twins, drops, held_out, text_of)


def _tell_uncompared(prints: Prints, staying: int, records: Records) -> None:
    """Say how many records of evaluation sets nothing is compared with: they are in no ledger."""
    lost = Counter(drop.source for drop in prints.drops if drop.source < staying)
    for source, count in sorted(lost.items()):
        path = records.path(source)
        say(f"warning: {path}: {count:,} records have an error and were not compared with; see validate")
