"""Files -> one file of another dialect: read, validate, convert, tag, convert again, write."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal, cast

from yayi_data.atomic import AtomicFile, fsync_folder
from yayi_data.console import say
from yayi_data.convert import conversation, value
from yayi_data.domains import load_registry
from yayi_data.errors import ConversionError, DataError, YayiError
from yayi_data.read import Source, chunks_of, open_sources, partitions
from yayi_data.recordfiles import WRITERS
from yayi_data.schema import TURNS, members
from yayi_data.types import Chunk, Conversation, Problem, Severity
from yayi_data.validate import RuleSet, check, detect

_NOT_HELD = {"name"}
"""Members of a turn that the messages dialect has and a Conversation has not."""

_DROP = "--on-problem drop leaves out what cannot be converted"


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What to convert to what; several `paths` are merged in their order."""

    paths: tuple[str, ...]
    to: str
    output: Path
    source_dialect: str = "auto"
    add_domain: str | None = None
    strip_domain: bool = False
    on_problem: Literal["fail", "drop"] = "fail"
    domains: str | None = None


@dataclass(slots=True)
class Ledger:
    """Where the records went: read = kept + dropped, and which members had no place in the target."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the JSON object that scripts rely on."""
        counts = {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}
        return {"records": self.kept, "ledger": counts, "left_out": dict(self.left_out)}


def convert_files(options: ConvertOptions) -> Ledger:
    """Convert files into `options.output`, which appears when it is whole and replaces what was there.

    Raises DataError at the first record that has an error or does not fit, unless such records are to be
    dropped, and where no record is left.
    """
    _check_output(options.output)
    retag = _retagging(options)
    sources = open_sources(options.paths)
    _refuse_input_as_output(sources, options.output)
    ledger = Ledger()
    with TemporaryDirectory() as spool, AtomicFile(options.output) as file:
        sources = [_readable_twice(source, Path(spool)) for source in sources]
        records = (record for source in sources for record in _converted(source, options, retag, ledger))
        WRITERS[options.output.suffix](cast(BinaryIO, file), records, options.to)
        if not ledger.kept:
            raise DataError(f"{', '.join(options.paths)}: no record is left to write{_reasons(ledger)}")
    fsync_folder(options.output.parent)
    return ledger


def _check_output(output: Path) -> None:
    if output.suffix not in WRITERS:
        raise YayiError(f"{output}: the name of --output must end in one of {', '.join(WRITERS)}")
    if output.is_dir():
        raise YayiError(f"{output}: is a folder; --output names a file")


def _refuse_input_as_output(sources: list[Source], output: Path) -> None:
    for source in sources:
        path = Path(source.path)
        if output.exists() and path.exists() and path.samefile(output):
            raise YayiError(f"{output}: is an input too; choose another --output")


def _readable_twice(source: Source, spool: Path) -> Source:
    """Return the source; a copy of stdin, whose dialect is found before it is read."""
    if source.path != "-":
        return source
    parts, _ = partitions(source, 0, spool=spool)
    return parts[0].source


def _retagging(options: ConvertOptions) -> Callable[[str], str] | None:
    """Return what the options do to a conversation's first question."""
    registry = load_registry(options.domains)
    if options.add_domain is not None and options.strip_domain:
        raise YayiError("--add-domain and --strip-domain exclude each other: choose one")
    if options.add_domain is not None:
        domain = registry.find(options.add_domain)
        return lambda text: registry.add(text, domain)
    return registry.strip if options.strip_domain else None


def _converted(
    source: Source, options: ConvertOptions, retag: Callable[[str], str] | None, ledger: Ledger
) -> Iterator[dict[str, Any]]:
    """Yield the source's records in the target dialect, and keep the ledger."""
    dialect = detect(source) if options.source_dialect == "auto" else options.source_dialect
    for chunk in chunks_of(source):
        ledger.read += len(chunk)
        for line, record in _sound(chunk, source, dialect, options, ledger):
            try:
                talk = conversation(record, dialect)
                converted = value(_retagged(talk, retag) if retag else talk, options.to)
            except ConversionError as error:
                if options.on_problem == "fail":
                    raise DataError(
                        f"{source.path}:{line}: {error}; --on-problem drop leaves it out"
                    ) from error
                ledger.dropped[error.reason] += 1
                continue
            ledger.kept += 1
            yield _with_others(converted, record, dialect, options, ledger)


def _sound(
    chunk: Chunk, source: Source, dialect: str, options: ConvertOptions, ledger: Ledger
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line and value of the records without an error; the others fail the run or are dropped."""
    checked = check(chunk, source, dialect, RuleSet.errors_only())
    errors = [problem for problem in checked.problems if problem.severity is Severity.ERROR]
    if errors and options.on_problem == "fail":
        raise DataError(
            f"{_told(errors[0])}; yayi-data validate lists all, --on-problem drop leaves them out"
        )
    for problem in errors:
        if problem.record is None:
            say(f"warning: {_told(problem)}")
    reasons = {problem.record: problem.rule for problem in reversed(errors)}
    for i, record in enumerate(checked.values):
        if record is None:
            ledger.dropped[reasons[chunk.number + i]] += 1
        else:
            yield chunk.lines[i], record


def _retagged(talk: Conversation, retag: Callable[[str], str]) -> Conversation:
    turns = list(talk.turns)
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if first is not None:
        turns[first] = turns[first]._replace(text=retag(turns[first].text))
    return talk._replace(turns=tuple(turns))


def _with_others(
    converted: dict[str, Any], record: dict[str, Any], dialect: str, options: ConvertOptions, ledger: Ledger
) -> dict[str, Any]:
    """Carry over the members that the dialect does not know; count those that have no place in the target."""
    known, target = members(dialect), members(options.to)
    for member in record:
        if member in known["record"]:
            continue
        if member in target["record"] or options.output.suffix == ".parquet":
            ledger.left_out[member] += 1
        else:
            converted[member] = record[member]
    for turn in record[TURNS[dialect]] if dialect in TURNS else ():
        ledger.left_out.update(turn.keys() - set(known["turn"]) | turn.keys() & _NOT_HELD)
    return converted


def _told(problem: Problem) -> str:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    return " ".join(part for part in (f"{place}:", problem.rule, problem.pointer, problem.message) if part)


def _reasons(ledger: Ledger) -> str:
    counted = ", ".join(f"{reason} {count}" for reason, count in ledger.dropped.most_common())
    return f" (dropped: {counted})" if counted else ""
