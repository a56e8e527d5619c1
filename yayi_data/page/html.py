"""Templates -> one HTML file that asks for nothing: style and script stand inside, a policy forbids the rest.

Text reaches the page escaped, by the templates' own rule; nothing of a record is ever script, style or an
attribute. What could steer the reader's eye (bidirectional and zero-width controls) is spelled out.
"""

import hashlib
import re
import shlex
from base64 import b64encode
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from yayi_data.console import UNSAFE
from yayi_data.page.svg import element, figure

_KANA, _HANGUL, _HAN = (
    re.compile("[\u3041-\u30ff]"),
    re.compile("[\uac00-\ud7af]"),
    re.compile("[\u4e00-\u9fff]"),
)

_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
# A joiner between two emoji makes one of them, as it should.
_RUN = re.compile(f"(?:(?!(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}]))(?:{UNSAFE.pattern}))+")
_SPELLED = 200  # parts of a text, in which unseen characters are spelled out
_NAMED = 20  # of a run of them


def page(template: str, **facts: Any) -> bytes:
    """Return the page that a template makes of the facts, as UTF-8."""
    environment = Environment(
        loader=PackageLoader("yayi_data.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "shown": shown,
        "count": "{:,}".format,
        "percent": "{:.1%}".format,
        "small_percent": small_percent,
        "figure": figure,
        "clipped": clipped,
        "quoted": shlex.quote,
        "language": language,
    }
    sources = {name: _source(environment, name) for name in ("style.css", "search.js")}
    return (
        environment.get_template(template)
        .render(
            **facts,
            style=sources["style.css"],
            script=sources["search.js"],
            policy=_policy(sources["style.css"], sources["search.js"]),
        )
        .encode()
    )


def _source(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - a file of ours


def _policy(style: str, script: str) -> str:
    """Return a policy under which the browser runs and applies exactly these two, and loads nothing."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def shown(text: str) -> Markup:
    """Return text with control, bidirectional and zero-width characters spelled out: U+202E, U+200B × 40.

    Past the first ones of a text, each run of them is one U+FFFD, so that no text makes a page large.
    """
    parts: list[str] = []
    start = 0
    for found in _RUN.finditer(text):
        parts += [text[start : found.start()], *(_spelled(found[0]) if len(parts) < _SPELLED else "\ufffd")]
        start = found.end()
    return Markup("").join([*parts, text[start:]])


def _spelled(run: str) -> list[Markup]:
    names = [(f"U+{ord(character):04X}", len(list(group))) for character, group in groupby(run)]
    more = [f"{len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    told = [f"{name} × {count:,}" if count > 1 else name for name, count in names[:_NAMED]]
    return [element("b", one, class_="unseen") for one in (*told, *more)]


def clipped(text: str, most: int = 200) -> str:
    """Return the beginning of a text that may be longer than there is room for."""
    return text if len(text) <= most else f"{text[:most]}…"


def small_percent(share: float) -> str:
    """Write a share with two digits; what is there is never written as nothing."""
    return "<0.01%" if 0 < share < 0.00005 else f"{share:.2%}"


def language(text: str) -> str:
    """Return the language by which a browser chooses fonts and breaks lines, "" where it does not matter."""
    if _KANA.search(text):
        return "ja"
    return "ko" if _HANGUL.search(text) else "zh" if _HAN.search(text) else ""
