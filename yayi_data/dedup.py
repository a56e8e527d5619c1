"""Files -> one file without repeats: print every record, find the twins, write what is kept and a ledger."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import orjson

from yayi_data.atomic import AtomicFile, fsync_folder
from yayi_data.console import say
from yayi_data.domains import load_registry
from yayi_data.errors import DataError, YayiError
from yayi_data.near import bands_for
from yayi_data.prints import Drop, Prints, Reading, Records, print_records, spooled
from yayi_data.progress import Progress
from yayi_data.read import Partition, Source, open_sources
from yayi_data.twins import Search, Twins, find_twins
from yayi_data.validate import detect

SUFFIXES = (".jsonl", ".json")
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


@dataclass(frozen=True, slots=True)
class Pair:
    """A record that goes and its twin: places, how alike they are, and both texts as they were compared."""

    reason: str
    place: dict[str, Any]
    twin: dict[str, Any]
    similarity: float
    texts: tuple[str, str]


@dataclass(slots=True)
class Deduped:
    """Where the records went: read = kept + dropped (by reason); `groups` kept records have a twin."""

    read: int
    kept: int
    dropped: Counter[str]
    groups: int
    ledger: Path
    pairs: list[Pair] = field(default_factory=list)

    @property
    def repeats(self) -> int:
        """The records that have a twin."""
        return sum(self.dropped[reason] for reason in REASONS)

    def summary(self) -> dict[str, Any]:
        """Return the JSON object that scripts rely on."""
        pairs = [
            {"reason": pair.reason, **pair.place, "similarity": pair.similarity, "twin": pair.twin}
            | dict(zip(("text", "twin_text"), pair.texts, strict=True))
            for pair in self.pairs
        ]
        counts = {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}
        return {"records": self.kept, "groups": self.groups, "ledger": counts, "pairs": pairs}


REASONS = ("exact-duplicate", "near-duplicate", "exact-overlap", "near-overlap")
"""Why a record goes: it repeats one that is kept, or overlaps one of an evaluation set."""


def dedup(options: DedupOptions) -> Deduped:
    """Write the records of `options.paths` that repeat none before them, and a ledger of the others.

    Both files appear when they are whole. Raises DataError where a record has an error and such are not to
    be dropped, and where no record is left.
    """
    ledger = _ledger(options)
    sources, staying = _open(options, ledger)
    dialects = [_dialect(source, options) for source in sources]
    if not options.report:
        _refuse_mixture(sources[staying:], dialects[staying:])
    with TemporaryDirectory(prefix="yayi-dedup-") as spool:
        parts = _partitions(sources, Path(spool))
        sources = [next(part.source for part in parts if part.source.index == s.index) for s in sources]
        prints, held_out = _print(parts, dialects, staying, options)
        records = Records(prints, sources, dialects, load_registry(options.domains))
        with closing(records):
            search = Search(options.threshold, bands_for(options.threshold), held_out)
            twins = find_twins(prints.digest, prints.signature, records.grams, search)
            run = _Run(options, ledger, records, twins, held_out, staying)
            result = run.counted()
            run.write()
            result.pairs = list(run.pairs())
    fsync_folder(options.output.parent)
    return result


def _ledger(options: DedupOptions) -> Path:
    """Return where the ledger goes; raise YayiError where the output's name will not do."""
    output = options.output
    if not options.report and output.suffix not in SUFFIXES:
        raise YayiError(f"{output}: the name of --output must end in one of {', '.join(SUFFIXES)}")
    if output.is_dir():
        raise YayiError(f"{output}: is a folder; --output names a file")
    if not output.parent.is_dir():
        raise YayiError(f"{output.parent}: there is no such folder for --output; make it first")
    return output if options.report else output.with_suffix(LEDGER)


def _open(options: DedupOptions, ledger: Path) -> tuple[list[Source], int]:
    """Return the sources, those of evaluation sets first, and how many these are."""
    if "-" in options.paths and "-" in options.against:
        raise YayiError("stdin (-) can be read once only: name it once")
    against = open_sources(options.against) if options.against else []
    sources = [*against, *open_sources(options.paths)]
    for source in sources:
        path = Path(source.path)
        for output in (options.output, ledger):
            if output.exists() and path.exists() and path.samefile(output):
                raise YayiError(f"{output}: is an input too; choose another --output")
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


def _partitions(sources: Sequence[Source], spool: Path) -> list[Partition]:
    parts: list[Partition] = []
    for source in sources:
        parts += spooled(source, len(parts), spool)
    return parts


def _print(
    parts: Sequence[Partition], dialects: Sequence[str], staying: int, options: DedupOptions
) -> tuple[Prints, int]:
    """Return the prints of all records, and how many of the first are of evaluation sets."""
    reading = Reading(
        bands_for(options.threshold),
        options.on_problem,
        options.domains,
        options.workers or os.cpu_count() or 1,
    )
    total = sum(part.source.size or 0 for part in parts if part.start == 0)
    with Progress("dedup", total) as bar:
        prints = print_records([(p, dialects[p.source.index]) for p in parts], reading, bar.advance)
    for warning in prints.warnings:
        say(f"warning: {warning}")
    return prints, int((prints.source < staying).sum())


@dataclass(frozen=True, slots=True)
class _Run:
    """What was found, on its way into files."""

    options: DedupOptions
    ledger: Path
    records: Records
    twins: Twins
    held_out: int
    staying: int

    def counted(self) -> Deduped:
        """Count where the records went; raise DataError where none is left."""
        prints, gone = self.records.prints, self.twins.twin >= 0
        dropped = Counter(self.reason(i) for i in gone.nonzero()[0].tolist())
        dropped.update(drop.reason for drop in self._drops())
        kept = len(prints) - self.held_out - int(gone.sum())
        if not kept and not self.options.report:
            raise DataError(f"{', '.join(self.options.paths)}: no record is left to write{_told(dropped)}")
        groups = len(set(self.twins.twin[gone].tolist()))
        return Deduped(kept + dropped.total(), kept, dropped, groups, self.ledger)

    def reason(self, i: int) -> str:
        """Return why record i goes."""
        overlap = self.twins.twin[i] < self.held_out
        return REASONS[2 * bool(overlap) + (not self.twins.exact[i])]

    def write(self) -> None:
        """Write the ledger, and the kept records unless this is a report."""
        with AtomicFile(self.ledger) as ledger:
            for line in self._ledger_lines():
                ledger.write(line)
            if not self.options.report:
                with AtomicFile(self.options.output) as file:
                    WRITERS[self.options.output.suffix](file, self._kept())

    def _ledger_lines(self) -> Iterator[bytes]:
        """Yield the ledger: every record that goes, in the order of the input."""
        prints, twins = self.records.prints, self.twins
        errors = iter(self._drops())
        waiting = next(errors, None)
        for i in range(self.held_out, len(prints)):
            place = int(prints.source[i]), int(prints.record[i])
            while waiting and (waiting.source, waiting.record) < place:
                yield self._error_line(waiting)
                waiting = next(errors, None)
            if twins.twin[i] >= 0:
                twin = self.records.place(int(twins.twin[i]))
                told = {"reason": self.reason(i), **self.records.place(i)}
                yield _line(told | {"similarity": round(float(twins.similarity[i]), 4), "twin": twin})
        while waiting:
            yield self._error_line(waiting)
            waiting = next(errors, None)

    def pairs(self) -> Iterator[Pair]:
        """Yield the first pairs of each reason."""
        shown: Counter[str] = Counter()
        for i in (self.twins.twin >= 0).nonzero()[0].tolist():
            reason, twin = self.reason(i), int(self.twins.twin[i])
            shown[reason] += 1
            if shown[reason] <= self.options.examples:
                similarity = round(float(self.twins.similarity[i]), 4)
                texts = self.records.text(i), self.records.text(twin)
                yield Pair(reason, self.records.place(i), self.records.place(twin), similarity, texts)

    def _kept(self) -> Iterator[bytes]:
        for i in range(self.held_out, len(self.twins.twin)):
            if self.twins.twin[i] < 0:
                yield self.records.raw(i)

    def _drops(self) -> list[Drop]:
        return [drop for drop in self.records.prints.drops if drop.source >= self.staying]

    def _error_line(self, drop: Drop) -> bytes:
        path = self.records.sources[drop.source].path
        return _line({"reason": drop.reason, "path": path, "line": drop.line, "record": drop.record})


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _write_lines(file: AtomicFile, raws: Iterator[bytes]) -> None:
    for raw in raws:
        # Only a record of an array may span lines.
        file.write((orjson.dumps(orjson.loads(raw)) if b"\n" in raw else raw) + b"\n")


def _write_array(file: AtomicFile, raws: Iterator[bytes]) -> None:
    border = b"[\n"
    for raw in raws:
        file.write(border + raw)
        border = b",\n"
    file.write(b"\n]\n")


WRITERS: dict[str, Callable[[AtomicFile, Iterator[bytes]], None]] = {
    ".jsonl": _write_lines,
    ".json": _write_array,
}


def _told(dropped: Counter[str]) -> str:
    counted = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
    return f" (dropped: {counted})" if counted else ""
