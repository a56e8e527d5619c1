"""Templates -> one HTML file that asks for nothing: style and script stand inside, a policy forbids the rest.

Text reaches the page escaped, by the templates' own rule; nothing of a record is ever script, style or an
attribute. What could steer the reader's eye (bidirectional and zero-width controls) is spelled out.
"""

import hashlib
import re
from base64 import b64encode
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
        "figure": figure,
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
    """Return text with each control, bidirectional or zero-width character spelled out, such as U+202E."""
    parts: list[str] = []
    start = 0
    for found in UNSAFE.finditer(text):
        parts += [text[start : found.start()], element("b", f"U+{ord(found[0]):04X}", class_="unseen")]
        start = found.end()
    return Markup("").join([*parts, text[start:]])


def language(text: str) -> str:
    """Return the language by which a browser chooses fonts and breaks lines, "" where it does not matter."""
    if _KANA.search(text):
        return "ja"
    return "ko" if _HANGUL.search(text) else "zh" if _HAN.search(text) else ""
