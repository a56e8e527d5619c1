"""Words and counts that several reports share."""

from yayi_data.checking import ValidateResult
from yayi_data.console import one_line
from yayi_data.types import Problem


def counted(number: int, word: str) -> str:
    """Return `1 record`, `2,000 records`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def verdict(result: ValidateResult) -> str:
    """Return the last word on a run, in one line."""
    total = sum(result.counts.values())
    known = f" ({counted(result.known, 'known problem')} in the baseline)" if result.known else ""
    read = f"{counted(result.records, 'record')} in {counted(len(result.files), 'file')}"
    if not total:
        return f"{read}: no problems{known}"
    warnings = total - result.errors
    parts = [counted(result.errors, "error")] if result.errors else []
    parts += [counted(warnings, "warning")] if warnings else []
    return f"{read}: {', '.join(parts)}{known}"


def place(problem: Problem) -> str:
    """Return path:line:column, made safe to show in one line."""
    return f"{one_line(problem.path)}:{problem.line}:{problem.column}"
