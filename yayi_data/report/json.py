"""The JSON report: one object, whose shape scripts rely on."""

from typing import Any

from yayi_data.checking import ValidateResult
from yayi_data.console import json_text
from yayi_data.types import Problem
from yayi_data.validate.baseline import fingerprint


def json_report(result: ValidateResult) -> str:
    """Return the report as JSON."""
    report = {
        "ok": result.ok,
        "records": result.records,
        "files": [
            {"path": f.path, "dialect": f.dialect or None, "records": f.records, "bytes": f.bytes}
            for f in result.files
        ],
        "counts": dict(result.counts),
        "known": result.known,
        "problems": [_problem(problem) for problem in result.problems],
    }
    return json_text(report)


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "record": problem.record,
        "pointer": problem.pointer,
        "rule": problem.rule,
        "severity": problem.severity.value,
        "message": problem.message,
        "fingerprint": fingerprint(problem),
    }
