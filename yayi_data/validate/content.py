"""What stands in the texts that should not, and members that nothing reads."""

import difflib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from yayi_data.read.scan import Path
from yayi_data.schema import TURNS, members
from yayi_data.validate.finding import Finding
from yayi_data.validate.ruleset import RuleSet
from yayi_data.validate.texts import Text

MOJIBAKE = ("锟斤拷", "â€", "ï¿½", "ï»¿")
"""What UTF-8 looks like after it was read as another encoding: GBK in the first, Latin-1 in the others."""

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
REPLACEMENT = "\ufffd"


def in_text(text: Text, rules: RuleSet) -> Iterator[Finding]:
    """Yield what a text holds that it should not, one finding a rule."""
    if text.text.isspace():
        yield Finding(
            "blank-text",
            text.path,
            f"{_name(text)} holds white space only: write a text, or remove the record",
        )
    if match := CONTROL.search(text.text):
        found = f"the control character U+{ord(match[0]):04X}"
        yield _at(text, "control-character", match.start(), found, _without(text.text, match.start()))
    if (at := text.text.find(REPLACEMENT)) >= 0:
        count = text.text.count(REPLACEMENT)
        found = "a replacement character" if count == 1 else f"the first of {count} replacement characters"
        yield _at(
            text, "replacement-character", at, f"{found} (U+FFFD)", "take the text from its source again"
        )
    for sign in MOJIBAKE:
        if (at := text.text.find(sign)) >= 0:
            yield _at(text, "mojibake", at, f"{sign!r}", "the text was read with the wrong encoding")
            break
    for token in rules.control_tokens:
        if (at := text.text.find(token)) >= 0:
            yield _at(
                text,
                "control-token",
                at,
                f"the control token {token}",
                "it is trained on as plain text, so remove it if it is no part of the text",
            )
            break


def _without(text: str, at: int) -> str:
    """Say how to be rid of a control character; some are LaTeX whose backslash JSON took for an escape."""
    if latex := _LATEX.match(text, at):
        escape = _ESCAPES[latex[1]]
        return rf"JSON reads \{escape} so; for \{escape}{latex[2]} write \\{escape}{latex[2]}"
    return "remove it"


_ESCAPES = {"\b": "b", "\f": "f"}
_LATEX = re.compile("([\b\f])([A-Za-z]{1,20})")


def _at(text: Text, rule: str, at: int, found: str, advice: str) -> Finding:
    return Finding(rule, text.path, f"{_name(text)} holds {found} at character {at + 1}: {advice}")


def _name(text: Text) -> str:
    return next(f"`{part}`" for part in reversed(text.path) if isinstance(part, str))


def unknown_members(value: Any, dialect: str) -> Iterator[Finding]:
    """Yield the members of a record and of its turns that nothing reads."""
    known = members(dialect)
    if isinstance(value, dict):
        yield from _unknown(value, known["record"], ())
        turns = value.get(TURNS.get(dialect, ""))
        for i, turn in enumerate(turns if isinstance(turns, list) else ()):
            if isinstance(turn, dict):
                yield from _unknown(turn, known["turn"], (TURNS[dialect], i))


def _unknown(found: dict[str, Any], known: tuple[str, ...], path: Path) -> Iterator[Finding]:
    for name in found.keys() - known:
        hint = _nearest(name, known, frozenset(found))
        yield Finding("unknown-member", (*path, name), f"nothing reads the member `{name}`: {hint}", True)


@lru_cache(maxsize=1024)
def _nearest(name: str, known: tuple[str, ...], taken: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, [k for k in known if k not in taken], 1, 0.6)
    return f"did you mean `{near[0]}`?" if near else f"expected one of {', '.join(known)}"
