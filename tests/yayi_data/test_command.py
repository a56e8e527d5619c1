import subprocess
import sys

import pytest

from yayi_data.command import run
from yayi_data.errors import DataError, YayiError


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
        "import sys; from yayi_data.command import run; sys.exit(run(lambda: print('x' * 10**6), debug=0))"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait() == 141
