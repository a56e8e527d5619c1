"""Files -> all their problems: read, check, compare records with each other, leave out what is known."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

from yayi_data.domains import load_registry
from yayi_data.errors import DataError
from yayi_data.read import chunks_of, open_sources
from yayi_data.read.buffer import Place
from yayi_data.read.lines import LineReader
from yayi_data.read.sources import Source, blocks, line_starts
from yayi_data.rules import RULES
from yayi_data.runner import run
from yayi_data.template import load_template
from yayi_data.types import Chunk, Problem, Severity
from yayi_data.validate import by_place, check, check_syntax, detect, one_document
from yayi_data.validate.baseline import load_baseline
from yayi_data.validate.repeats import Hash, Prints, Repeats, prints, stable_hash
from yayi_data.validate.ruleset import REPEAT_RULES, RuleSet, selected

JOB_BYTES = 8 << 20
POOL_BYTES = 8 * JOB_BYTES
"""Less than this one process has done before others have started."""

MOST_KEPT = 100_000
"""Problems of one rule that are kept for a report; all are counted."""


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """What to validate, and how; `limit` is per file, `max_problems` per rule (None: all).

    With `fingerprints`, those of repeats are the same in every run, which takes longer.
    """

    paths: tuple[str, ...]
    dialect: str = "auto"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severity: tuple[tuple[str, str], ...] = ()
    strict: bool = False
    baseline: str | None = None
    max_problems: int | None = None
    limit: int | None = None
    domains: str | None = None
    template: str = "yayi"
    workers: int | None = None
    fingerprints: bool = False


@dataclass(slots=True)
class FileFacts:
    """What was read of one file; `bytes` are as stored, None where unknown."""

    path: str
    dialect: str
    records: int = 0
    bytes: int | None = None


@dataclass(slots=True)
class ValidateResult:
    """All files, the number of problems by rule, and the problems themselves, file by file, by place.

    Problems of the baseline are in `known` only.
    """

    files: list[FileFacts] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    known: int = 0
    errors: int = 0
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether the data passed."""
        return not (self.counts if self.strict else self.errors)

    @property
    def records(self) -> int:
        """The records read, malformed ones included."""
        return sum(file.records for file in self.files)


@dataclass(frozen=True, slots=True)
class _Job:
    """A stretch of a source for one process; lines and records count from the stretch's beginning."""

    source: Source
    dialect: str
    limit: int | None
    hashed: Hash
    start: int = 0
    end: int = -1


@dataclass(slots=True)
class _Part:
    """What one chunk gave; `lines` is set in the last part of a stretch."""

    records: int
    problems: list[Problem]
    prints: Prints | None
    position: int
    lines: int = 0


def validate_paths(
    options: ValidateOptions, advance: Callable[[int], None] = lambda _: None
) -> ValidateResult:
    """Check every record of every file in one pass; `advance` is told the bytes done since it was last told.

    Raises YayiError where a path, a rule or the baseline is not what it should be; bad data never raises.
    """
    gathered = _Gathered(options)
    load = partial(_rules, options)
    load()  # a wrong rule, template or domain file is told before any data is read
    for job, parts in _results(_jobs(options), options.workers or os.cpu_count() or 1, load):
        gathered.begin(job)
        for part in parts:
            advance(gathered.add(part))
    return gathered.finish()


def _rules(options: ValidateOptions) -> RuleSet:
    return RuleSet(
        selected(options.select, options.ignore),
        load_template(options.template).control,
        load_registry(options.domains),
    )


# The work, and who does it


def _jobs(options: ValidateOptions) -> list[_Job]:
    jobs = []
    hashed = stable_hash if options.fingerprints or options.baseline else hash
    for source in open_sources(options.paths):
        dialect = _dialect(source) if options.dialect == "auto" else options.dialect
        job = _Job(source, dialect, options.limit, hashed)
        jobs += _stretches(job) if dialect and options.limit is None else [job]
    return jobs


def _dialect(source: Source) -> str:
    try:
        return detect(source)
    except DataError:
        return ""  # said again as a problem, at its place


def _stretches(job: _Job) -> list[_Job]:
    """Cut a file of lines where lines begin, so that several processes can work on it."""
    source = job.source
    if source.kind == "array" or not source.seekable or (source.size or 0) < 2 * JOB_BYTES:
        return [job]
    borders = [*line_starts(source, range(0, source.size or 0, JOB_BYTES)), -1]
    return [replace(job, start=start, end=end) for start, end in pairwise(borders)]


def _results(
    jobs: list[_Job], workers: int, load: Callable[[], RuleSet]
) -> Iterator[tuple[_Job, Iterable[_Part]]]:
    small = sum(job.source.size or 0 for job in jobs if job.start == 0) < POOL_BYTES
    if workers == 1 or len(jobs) == 1 or small or any(job.source.one_shot for job in jobs):
        rules = load()
        yield from ((job, _parts(rules, job)) for job in jobs)
    else:
        with _same_hashes():
            yield from zip(jobs, run(_all_parts, jobs, workers, load), strict=True)


@contextmanager
def _same_hashes() -> Iterator[None]:
    """Let the processes that are started here agree on the hash of a text."""
    if "PYTHONHASHSEED" in os.environ:
        yield
        return
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]


def _all_parts(rules: RuleSet, job: _Job) -> list[_Part]:
    return list(_parts(rules, job))


def _parts(rules: RuleSet, job: _Job) -> Iterator[_Part]:
    if not job.dialect and (document := one_document(job.source)):
        yield _Part(1, [document] if "dialect" in rules.enabled else [], None, 0)
        return
    if job.start == 0 and job.end < 0:
        yield from (_part(rules, job, chunk) for chunk in chunks_of(job.source, job.limit))
        return
    reader = LineReader(job.source, blocks(job.source, job.start, job.end), Place(job.start))
    for chunk in reader.chunks():
        yield _part(rules, job, chunk)
    yield _Part(0, [], None, reader.offset - job.start, reader.line - 1)


def _part(rules: RuleSet, job: _Job, chunk: Chunk) -> _Part:
    position = chunk.starts[-1] - job.start if chunk.starts else 0
    if not job.dialect:
        return _Part(len(chunk), check_syntax(chunk, job.source, rules), None, position)
    checked = check(chunk, job.source, job.dialect, rules)
    found = prints(chunk, checked, job.dialect, job.hashed) if rules.enabled & REPEAT_RULES else None
    return _Part(len(chunk), checked.problems, found, position)


# Gathering


class _Gathered:
    """The parts of all files, put together in their order."""

    def __init__(self, options: ValidateOptions) -> None:
        self.baseline = load_baseline(options.baseline) if options.baseline else None
        self.enabled = selected(options.select, options.ignore)
        self.severity = {rule: Severity(level) for rule, level in options.severity}
        self.most = min(options.max_problems or MOST_KEPT, MOST_KEPT)
        self.repeats = Repeats()
        self.result = ValidateResult(strict=options.strict)
        self.by_file: dict[str, list[Problem]] = {}
        self.lines = self.records = self.position = 0

    def begin(self, job: _Job) -> None:
        """Begin a file, or go on with its next stretch."""
        self.position = 0
        if job.start:
            return
        self.end_file()
        self.lines = self.records = 0
        self.result.files.append(FileFacts(job.source.path, job.dialect, 0, job.source.size))
        self.by_file[job.source.path] = []

    def add(self, part: _Part) -> int:
        """Add a part, and return how many bytes it stands for."""
        file = self.result.files[-1]
        for problem in part.problems:
            number = problem.record if problem.record is None else problem.record + self.records
            self.note(problem._replace(line=problem.line + self.lines, record=number))
        if part.prints is not None:
            self.repeats.add(file.path, part.prints, self.lines)
        file.records += part.records
        if part.lines:  # a stretch ends, whose lines and records counted from its own beginning
            self.lines += part.lines
            self.records = file.records
        done, self.position = part.position - self.position, part.position
        return done

    def note(self, problem: Problem) -> None:
        if self.baseline and self.baseline.knows(problem):
            self.result.known += 1
            return
        severity = self.count(problem.rule)
        if self.result.counts[problem.rule] <= self.most:
            self.by_file[problem.path].append(problem._replace(severity=severity))

    def count(self, rule: str) -> Severity:
        """Count a problem of a rule, and return its severity."""
        severity = self.severity.get(rule) or RULES[rule].severity
        self.result.counts[rule] += 1
        self.result.errors += severity is Severity.ERROR
        return severity

    def end_file(self) -> None:
        if not self.result.files:
            return
        file = self.result.files[-1]
        if not file.records and not self.by_file[file.path]:
            self.note(Problem(file.path, 1, 1, None, "", "no-records", Severity.ERROR, EMPTY))

    def finish(self) -> ValidateResult:
        """Compare the records with each other, and return everything."""
        self.end_file()
        for repeat in self.repeats.found():
            if repeat.rule not in self.enabled:
                continue
            if self.baseline or self.result.counts[repeat.rule] < self.most:
                self.note(self.repeats.problem(repeat))
            else:
                self.count(repeat.rule)
        for problems in self.by_file.values():
            self.result.problems += sorted(problems, key=by_place)
        return self.result


EMPTY = "the file holds no records: was the step before this one cut short?"


def total_bytes(paths: Iterable[str]) -> int:
    """Return the bytes of the inputs whose size is known without reading them."""
    return sum(source.size or 0 for source in open_sources(list(paths)))
