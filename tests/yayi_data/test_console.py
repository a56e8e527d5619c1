import pytest

from yayi_data.console import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\u202eb", r"a\u202eb"),
        ("nul\x00", r"nul\x00"),
        ("cr\rlf\n", "cr\\rlf\n"),
        ("c1\x9b", r"c1\x9b"),
        ("half \ud800", r"half \ud800"),
        ("none \ufffe\uffff", r"none \ufffe\uffff"),
        ("tag \U000e0049", r"tag \U000e0049"),
        ("blank \u3164\u115f\u2800\u180e\ufffe", r"blank \u3164\u115f\u2800\u180e\ufffe"),
        ("heart ❤\ufe0f", "heart ❤\ufe0f"),
        ("bytes ❤\ufe0f\ufe0f\ufe01\U000e0101", "bytes ❤\ufe0f" + r"\ufe0f\ufe01\U000e0101"),
        ("媒体\t宣传", "媒体\t宣传"),
    ],
)
def test_control_characters_become_visible_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_one_line_has_no_line_break_or_tab() -> None:
    assert one_line("a\n\tb") == r"a\n\tb"
