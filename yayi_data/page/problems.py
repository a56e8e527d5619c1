"""The problems of the sources, from the report that `yayi-data validate --format json` wrote of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_data.manifest import SourceFacts
from yayi_data.rules import RULES

_PLACES = 5  # places that are named for a rule
_MAKE = "write one with `yayi-data validate PATH... --format json --output problems.json`"


class Place(NamedTuple):
    """A source's name, and where in it, such as `:3:1`."""

    name: str
    at: str = ""


class RuleProblems(NamedTuple):
    """The problems of one rule: their number, the first places, and the first message."""

    rule: str
    title: str
    severity: str
    number: int
    places: list[Place]
    message: str


@dataclass(frozen=True, slots=True)
class Problems:
    """What validate found; `sizes` are the bytes of the files it read, by their names."""

    origin: Path
    records: int
    rules: list[RuleProblems]
    sizes: dict[str, set[int | None]]

    def refuse_foreign(self, sources: Sequence[SourceFacts]) -> None:
        """Raise YayiError where the report is about none of a folder's sources."""
        if not self.sizes.keys() & {Path(source.name).name for source in sources}:
            raise YayiError(
                f"{self.origin}: is about {_listed(list(self.sizes))}, but the folder was packed from "
                f"{_listed([source.name for source in sources])}; validate those"
            )

    def differing(self, sources: Sequence[SourceFacts]) -> list[Place]:
        """Return the sources that validate did not read as they were packed: other bytes, or not at all."""
        sizes = {source.name: self.sizes.get(Path(source.name).name, set()) for source in sources}
        return [Place(source.name) for source in sources if source.bytes not in sizes[source.name]]


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:3])) + (" …" if len(names) > 3 else "") if names else "no file"


def load_problems(path: Path) -> Problems:
    """Read a JSON report of validate; YayiError where the file is something else."""
    try:
        report: dict[str, Any] = orjson.loads(path.read_bytes())
        sizes: dict[str, set[int | None]] = defaultdict(set)
        for file in report["files"]:
            sizes[Path(file["path"]).name].add(file["bytes"])
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for problem in report["problems"]:
            found[problem["rule"]].append(problem)
        rules = [_rule(rule, count, found[rule]) for rule, count in report["counts"].items()]
        records = int(report["records"])
    except OSError as error:
        raise YayiError(f"{path}: cannot be read: {error.strerror}; {_MAKE}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise YayiError(f"{path}: is not a report of validate in JSON; {_MAKE}") from None
    order = {"error": 0, "warning": 1}
    return Problems(path, records, sorted(rules, key=lambda r: (order.get(r.severity, 2), -r.number)), sizes)


def _rule(rule: str, count: int, found: list[dict[str, Any]]) -> RuleProblems:
    known = RULES.get(rule)
    return RuleProblems(
        rule=rule,
        title=known.name if known else "",
        severity=str(found[0]["severity"]) if found else (known.severity.value if known else ""),
        number=int(count),
        places=[
            Place(Path(p["path"]).name, f":{int(p['line'])}:{int(p['column'])}") for p in found[:_PLACES]
        ],
        message=str(found[0]["message"]) if found else "",
    )
