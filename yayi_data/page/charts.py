"""Charts as plain SVG.

A chart fills whatever width it gets: x is in percent and y in pixels, so that text and lines never scale.
Hovering needs no script: each bar and step has a title, and an area that the style sheet lights up.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from markupsafe import Markup

from yayi_data.page.svg import Axis, axis, element, figure, steps

HEIGHT, TOP, BELOW = 176, 14, 26  # pixels of the plot, above it and below it
_WIDTH = 1000  # of a line's own coordinates, which are stretched over the plot


class Bar(NamedTuple):
    """One bar of a histogram, over the positions `start` to `end` of its axis."""

    start: float
    end: float
    number: int
    title: str


class Mark(NamedTuple):
    """A place on the x axis that is pointed out."""

    at: float
    label: str


class Chart(NamedTuple):
    """A chart and the figures it was drawn from, as a table for those who would read them."""

    drawn: Markup
    heads: Sequence[str]
    figures: Sequence[tuple[str, ...]]


class Series(NamedTuple):
    """Points (x, y) drawn as a line, as a quiet line, or as dots, which stand for single measurements."""

    points: Sequence[tuple[float, float]]
    kind: Literal["line", "quiet", "dots"] = "line"


def histogram(bars: Sequence[Bar], x: Axis, label: str, marks: Sequence[Mark] = ()) -> Markup:
    """Draw bars over an axis; `label` tells the chart to those who cannot see it."""
    tallest = max((bar.number for bar in bars), default=1)
    y = axis(0, tallest * (1.2 if marks else 1), whole=True)  # the marks are named above the bars
    drawn = [_bar(bar, x, y) for bar in bars if bar.number]
    return _plot(x, y, [*drawn, *_pointed(marks, x)], label)


class Frame(NamedTuple):
    """The axes of charts that are to be compared."""

    x: Axis
    y: Axis


def frame(points: Sequence[tuple[float, float]], *, across: int = 4, up: int = 4) -> Frame:
    """Return axes from zero that cover all points, with about so many ticks across and up."""
    lowest, highest = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    return Frame(steps(max(x for x, _ in points), between=across), axis(lowest, highest, about=up))


def lines(
    series: Sequence[Series],
    label: str,
    *,
    around: Frame | None = None,
    marks: Sequence[Mark] = (),
    band: Sequence[tuple[float, float, float]] = (),
) -> Markup:
    """Draw lines and dots over steps; the first series is the one that hovering reads out.

    `band` is the range (x, lowest, highest) within which the first series was measured.
    """
    points = [point for one in series for point in one.points]
    x, y = around or frame([*points, *((at, high) for at, _, high in band)])
    drawn = [part for one in reversed(series) for part in _drawn(one, x, y)]
    return _plot(
        x, y, [*_band(band, x, y), *_pointed(marks, x), *drawn, *_hits(series[0].points, x, y)], label
    )


def sparkline(points: Sequence[tuple[float, float]], highest: float) -> Markup:
    """Draw a line from 0 to `highest` of the size of a word, beside the figures that say the same."""
    width, height, edge = 120, 24, 2
    first, last = points[0][0], points[-1][0]
    places = [
        ((x - first) / ((last - first) or 1) * width, edge + (1 - y / (highest or 1)) * (height - 2 * edge))
        for x, y in points
    ]
    return element(
        "svg",
        element("polyline", points=_joined(places), class_="line"),
        class_="spark",
        width=width,
        height=height,
        aria_hidden="true",
    )


def share_bar(whole: float, part: float) -> Markup:
    """Draw a bar `whole` wide, `part` of it full (shares of the width), beside figures that say the same."""
    return element(
        "svg",
        element("rect", x="0", y="4", width=f"{100 * whole:.2f}%", height="10", class_="soft"),
        element("rect", x="0", y="4", width=f"{100 * part:.2f}%", height="10", class_="full"),
        class_="bar",
        width="100%",
        height=18,
        aria_hidden="true",
    )


def _plot(x: Axis, y: Axis, drawn: Sequence[Markup], label: str) -> Markup:
    height = TOP + HEIGHT + BELOW
    rules = [
        element("line", x1="0", x2="100%", y1=_y(tick, y), y2=_y(tick, y), class_="rule") for tick in y.ticks
    ]
    across = [
        element(
            "text",
            x.written(tick),
            x=x.percent(tick),
            y=TOP + HEIGHT + 18,
            text_anchor=_anchor(x.share(tick)),
        )
        for tick in x.ticks
    ]
    upward = [
        element("text", y.written(tick), x="100%", y=_y(tick, y) + 4, text_anchor="end") for tick in y.ticks
    ]
    return element(
        "div",
        element("svg", *upward, class_="scale", height=height, aria_hidden="true"),
        element("svg", *rules, *drawn, *across, class_="field", height=height, aria_hidden="true"),
        class_="plot",
        role="img",
        aria_label=label,
    )


def _y(value: float, y: Axis) -> float:
    return TOP + (1 - y.share(value)) * HEIGHT


def _anchor(share: float) -> str:
    return "start" if share < 0.05 else "end" if share > 0.95 else "middle"


def _bar(bar: Bar, x: Axis, y: Axis) -> Markup:
    tall = max(1.0, y.share(bar.number) * HEIGHT)
    wide = f"{100 * (x.share(bar.end) - x.share(bar.start)):.2f}%"
    left = x.percent(bar.start)
    title = element("title", bar.title)
    return element(
        "g",
        element("rect", x=left, y=TOP, width=wide, height=HEIGHT, class_="area"),
        element("rect", x=left, y=TOP + HEIGHT - tall, width=wide, height=tall, class_="column"),
        title,
        class_="hit",
    )


def _pointed(marks: Sequence[Mark], x: Axis) -> Iterator[Markup]:
    """Yield the lines of marks, then their words, each in a row of its own and on the side with more room."""
    for mark in marks:
        at = x.percent(mark.at)
        yield element("line", x1=at, x2=at, y1=TOP, y2=TOP + HEIGHT, class_="mark")
    for row, mark in enumerate(marks):
        late = x.share(mark.at) > 0.6
        yield element(
            "text",
            mark.label,
            x=x.percent(mark.at),
            y=TOP + 10 + 15 * row,
            dx=-5 if late else 5,
            text_anchor="end" if late else "start",
            class_="note",
        )


def _drawn(series: Series, x: Axis, y: Axis) -> Iterator[Markup]:
    if series.kind == "dots" or len(series.points) == 1:
        for at, value in series.points:
            title = element("title", f"step {at:,.0f}: {figure(value)}")
            yield element("circle", title, cx=x.percent(at), cy=_y(value, y), r=4, class_="dot")
        return
    shape = {"points": _stretched(series.points, x, y), "vector_effect": "non-scaling-stroke"}
    yield _inner(element("polyline", class_=series.kind, **shape))


def _band(band: Sequence[tuple[float, float, float]], x: Axis, y: Axis) -> Iterator[Markup]:
    if band:
        there = [(at, high) for at, _, high in band]
        back = [(at, low) for at, low, _ in reversed(band)]
        yield _inner(element("polygon", class_="band", points=_stretched([*there, *back], x, y)))


def _stretched(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return _joined([(x.share(at) * _WIDTH, (1 - y.share(value)) * HEIGHT) for at, value in points])


def _inner(shape: Markup) -> Markup:
    """Return the coordinates in which lines stand: stretched over the width of the plot."""
    return element(
        "svg",
        shape,
        y=TOP,
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 {_WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _hits(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> Iterator[Markup]:
    """Yield an area a point, which reaches halfway to its neighbours and reads the point out."""
    shares = [x.share(at) for at, _ in points]
    borders = [shares[0], *((a + b) / 2 for a, b in pairwise(shares)), shares[-1]]
    for (at, value), (start, end) in zip(points, pairwise(borders), strict=True):
        place = x.percent(at)
        yield element(
            "g",
            element("line", x1=place, x2=place, y1=TOP, y2=TOP + HEIGHT, class_="cursor"),
            element("circle", cx=place, cy=_y(value, y), r=4, class_="cursor"),
            element(
                "rect",
                element("title", f"step {at:,.0f}: {figure(value)}"),
                x=f"{100 * start:.2f}%",
                y=TOP,
                width=f"{100 * (end - start):.2f}%",
                height=HEIGHT,
                class_="area",
            ),
            class_="hit",
        )
