"""Problems -> text, JSON, GitHub annotations, SARIF, JUnit: a table of functions, one a format.

What comes from records is hostile: each format shows it escaped as that format needs.
"""

import os
from collections.abc import Callable
from pathlib import Path

from yayi_data.checking import ValidateResult
from yayi_data.report.github import github, step_summary
from yayi_data.report.json import json_report
from yayi_data.report.junit import junit
from yayi_data.report.sarif import sarif
from yayi_data.report.text import text

REPORTS: dict[str, Callable[[ValidateResult], str]] = {
    "text": text,
    "json": json_report,
    "github": github,
    "sarif": sarif,
    "junit": junit,
}
"""How a result is shown, by format; each returns the whole report."""


def append_step_summary(result: ValidateResult) -> None:
    """Add the summary to the page of the GitHub step that runs us, where one does."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(step_summary(result))
