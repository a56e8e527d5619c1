"""SVG as safe markup, and the arithmetic of axes."""

import math
from collections.abc import Callable
from typing import NamedTuple

from markupsafe import Markup, escape


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; `class_` and `text_anchor` become class and text-anchor, None leaves one out.

    Whatever is no Markup yet, child or value, is escaped.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")  # noqa: S704 - every part was escaped above


def _short(value: object) -> object:
    """Write coordinates with the two digits that can be seen."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


class Axis(NamedTuple):
    """Values from `low` to `high`, the `ticks` among them, and how a tick is written."""

    low: float
    high: float
    ticks: list[float]
    written: Callable[[float], str]

    def share(self, value: float) -> float:
        """Return where a value lies: 0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """Return where a value lies, as an SVG length."""
        return f"{100 * self.share(value):.2f}%"


def axis(low: float, high: float, *, about: int = 4, whole: bool = False) -> Axis:
    """Return an axis that covers `low` to `high` with about so many round ticks, at integers if `whole`."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / about)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [number * step for number in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], ticks, _writer(step))


_PLOT, _DIGIT, _GAP = 205, 7, 8  # pixels: the narrowest plot with ticks between its ends, and its words


def steps(last: float, *, between: int = 4) -> Axis:
    """Return an axis over the steps of a run, with ticks at its ends and about so many round ones between."""
    wide = (len(f"{last:,.0f}") * _DIGIT + _GAP) / _PLOT  # of the widest words, as a share
    around = axis(0, last, about=max(1, min(between, math.floor(1 / wide))), whole=True)
    inner = [tick for tick in around.ticks if wide * last < tick < (1 - 1.5 * wide) * last] if between else []
    return Axis(0, last, [0, *inner, last], around.written)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * 0.999)


def _writer(step: float) -> Callable[[float], str]:
    if not 1e-3 <= step < 1e7:
        return lambda value: _exponential(value, 1) if value else "0"
    digits = next(n for n in range(6) if n == 5 or abs(step * 10**n - round(step * 10**n)) < 1e-6)
    return lambda value: f"{value:,.{digits}f}"


def _exponential(value: float, digits: int) -> str:
    return f"{value:.{digits}e}".replace("e-0", "e-").replace("e+", "e").replace("e0", "e")


def figure(value: float) -> str:
    """Write a measured value with four significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e10:
        return _exponential(value, 2)
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
