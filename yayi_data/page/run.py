"""What the page shows of a training run, and its charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson
from markupsafe import Markup

from yayi_data.errors import DataError
from yayi_data.page.charts import Chart, Mark, Series, frame, lines, sparkline
from yayi_data.page.metrics import Metrics, Points, column, load_metrics, spread, thinned
from yayi_data.page.svg import figure

RUN = "run.json"
_ROWS = 12  # of the table beside a chart
_NAMED = 40  # domains in the table
_RESUMED = 3  # starts that are marked: the last ones
_PANELS = 12  # domains with a chart of their own: those most learnt from


class Panel(NamedTuple):
    """A domain's loss beside that of all."""

    name: str
    drawn: Markup


class Domain(NamedTuple):
    """What a run made of a domain; `share` is its part of the supervised tokens, None where not logged.

    `steps` is the share of the logged lines in which it occurred.
    """

    name: str
    steps: float
    share: float | None
    trend: Markup | None
    first: float | None
    last: float | None
    evaluated: float | None


class Evaluation(NamedTuple):
    """A loss on held-out data, and when it was measured."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run as its page shows it; `each` is how many logged lines a point of a chart stands for."""

    name: str
    run: dict[str, Any]
    steps: int
    epoch: float
    loss: float | None
    best: Evaluation | None
    tokens: int
    supervised: int
    speed: float | None
    loss_chart: Chart | None
    panels: list[Panel]
    domains: list[Domain]
    more_domains: int
    charts: list[tuple[str, str, Chart]]
    config: list[tuple[str, list[tuple[str, str]]]]
    each: int
    damaged: int


def run_facts(folder: Path) -> RunFacts:
    """Gather the facts of a run's folder; DataError where a file is missing or damaged."""
    run = _load_run(folder)
    metrics = load_metrics(folder)
    losses = column(metrics.train, "loss")
    speeds = [value for _, value in column(metrics.train, "tokens_per_second")]
    evaluations = [Evaluation(int(step), loss) for step, loss in column(metrics.evaluations, "eval_loss")]
    return RunFacts(
        name=folder.resolve().name,
        run=run,
        steps=metrics.last_step,
        epoch=float(metrics.train[-1].get("epoch") or 0),
        loss=losses[-1][1] if losses else None,
        best=min(evaluations, key=lambda one: one.loss, default=None),
        tokens=int(sum(value for _, value in column(metrics.train, "tokens"))),
        supervised=int(sum(value for _, value in column(metrics.train, "supervised_tokens"))),
        speed=median(speeds) if speeds else None,
        loss_chart=_loss_chart(metrics, run["starts"]) if losses else None,
        panels=list(_panels(metrics)) if losses else [],
        domains=sorted(_domains(metrics), key=lambda domain: -(domain.share or domain.steps))[:_NAMED],
        more_domains=max(0, len(metrics.domains()) - _NAMED),
        charts=list(_charts(metrics)),
        config=[(name, list(_settings(values))) for name, values in run["config"].items()],
        each=-(-len(losses) // max(1, len(thinned(losses)))) if losses else 1,
        damaged=metrics.damaged,
    )


def _load_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    try:
        run = orjson.loads(path.read_bytes())
        sound = (
            isinstance(run["total_steps"], int)
            and all(isinstance(run[name], dict) for name in ("config", "versions"))
            and all(isinstance(start["step"], int) for start in run["starts"])
            and isinstance(run["digest"], str)
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise DataError(f"{path}: is not what yayi-train writes; give the --local-output-dir of a run")
    return dict(run)


def _loss_chart(metrics: Metrics, starts: Sequence[dict[str, Any]]) -> Chart:
    losses, held_out = thinned(column(metrics.train, "loss")), column(metrics.evaluations, "eval_loss")
    label = (
        f"Loss by step: {figure(losses[0][1])} at first, {figure(losses[-1][1])} at step {losses[-1][0]:,.0f}"
    )
    if held_out:
        label += f"; on held-out data {figure(held_out[-1][1])} at the end"
    resumed = [Mark(start["step"], "resumed") for start in starts if start["step"]][-_RESUMED:]
    series = [Series(losses), *([Series(held_out, "dots")] if held_out else [])]
    band = spread(column(metrics.train, "loss"))
    return Chart(
        lines(series, label, marks=resumed, band=band), ("Step", "Loss", "Held out"), _table(losses, held_out)
    )


def _table(points: Points, beside: Points) -> list[tuple[str, ...]]:
    """Return some points as rows, with the last value of `beside` that was known by then."""
    chosen = points[:: -(-len(points) // _ROWS)]
    if chosen[-1] != points[-1]:
        chosen.append(points[-1])
    rows: list[tuple[str, ...]] = []
    for step, value in chosen:
        known = [other for at, other in beside if at <= step]
        rows.append((f"{step:,.0f}", figure(value), figure(known[-1]) if known else "–"))
    return rows


def _panels(metrics: Metrics) -> Iterator[Panel]:
    """Yield a small chart a domain, all over the same axes, with the loss of all as a quiet line."""
    whole = thinned(column(metrics.train, "loss"))
    names = metrics.domains()
    found = {name: thinned(column(metrics.train, "loss_by_domain", name)) for name in names}
    found = {name: points for name, points in found.items() if points}
    around = frame([point for points in (whole, *found.values()) for point in points], across=0, up=3)
    often = sorted(found, key=lambda name: -len(column(metrics.train, "loss_by_domain", name)))
    for name in sorted(often[:_PANELS], key=names.index):
        points, dots = found[name], column(metrics.evaluations, "eval_loss_by_domain", name)
        label = f"Loss of this domain: {figure(points[0][1])} at first, {figure(points[-1][1])} in the end"
        dots = [(step, value) for step, value in dots if value <= around.y.high]
        series = [Series(points), Series(whole, "quiet"), Series(dots, "dots")]
        yield Panel(name, lines(series, label, around=around))


def _domains(metrics: Metrics) -> Iterator[Domain]:
    supervised = sum(value for _, value in column(metrics.train, "supervised_tokens"))
    shares = {name: _shares(metrics, name) for name in metrics.domains()}
    highest = max((share for points in shares.values() for _, share in points), default=1.0)
    for name in metrics.domains():
        losses = column(metrics.train, "loss_by_domain", name)
        counts = column(metrics.train, "supervised_by_domain", name)
        held_out = column(metrics.evaluations, "eval_loss_by_domain", name)
        yield Domain(
            name=name,
            steps=len(losses) / len(metrics.train),
            share=sum(value for _, value in counts) / supervised if counts and supervised else None,
            trend=sparkline(shares[name], highest) if counts and shares[name] else None,
            first=losses[0][1] if losses else None,
            last=losses[-1][1] if losses else None,
            evaluated=held_out[-1][1] if held_out else None,
        )


def _shares(metrics: Metrics, name: str) -> Points:
    """Return a domain's share of the supervised tokens of each line, 0 where it did not occur."""
    counts = dict(column(metrics.train, "supervised_by_domain", name))
    supervised = column(metrics.train, "supervised_tokens")
    return thinned([(step, counts.get(step, 0) / total) for step, total in supervised if total])


_CHARTS = (
    ("lr", "Learning rate", ""),
    ("grad_norm", "Gradient norm", "Before clipping."),
    ("tokens_per_second", "Tokens per second", "Over all ranks."),
)


def _charts(metrics: Metrics) -> Iterator[tuple[str, str, Chart]]:
    for key, title, note in _CHARTS:
        measured = column(metrics.train, key)
        points = thinned(measured)
        if points:
            label = f"{title} by step: from {figure(points[0][1])} to {figure(points[-1][1])}"
            rows = [row[:2] for row in _table(points, [])]
            yield (
                title,
                note,
                Chart(lines([Series(points)], label, band=spread(measured)), ("Step", title), rows),
            )


def _settings(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a part of the config as names and values; the names of what is nested are joined by dots."""
    if isinstance(values, dict) and values:
        for name, value in values.items():
            yield from _settings(value, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, values if isinstance(values, str) else orjson.dumps(values).decode()
