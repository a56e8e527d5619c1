"""Domain tags such as 【媒宣领域任务】 that are broken, unknown, doubled or in the wrong place."""

from collections.abc import Iterator, Sequence

from yayi_data.domains import Registry
from yayi_data.validate.finding import Finding
from yayi_data.validate.texts import Text, first_ask

OPEN, CLOSE = "【", "】"
WRONG = "[［〔〖"
_WRONG_CLOSE = "]］〕〗】"
"""Brackets written for the lenticular ones."""


def misused(texts: Sequence[Text], registry: Registry) -> Iterator[Finding]:
    """Yield what is wrong with the tags of a record's texts."""
    first = first_ask(list(texts))
    if first:
        yield from _in_first(first, registry)
    for text in texts:
        if text.side == "reply" and (name := _known_inside(text.text, registry)):
            message = f"the reply holds the domain tag {OPEN}{name}{CLOSE}: move it to the question"
            yield Finding("tag-reply", text.path, message)


def _in_first(first: Text, registry: Registry) -> Iterator[Finding]:
    text, path = first.text, first.path
    if message := _malformed(text, registry):
        yield Finding("tag-malformed", path, message)
        return
    tag = registry.parse(text)
    if tag is None:
        return
    if not registry.knows(tag.name):
        near = registry.nearest(tag.name)
        hint = f"did you mean {OPEN}{near}{CLOSE}?" if near else "add it to a --domains file, or correct it"
        yield Finding(
            "tag-unknown", path, f"the registry lacks the domain tag {OPEN}{tag.name}{CLOSE}: {hint}"
        )
    rest = text[tag.end :]
    second = registry.parse(rest.lstrip())
    other = second.name if second and _like_known(second.name, registry) else _known_inside(rest, registry)
    if other:
        message = f"{OPEN}{other}{CLOSE} is a second domain tag: only the first counts, keep one"
        yield Finding("tag-several", path, message)


def _malformed(text: str, registry: Registry) -> str | None:
    """Say what is broken about a tag at the start of a text, None where nothing is."""
    stripped = text.lstrip()
    if text.startswith(OPEN):
        inside, closed, _ = text[1:].partition("\n")[0].partition(CLOSE)
        if not closed:
            return f"the domain tag is not closed: put {CLOSE} behind its name"
        if not inside.strip():
            return f"the domain tag is empty: write its name between {OPEN} and {CLOSE}"
        if OPEN in inside and registry.parse(text) is None:
            return f"the domain tag has {OPEN} twice: write it once"
        return None
    if stripped.startswith(OPEN) and (tag := registry.parse(stripped)) and registry.knows(tag.name):
        return f"white space stands before the domain tag {OPEN}{tag.name}{CLOSE}: remove it"
    bare = stripped[1:] if stripped[:1] in tuple(WRONG) else stripped
    closers = _WRONG_CLOSE if bare is not stripped else CLOSE
    name = next((bare[:i] for i, c in enumerate(bare[:33]) if c in closers), "")
    if name and registry.knows(name):
        return f"the domain tag must be written {OPEN}{name}{CLOSE}"
    return None


def _like_known(name: str, registry: Registry) -> bool:
    return registry.knows(name) or registry.nearest(name) is not None


def _known_inside(text: str, registry: Registry) -> str | None:
    """Return the first known tag anywhere in a text."""
    at = text.find(OPEN)
    while at >= 0:
        tag = registry.parse(text[at:])
        if tag and registry.knows(tag.name):
            return tag.name
        at = text.find(OPEN, at + 1)
    return None
