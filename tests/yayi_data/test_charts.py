"""The charts of the report page: they show every figure they were given, and are sound XML."""

import re
from xml.etree import ElementTree

import pytest

from yayi_data.page.charts import Bar, Mark, Series, histogram, lines, share_bar, sparkline
from yayi_data.page.svg import axis, element, figure, steps


def drawn(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def test_text_and_values_in_an_element_are_escaped() -> None:
    made = element("text", "<script>&", x='"><script>')
    assert drawn(made).text == "<script>&"
    assert drawn(made).get("x") == '"><script>'


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 9.4, [0, 2.5, 5, 7.5, 10]), (0, 37, [0, 10, 20, 30, 40]), (0, 0, [0, 0.25, 0.5, 0.75, 1])],
)
def test_an_axis_covers_its_values_with_round_ticks(low: float, high: float, ticks: list[float]) -> None:
    made = axis(low, high)
    assert made.ticks == pytest.approx(ticks)
    assert made.low <= low
    assert made.high >= high


def test_an_axis_of_counts_has_whole_ticks_only() -> None:
    assert axis(0, 2, whole=True).ticks == [0, 1, 2]


def test_steps_leave_room_for_the_words_at_their_ends() -> None:
    assert steps(160).ticks == [0, 50, 100, 160]
    assert steps(52801).ticks == [0, 20000, 52801]
    assert steps(160, between=0).ticks == [0, 160]
    assert steps(1).ticks == [0, 1]


def test_small_ticks_are_told_apart() -> None:
    made = axis(0, 5e-6)
    assert len({made.written(tick) for tick in made.ticks}) == len(made.ticks)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (9.40995, "9.410"), (0.002773, "0.002773"), (4.8e-6, "4.80e-6"), (42013.7, "42,014")],
)
def test_a_figure_has_four_digits(value: float, written: str) -> None:
    assert figure(value) == written


def test_a_histogram_reads_out_every_bar_that_is_not_empty() -> None:
    bars = [Bar(0, 1, 3, "three <"), Bar(1, 2, 0, "none"), Bar(2, 3, 1, "one")]
    svg = drawn(histogram(bars, axis(0, 3), "Lengths", [Mark(1.5, "median 1")]))
    assert [title.text for title in svg.iter("title")] == ["three <", "one"]
    assert (svg.get("role"), svg.get("aria-label")) == ("img", "Lengths")
    tall = [float(rect.get("height", 0)) for rect in svg.iter("rect") if rect.get("class") == "column"]
    assert tall[0] == pytest.approx(3 * tall[1], abs=0.1)
    assert "median 1" in [text.text for text in svg.iter("text")]


def test_lines_read_out_the_first_series_and_every_dot() -> None:
    made = lines([Series([(1, 9.0), (2, 4.5)]), Series([(2, 5.0)], "dots")], "Loss")
    titles = [title.text for title in drawn(made).iter("title")]
    assert sorted(titles) == ["step 1: 9.000", "step 2: 4.500", "step 2: 5.000"]


def test_a_single_step_is_a_dot() -> None:
    assert re.search("<circle[^>]* class=.dot", lines([Series([(1, 9.0)])], "Loss"))


@pytest.mark.parametrize("points", [[(1.0, 0.0)], [(1.0, 0.5), (2.0, 0.0)]])
def test_sparklines_and_bars_stay_inside(points: list[tuple[float, float]]) -> None:
    line = drawn(sparkline(points, 0.5)).find("polyline")
    assert line is not None
    places = [place.split(",") for place in line.attrib["points"].split()]
    assert all(0 <= float(x) <= 120 and 0 <= float(y) <= 24 for x, y in places)
    assert 'width="50.00%"' in share_bar(0.5, 0.25)
