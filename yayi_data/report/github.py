"""GitHub: an annotation a problem, as workflow commands, and a summary of the step in Markdown."""

import re

from yayi_data.checking import ValidateResult
from yayi_data.console import one_line
from yayi_data.report.words import verdict
from yayi_data.rules import RULES
from yayi_data.types import Problem

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def github(result: ValidateResult) -> str:
    """Return one workflow command a problem, errors first, since GitHub shows ten of each kind."""
    ordered = sorted(result.problems, key=lambda problem: problem.severity.value)
    lines = [_command(problem) for problem in ordered]
    return "\n".join([*lines, f"::notice::{_data(verdict(result))}"]) + "\n"


def step_summary(result: ValidateResult) -> str:
    """Return Markdown for the step's page: the verdict, the rules, the first problems."""
    lines = [f"### yayi-data validate: {_markdown(verdict(result))}", ""]
    if result.counts:
        lines += ["| rule | problems | |", "| --- | ---: | --- |"]
        lines += [f"| {rule} | {n:,} | {RULES[rule].name} |" for rule, n in result.counts.most_common()]
        lines += ["", "| place | rule | problem |", "| --- | --- | --- |"]
        lines += [_row(problem) for problem in result.problems[:50]]
    return "\n".join(lines) + "\n"


def _command(problem: Problem) -> str:
    properties = {
        "file": problem.path,
        "line": str(problem.line),
        "col": str(problem.column),
        "title": problem.rule,
    }
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{problem.severity.value} {listed}::{_data(_told(problem))}"


def _told(problem: Problem) -> str:
    return f"{problem.pointer}: {problem.message}" if problem.pointer else problem.message


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _row(problem: Problem) -> str:
    place = f"{problem.path}:{problem.line}:{problem.column}"
    return f"| {_markdown(place)} | {problem.rule} | {_markdown(_told(problem))} |"


def _markdown(text: str) -> str:
    """Write every mark as an entity, which Markdown shows and does not obey."""
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", one_line(text))
