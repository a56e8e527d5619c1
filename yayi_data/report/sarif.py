"""SARIF 2.1.0, which code-scanning services read."""

from typing import Any
from urllib.parse import quote

from yayi_data import __version__
from yayi_data.checking import ValidateResult
from yayi_data.console import json_text, one_line
from yayi_data.rules import RULES, Rule
from yayi_data.types import Problem
from yayi_data.validate.baseline import fingerprint

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(result: ValidateResult) -> str:
    """Return the report as one SARIF run."""
    driver = {"name": "yayi-data", "version": __version__, "rules": [_rule(rule) for rule in RULES.values()]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": _uri(file.path)}} for file in result.files],
        "results": [_result(problem) for problem in result.problems],
    }
    return json_text({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": rule.name},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"Bad: {rule.bad}\nGood: {rule.good}"},
        "defaultConfiguration": {"level": rule.severity.value},
    }


_INDEX = {rule: i for i, rule in enumerate(RULES)}


def _result(problem: Problem) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": problem.line, "startColumn": problem.column}
    if problem.snippet:
        region["snippet"] = {"text": one_line(problem.snippet)}
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(problem.path)}, "region": region}
    }
    if problem.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": one_line(problem.pointer), "kind": "value"}]
    return {
        "ruleId": problem.rule,
        "ruleIndex": _INDEX[problem.rule],
        "level": problem.severity.value,
        "message": {"text": one_line(problem.message)},
        "locations": [location],
        "partialFingerprints": {"yayiData/v1": fingerprint(problem)},
    }


def _uri(path: str) -> str:
    if "://" in path:
        return quote(path, safe="/:%", errors="replace")
    return quote(path.replace("\\", "/"), errors="replace")
