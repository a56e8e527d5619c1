import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from yayi_data.command import run
from yayi_data.errors import DataError, YayiError


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (YayiError("x: not there"), 2, "error: x: not there\n"),
        (DataError("x: bad record"), 1, "error: x: bad record\n"),
        (OSError(28, "No space left on device", "/full"), 2, "error: /full: No space left on device\n"),
        (OSError(28, "No space left on device"), 2, "error: standard output: No space left on device\n"),
        (YayiError("a\nb\x1b.jsonl: not there"), 2, "error: a\\nb\\x1b.jsonl: not there\n"),
        (typer.BadParameter("Choose from:\n\ta,\n\tb."), 2, "error: Invalid value: Choose from: a, b\n"),
        (typer.BadParameter("Value error, 'x' is no y"), 2, "error: Invalid value: 'x' is no y\n"),
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


def dedup_that_waits(folder: Path, begin: Callable[[], object] | None = None) -> subprocess.Popen[bytes]:
    """Start a dedup of stdin in `folder` and return it when its temporary folder, in `folder`/t, is there."""
    (folder / "t").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "yayi_data.cli", "dedup", "-", "--output", str(folder / "kept.jsonl")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(folder / "t")},
        preexec_fn=begin,
    )
    deadline = time.monotonic() + 60
    while not any((folder / "t").glob("yayi-dedup-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = dedup_that_waits(tmp_path)
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.read() == b"interrupted\n"
    assert process.wait(60) == 130
    assert list(tmp_path.rglob("*")) == [tmp_path / "t"]


def test_a_command_under_nohup_goes_on(tmp_path: Path) -> None:
    process = dedup_that_waits(tmp_path, lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.communicate(b'{"instruction": "a", "output": "b"}\n', timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "kept.jsonl").exists()
