import subprocess
import sys

import pytest

from yayi_data.console import one_line, run, visible
from yayi_data.errors import DataError, YayiError


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


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (YayiError("x: not there"), 2, "error: x: not there\n"),
        (DataError("x: bad record"), 1, "error: x: bad record\n"),
        (OSError(28, "No space left on device", "/full"), 2, "error: /full: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_failures_are_one_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert run(command, debug=False) == code
    assert capsys.readouterr().err == line
    with pytest.raises(type(error)):
        run(command, debug=True)


def test_an_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0, debug=False)


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    script = (
        "import sys; from yayi_data.console import run; sys.exit(run(lambda: print('x' * 10**6), debug=0))"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait() == 141
