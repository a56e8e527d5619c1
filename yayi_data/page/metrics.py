"""metrics.jsonl -> columns: what a run logged, step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from yayi_data.errors import DataError

METRICS = "metrics.jsonl"
POINTS = 160
"""Points of a line: as many as a screen can tell apart."""

_SMALLEST, _LARGEST = 1e-290, 1e300

Points = list[tuple[float, float]]


@dataclass(slots=True)
class Metrics:
    """The lines of training and of evaluation, in order; `damaged` counts what was neither."""

    train: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0

    @property
    def last_step(self) -> int:
        """The step of the last line of training, 0 before the first."""
        return int(self.train[-1]["step"]) if self.train else 0

    def domains(self) -> list[str]:
        """Return the domains that were trained or evaluated on, by name."""
        trained = {name for line in self.train for name in line["loss_by_domain"]}
        return sorted(trained.union(*(line["eval_loss_by_domain"] for line in self.evaluations)))


def load_metrics(folder: Path) -> Metrics:
    """Read a run's metrics.jsonl, which may still be growing; DataError where there is none."""
    path = folder / METRICS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); has the run taken a step yet?"
        ) from error
    metrics = Metrics()
    for line in _parsed(data.splitlines(), metrics):
        (metrics.evaluations if "eval_loss" in line else metrics.train).append(line)
    if not metrics.train:
        raise DataError(f"{path}: holds no step yet; wait for the first one")
    return metrics


_TRAIN = ("epoch", "loss", "lr", "grad_norm", "tokens", "supervised_tokens", "tokens_per_second")


def _parsed(lines: Sequence[bytes], metrics: Metrics) -> Iterator[dict[str, Any]]:
    """Yield the lines that a run wrote whole; a number that is not finite is null there."""
    for line in lines:
        try:
            values = orjson.loads(line)
            sound = (
                isinstance(values["step"], int)
                and values["step"] > 0
                and (
                    isinstance(values["eval_loss_by_domain"], dict)
                    if "eval_loss" in values
                    else isinstance(values["loss_by_domain"], dict)
                    and all(_is_figure(values[n]) for n in _TRAIN)
                )
            )
        except (ValueError, TypeError, KeyError):
            sound = False
        if sound:
            yield values
        else:
            metrics.damaged += 1


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def column(lines: Sequence[dict[str, Any]], *keys: str) -> Points:
    """Return (step, value) of the lines that have a number under the keys, one inside the other.

    One beyond what can be added up is left out, one too small to divide by is 0.
    """
    points: Points = []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float) and abs(value) <= _LARGEST:
            points.append((line["step"], float(value) if abs(value) >= _SMALLEST else 0.0))
    return points


def thinned(points: Points) -> Points:
    """Return at most POINTS points: the means of consecutive ones, each at its last step."""
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in _groups(points)]


def spread(points: Points) -> list[tuple[float, float, float]]:
    """Return the lowest and highest value behind each point of `thinned`, [] where each stands for itself."""
    if len(points) <= POINTS:
        return []
    values = [(group[-1][0], [value for _, value in group]) for group in _groups(points)]
    return [(step, min(group), max(group)) for step, group in values]


def _groups(points: Points) -> list[Points]:
    size = max(1, -(-len(points) // POINTS))
    return [points[start : start + size] for start in range(0, len(points), size)]
