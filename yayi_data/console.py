"""Text that is safe to show, and talk on stderr."""

import json
import re
import sys
from functools import cache

# C0 and C1 controls, line and paragraph separators, bidirectional and zero-width controls, lone surrogates,
# blanks that look like none, tags and variation selectors, which hide text. One U+FE0E or U+FE0F behind a
# character (as text, as an emoji) is usual.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\u115f\u1160\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\ufffe\uffff\U000e0000-\U000e0fff]"
    "|(?<![\u0023-\U0001faff])[\ufe0e\ufe0f]|(?<=[\ufe0e\ufe0f])[\ufe0e\ufe0f]"
)


def visible(text: str) -> str:
    r"""Return record text with controls and unseen characters written as \xNN, \uNNNN or \UNNNNNNNN.

    Tabs and newlines stay; use `one_line` where they may not.
    """
    return UNSAFE.sub(lambda m: _escape(m.group()), text)


def one_line(text: str) -> str:
    r"""Return `visible(text)` with tabs and newlines written as \t and \n too."""
    return visible(text).replace("\t", "\\t").replace("\n", "\\n")


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Write a value as JSON that is safe to show, on lines of its own."""
    return shown_json(json.dumps(value, ensure_ascii=False, indent=indent)) + "\n"


def shown_json(text: str) -> str:
    """Return JSON in which no character can steer a terminal: they stand as escapes, so nothing is lost."""
    return UNSAFE.sub(lambda found: _json_escape(found[0]), text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _escape(character: str) -> str:
    code = ord(character)
    wide = f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (f"\\x{code:02x}" if code < 256 else wide)


def say(message: str) -> None:
    """Talk to the person at the terminal: one line on stderr, control characters made visible."""
    print(visible(message), file=sys.stderr, flush=True)


@cache
def on_terminal() -> bool:
    """Tell whether stderr is a terminal, where colour and progress belong."""
    return sys.stderr.isatty()
