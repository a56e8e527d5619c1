"""Records -> problems: a fast path that says which records are clean, and exact places for the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from yayi_data import findings
from yayi_data.errors import DataError
from yayi_data.findings import Finding
from yayi_data.locate import Where, problem
from yayi_data.read import chunks_of
from yayi_data.rules import ERRORS, RULES
from yayi_data.scan import scan_record
from yayi_data.schema import accepts
from yayi_data.sources import Source
from yayi_data.types import Chunk, Problem

TOKENS = ("<|System|>", "<|Human|>", "<|YaYi|>", "<|End|>")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules to apply, and what they look for."""

    enabled: frozenset[str] = frozenset(RULES)
    control_tokens: tuple[str, ...] = TOKENS

    @classmethod
    def errors_only(cls) -> "RuleSet":
        """Return the rules whose breach leaves a record unusable: what `pack` asks for."""
        return cls(ERRORS)


@dataclass(slots=True)
class Checked:
    """What checking a chunk gave: parsed records (None where one has an error), problems in their order."""

    values: list[Any | None]
    problems: list[Problem]


def detect(source: Source) -> str:
    """Return the dialect of a source, from its first records; raise DataError where none fits."""
    for chunk in chunks_of(source, 100):
        for raw in chunk.raws:
            if dialect := _dialect(_parsed(raw)):
                return dialect
    raise DataError(
        f"{source.path}: its first records fit no dialect: expected `instruction` and `output` (alpaca), "
        "`conversations` (multi-turn, sharegpt) or `messages`; name it with --dialect"
    )


def _dialect(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    if isinstance(turns := value.get("conversations"), list):
        roles = {str(turn.get("from")) for turn in turns if isinstance(turn, dict)}
        return (
            "sharegpt"
            if "yayi" not in roles and (roles - {"human"} or "tools" in value)
            else "multi-turn"
        )
    if isinstance(value.get("messages"), list):
        return "messages"
    return "alpaca" if "instruction" in value or "output" in value else None


def check(chunk: Chunk, source: Source, dialect: str, rules: RuleSet) -> Checked:
    """Check the records of a chunk; a pure function of its arguments."""
    values = chunk.values if chunk.values is not None else [_parsed(raw) for raw in chunk.raws]
    found = list(chunk.problems)
    good: list[Any] = list(values)
    for i in range(len(chunk)):
        problems = list(_problems(chunk, i, values[i], source, dialect))
        if chunk.raws[i] == b"" or any(p.rule in ERRORS for p in problems):
            good[i] = None
        found.extend(problems)
    found = sorted((p for p in found if p.rule in rules.enabled), key=lambda p: (p.line, p.column))
    return Checked(good, found)


def _problems(chunk: Chunk, i: int, value: Any, source: Source, dialect: str) -> Iterator[Problem]:
    if not chunk.raws[i]:
        return
    where = Where(source.path, chunk.number + i, chunk.lines[i], chunk.columns[i] if chunk.columns else 1)
    if value is _BROKEN:
        yield from _faults(chunk.raws[i], where)
        return
    if not accepts(dialect).is_valid([value]) or [*findings.roles(value, dialect)]:
        broken = [*findings.schema(value, dialect)] or [*findings.roles(value, dialect)]
        yield from _placed(chunk.raws[i], where, broken)


_BROKEN = object()


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _BROKEN


def _faults(raw: bytes, where: Where) -> Iterator[Problem]:
    found = scan_record(raw)
    for fault in [*found.faults, *([found.syntax] if found.syntax else [])]:
        yield problem(where, raw, fault.offset, fault.rule, fault.message, fault.path)


def _placed(raw: bytes, where: Where, broken: Sequence[Finding]) -> Iterator[Problem]:
    found = scan_record(raw, {finding.path for finding in broken})
    for finding in broken:
        offset = (found.keys if finding.at_key else found.values)[finding.path]
        yield problem(where, raw, offset, finding.rule, finding.message, finding.path)
