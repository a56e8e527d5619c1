"""Problems that are known already: a JSON report of an earlier run, matched without line numbers."""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import xxhash

from yayi_data.errors import YayiError
from yayi_data.types import Problem

_NUMBER = re.compile(r"\d+")
_HOW = "write one with yayi-data validate PATH --format json --output FILE"


def fingerprint(problem: Problem) -> str:
    """Return what stays the same of a problem when records are added before it: 16 hex digits."""
    pointer, message = (_NUMBER.sub("0", text) for text in (problem.pointer, problem.message))
    told = problem.snippet or problem.content
    parts = "\0".join((_from_root(problem.path), problem.rule, pointer, message, told))
    return xxhash.xxh3_64_hexdigest(parts.encode("utf-8", "replace"))


@lru_cache(maxsize=1024)
def _from_root(path: str) -> str:
    """Return a path as it is written from the project's folder, however it was given."""
    if path == "-" or "://" in path:
        return path
    here = Path.cwd()
    marked = (one for one in (here, *here.parents) if any((one / mark).exists() for mark in _MARKS))
    return os.path.relpath(path, next(marked, here))


_MARKS = ("yayi.toml", "pyproject.toml", ".git")


@dataclass(slots=True)
class Baseline:
    """How often each problem is known; each may be met that often."""

    left: Counter[str]

    def knows(self, problem: Problem) -> bool:
        """Tell whether a problem is known, and count it as met."""
        name = fingerprint(problem)
        known = self.left[name] > 0
        self.left[name] -= known
        return known


def load_baseline(path: str) -> Baseline:
    """Load a JSON report as a baseline; raise YayiError where it is missing or something else."""
    try:
        report: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        listed = Counter(problem["rule"] for problem in report["problems"])
        left_out = [rule for rule, count in report["counts"].items() if count > listed[rule]]
        known = Counter(problem["fingerprint"] for problem in report["problems"])
    except OSError as error:
        raise YayiError(f"{path}: cannot read the baseline: {error.strerror}; {_HOW}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise YayiError(f"{path}: is not a JSON report of yayi-data validate; {_HOW}") from error
    if left_out:
        rule = left_out[0]
        raise YayiError(
            f"{path}: lists {listed[rule]:,} of {report['counts'][rule]:,} problems of {rule}, so the others "
            f"would count as new; write it without --max-problems, or leave the rule out (--ignore {rule})"
        )
    return Baseline(known)
