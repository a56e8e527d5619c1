"""What both command lines share: safe text, one way to end, talk on stderr."""

import re
import sys
from collections.abc import Callable
from functools import cache

from yayi_data.errors import YayiError

# C0 and C1 controls, line and paragraph separators, bidirectional and zero-width controls, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return record text with every control, bidirectional and zero-width character written as \xNN or \uNNNN.

    Tabs and newlines stay; use `one_line` where they may not.
    """
    return _UNSAFE.sub(lambda m: _escape(m.group()), text)


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
    """Run a command and return its exit code; errors become one line on stderr unless `debug` is set.

    130 is an interrupt, as shells have it. A reader that closed our stdout (`| head`) ends us quietly.
    """
    try:
        result = command()
    except YayiError as error:
        if debug:
            raise
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        say("interrupted")
        return 130
    return result if isinstance(result, int) else 0
