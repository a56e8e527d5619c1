"""Files -> one file of another dialect: read, validate, convert, tag, convert again, write."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal, cast

import orjson

from yayi_data.atomic import AtomicFile, fsync_path
from yayi_data.console import one_line, say
from yayi_data.convert import conversation, value
from yayi_data.domains import load_registry
from yayi_data.errors import ConversionError, DataError, YayiError
from yayi_data.outfile import refuse_output
from yayi_data.read import Source, chunks_of, open_sources, partitions
from yayi_data.recordfiles import WRITERS
from yayi_data.remote.urls import bare
from yayi_data.rules import RULES
from yayi_data.schema import TURNS, members
from yayi_data.types import Chunk, Conversation, Problem
from yayi_data.validate import RuleSet, check, detect

Value = dict[str, Any]

_NOT_HELD = {"name"}
"""Members of a turn that the messages dialect has and a Conversation has not."""


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
    """Where the records went: read = kept + dropped, and which members had no place in the target.

    `examples` holds the place and message of the first drop for each reason.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the JSON object that scripts rely on."""
        counts = {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}
        left_out = {one_line(member): count for member, count in self.left_out.items()}
        return {"records": self.kept, "ledger": counts, "left_out": left_out}


@dataclass(frozen=True, slots=True)
class _Conversion:
    """One source on its way to the target dialect."""

    source: Source
    dialect: str
    options: ConvertOptions
    retag: Callable[[str], str] | None
    ledger: Ledger
    drops: AtomicFile | None

    def drop(self, reason: str, record: tuple[int, int], place: str, message: str) -> None:
        """Take down a `record` (line, number) as dropped, or raise where the options do not let it go."""
        if self.drops is None:
            colon = "" if reason in RULES else ":"  # a rule stands before its message as everywhere
            raise DataError(f"{place}: {reason}{colon} {message}; --on-problem drop leaves such records out")
        line, number = record
        entry = {"reason": reason, "path": self.source.path, "line": line, "record": number}
        self.drops.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self.ledger.dropped[reason] += 1
        self.ledger.examples.setdefault(reason, f"{place}: {message}")

    def between_records(self, problem: Problem) -> None:
        """Tell of an error that costs no record, or raise where the options do not let it pass."""
        found = f"{_place(problem)}: {problem.rule} {problem.message}"
        if self.options.on_problem == "fail":
            raise DataError(f"{found}; --on-problem drop reads on")
        say(f"warning: {found}")


def drops_path(output: Path) -> Path:
    """Return where the dropped records are listed: reason, path, line and record number."""
    return output.with_suffix(".dropped.jsonl")


def convert_files(options: ConvertOptions, advance: Callable[[int], None] = lambda _: None) -> Ledger:
    """Convert files into `options.output`, which appears when it is whole and replaces what was there.

    Where records may be dropped, `drops_path` appears beside it, a line a record. `advance` is told the bytes
    read since it was last told.

    Raises DataError at the first record that has an error or does not fit, unless such records are to be
    dropped, and where no record is left.
    """
    _check_output(options.output)
    retag = _retagging(options)
    sources = open_sources(options.paths)
    for output in (options.output, drops_path(options.output)):
        refuse_output(output, [source.path for source in sources])
    ledger = Ledger()
    drops = AtomicFile(drops_path(options.output)) if options.on_problem == "drop" else None
    with TemporaryDirectory() as spool, AtomicFile(options.output) as file, drops or nullcontext():
        sources = [_readable_twice(source, Path(spool)) for source in sources]
        conversions = (_Conversion(s, _dialect(s, options), options, retag, ledger, drops) for s in sources)
        records = (record for conversion in conversions for record in _converted(conversion, advance))
        WRITERS[options.output.suffix](cast(BinaryIO, file), records, options.to)
        if not ledger.kept:
            raise DataError(
                f"{', '.join(map(bare, options.paths))}: no record is left to write{_reasons(ledger)}"
            )
    fsync_path(options.output.parent)
    return ledger


def _check_output(output: Path) -> None:
    if output.suffix not in WRITERS:
        raise YayiError(f"{output}: the name of --output must end in one of {', '.join(WRITERS)}")


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


def _dialect(source: Source, options: ConvertOptions) -> str:
    return detect(source) if options.source_dialect == "auto" else options.source_dialect


def _converted(conversion: _Conversion, advance: Callable[[int], None]) -> Iterator[Value]:
    """Yield the source's records in the target dialect, and keep the ledger."""
    position = 0
    for chunk in chunks_of(conversion.source):
        conversion.ledger.read += len(chunk)
        for place, record in _sound(chunk, conversion):
            try:
                converted = _convert(record, conversion)
            except ConversionError as error:
                shown = f"{conversion.source.path}:{place[0]}"
                conversion.drop(error.reason, place, shown, str(error))
                continue
            conversion.ledger.kept += 1
            yield converted
        if chunk.starts:
            advance(chunk.starts[-1] - position)
            position = chunk.starts[-1]


def _sound(chunk: Chunk, conversion: _Conversion) -> Iterator[tuple[tuple[int, int], Value]]:
    """Yield (line, number) and value of the records without an error."""
    checked = check(chunk, conversion.source, conversion.dialect, RuleSet.errors_only())
    first: dict[int | None, Problem] = {}
    for problem in checked.problems:
        first.setdefault(problem.record, problem)
    if None in first:
        conversion.between_records(first[None])
    for i, record in enumerate(checked.values):
        place = chunk.lines[i], chunk.number + i
        if record is None:
            problem = first[chunk.number + i]
            message = f"{problem.pointer} {problem.message}".lstrip()
            conversion.drop(problem.rule, place, _place(problem), message)
        else:
            yield place, record


def _convert(record: Value, conversion: _Conversion) -> Value:
    talk = conversation(record, conversion.dialect)
    if conversion.retag:
        talk = _retagged(talk, conversion.retag)
    converted = value(talk, conversion.options.to)
    _carry_others(record, converted, conversion)
    return converted


def _retagged(talk: Conversation, retag: Callable[[str], str]) -> Conversation:
    turns = list(talk.turns)
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if first is not None:
        turns[first] = turns[first]._replace(text=retag(turns[first].text))
    return talk._replace(turns=tuple(turns))


def _carry_others(record: Value, converted: Value, conversion: _Conversion) -> None:
    """Carry over the members that the dialect does not know; count those that have no place in the target."""
    dialect, options, left_out = conversion.dialect, conversion.options, conversion.ledger.left_out
    known, target = members(dialect), members(options.to)
    for member in record:
        if member in known["record"]:
            continue
        if member in target["record"] or options.output.suffix == ".parquet":
            left_out[member] += 1
        else:
            converted[member] = record[member]
    for turn in record[TURNS[dialect]] if dialect in TURNS else ():
        if len(turn) > 2:  # more than who speaks and what
            left_out.update(turn.keys() - set(known["turn"]) | turn.keys() & _NOT_HELD)


def _place(problem: Problem) -> str:
    return f"{problem.path}:{problem.line}:{problem.column}"


def _reasons(ledger: Ledger) -> str:
    counted = ", ".join(f"{reason} {count}" for reason, count in ledger.dropped.most_common())
    return f" (dropped: {counted})" if counted else ""
