"""The report for people: grouped by file, each problem with its line and a caret, a summary by rule."""

from collections.abc import Iterator
from itertools import groupby
from unicodedata import east_asian_width

from yayi_data.checking import ValidateResult
from yayi_data.console import one_line
from yayi_data.report.words import counted, verdict
from yayi_data.rules import RULES
from yayi_data.types import Problem

_COLOURS = {"error": "31", "warning": "33", "bold": "1", "dim": "2", "ok": "32"}
_INDENT = "      "
_LEAST = 40
"""Columns that a message needs to stand beside its place; with fewer it stands below."""


def text(result: ValidateResult, *, colour: bool = False, columns: int = 0) -> str:
    """Return the report as text, in a terminal's colours if `colour`, folded to `columns` where not 0."""
    page = _Page(colour, columns)
    lines = [line for path, found in groupby(result.problems, _path) for line in page.file(path, list(found))]
    lines += page.summary(result)
    return "\n".join([*lines, page.styled(verdict(result), "ok" if result.ok else "error")]) + "\n"


def _path(problem: Problem) -> str:
    return problem.path


class _Page:
    def __init__(self, colour: bool, columns: int) -> None:
        self.colour = colour
        self.columns = columns

    def styled(self, words: str, style: str) -> str:
        return f"\x1b[{_COLOURS[style]}m{words}\x1b[0m" if self.colour else words

    def file(self, path: str, problems: list[Problem]) -> Iterator[str]:
        """Yield a file's problems, aligned with each other."""
        yield self.styled(one_line(path), "bold")
        places = [f"{problem.line}:{problem.column}" for problem in problems]
        wide, rule = max(map(len, places)), max(len(problem.rule) for problem in problems)
        for place, problem in zip(places, problems, strict=True):
            severity = self.styled(f"{problem.severity.value:7}", problem.severity.value)
            pointer = f"{one_line(problem.pointer)}: " if problem.pointer else ""
            head = f"  {place:>{wide}}  {severity}  {problem.rule:{rule}}  "
            yield from self.told(head, wide + rule + 13, pointer + one_line(problem.message))
            if problem.snippet:
                yield from self.snippet(problem)
        yield ""

    def told(self, head: str, indent: int, words: str) -> Iterator[str]:
        """Yield a head of `indent` columns and words beside it, or below it where a terminal is narrow."""
        room = self.columns - indent
        if not self.columns or width(words) <= room:
            yield head + words
        elif room >= _LEAST:
            first, *rest = _folded(words, room)
            yield from (head + first, *(" " * indent + line for line in rest))
        else:
            lines = _folded(words, max(_LEAST // 2, self.columns - len(_INDENT)))
            yield from (head.rstrip(), *(_INDENT + line for line in lines))

    def snippet(self, problem: Problem) -> Iterator[str]:
        before = one_line(problem.snippet[: problem.caret])
        after = one_line(problem.snippet[problem.caret :])
        if self.columns:
            room = max(_LEAST // 2, self.columns - len(_INDENT) - 2)
            before = _end(before, room * 2 // 3)
            after = _end(after[::-1], room - width(before))[::-1]
        yield self.styled(f"{_INDENT}| {before}{after}", "dim")
        yield f"{_INDENT}| {' ' * width(before)}{self.styled('^', problem.severity.value)}"

    def summary(self, result: ValidateResult) -> Iterator[str]:
        """Yield a line for each rule that was broken, with how many of its problems are not shown."""
        if not result.counts:
            return
        shown = {rule: sum(p.rule == rule for p in result.problems) for rule in result.counts}
        wide = max(map(len, result.counts))
        for rule in (rule for rule in RULES if result.counts[rule]):
            total = result.counts[rule]
            more = f" ({shown[rule]:,} shown)" if shown[rule] < total else ""
            yield f"{total:>8,}  {rule:{wide}}  {RULES[rule].name}{more}"
        yield ""
        if shown != result.counts:
            yield self.styled("--max-problems N shows more of each rule, --format json all", "dim")
        yield self.styled("yayi-data rules RULE explains a rule, with a bad and a good record", "dim")


def width(words: str) -> int:
    """Return how many columns a terminal needs: two for a wide character."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in words)


def _folded(words: str, room: int) -> list[str]:
    """Return words in lines of at most `room` columns, broken between words where they are."""
    from rich.console import Console  # takes a while to import, and most reports have nothing to fold
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(words).wrap(Console(), room)]


def _end(words: str, room: int) -> str:
    """Return as much of the end of `words` as fits into `room` columns."""
    while width(words) > room:
        words = words[1:]
    return words


def rule_page(rule: str) -> str:
    """Return one rule explained."""
    found = RULES[rule]
    lines = [f"{found.id}: {found.name} ({found.severity.value})", "", found.why, ""]
    for title, example in (("Bad:", found.bad), ("Good:", found.good)):
        lines += [title, *(f"  {line}" for line in _shown_lines(example)), ""]
    return "\n".join(lines)


def _shown_lines(example: str) -> list[str]:
    return [one_line(line) for line in example.split("\n")] if example else ["(an empty file)"]


def rule_table() -> str:
    """Return all rules, one a line."""
    wide = max(map(len, RULES))
    lines = [f"{rule.id:{wide}}  {rule.severity.value:7}  {rule.name}" for rule in RULES.values()]
    return "\n".join([*lines, "", counted(len(RULES), "rule")]) + "\n"
