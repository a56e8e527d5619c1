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


def text(result: ValidateResult, *, colour: bool = False) -> str:
    """Return the report as text of about 100 columns; `colour` adds a terminal's colours."""
    page = _Page(colour)
    lines = [line for path, found in groupby(result.problems, _path) for line in page.file(path, list(found))]
    lines += page.summary(result)
    return "\n".join([*lines, page.styled(verdict(result), "ok" if result.ok else "error")]) + "\n"


def _path(problem: Problem) -> str:
    return problem.path


class _Page:
    def __init__(self, colour: bool) -> None:
        self.colour = colour

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
            told = f"{problem.rule:{rule}}  {pointer}{one_line(problem.message)}"
            yield f"  {place:>{wide}}  {severity}  {told}"
            if problem.snippet:
                yield from self.snippet(problem)
        yield ""

    def snippet(self, problem: Problem) -> Iterator[str]:
        before = one_line(problem.snippet[: problem.caret])
        shown = before + one_line(problem.snippet[problem.caret :])
        yield self.styled(f"{_INDENT}| {shown}", "dim")
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
        yield self.styled("yayi-data rules RULE explains a rule, with a bad and a good record", "dim")


def width(words: str) -> int:
    """Return how many columns a terminal needs: two for a wide character."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in words)


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
