"""What both command lines share: safe text, one way to end, talk on stderr."""

import os
import re
import sys
from collections.abc import Callable
from functools import cache

import typer

from yayi_data.errors import YayiError

# C0 and C1 controls, line and paragraph separators, bidirectional and zero-width controls, lone surrogates,
# and the noncharacters that XML forbids.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"
)

_INTERRUPTED = 130


def visible(text: str) -> str:
    r"""Return record text with control, bidirectional and zero-width characters written as \xNN or \uNNNN.

    Tabs and newlines stay; use `one_line` where they may not.
    """
    return UNSAFE.sub(lambda m: _escape(m.group()), text)


def one_line(text: str) -> str:
    r"""Return `visible(text)` with tabs and newlines written as \t and \n too."""
    return visible(text).replace("\t", "\\t").replace("\n", "\\n")


def _escape(character: str) -> str:
    code = ord(character)
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    )


def say(message: str) -> None:
    """Talk to the person at the terminal: one line on stderr, control characters made visible."""
    print(visible(message), file=sys.stderr, flush=True)


@cache
def on_terminal() -> bool:
    """Tell whether stderr is a terminal, where colour and progress belong."""
    return sys.stderr.isatty()


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and return its exit code; an expected failure becomes one line on stderr unless `debug`.

    The codes: 0 or what the command returns, 1 and 2 as the error says, 130 interrupted, and 141, as a shell
    reports a broken pipe, when the reader of our stdout has gone (`| head`).
    """
    for stream in ("stdin", "stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever called us
            setattr(sys, stream, open(os.devnull, "r+"))  # noqa: SIM115, PTH123 - as long as the process
    try:
        result = command()
        sys.stdout.flush()
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return _told(ended.__context__)  # which typer makes an exit code of 1 of
    except (YayiError, typer.TyperException, OSError, KeyboardInterrupt, typer.Abort) as error:
        if debug:
            raise
        return _told(error)
    if result == _INTERRUPTED:
        say("interrupted")  # typer turned Ctrl-C into this code, and says nothing
    return result if isinstance(result, int) else 0


def _told(error: BaseException) -> int:
    """Say in one line what ended the command and return the exit code for it."""
    match error:
        case YayiError():
            say(f"error: {error}")
            return error.exit_code
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            hint = f"; see {context.command_path} --help" if context else ""
            say(f"error: {error.format_message().rstrip('.')}{hint}")
            return 2
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            say(f"error: {place}{error.strerror or error}")
            return 2
        case _:
            say("interrupted")
            return _INTERRUPTED
