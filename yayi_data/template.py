"""Templates are data: which control tokens stand around a turn, and what of a reply is learnt.

A template is a TOML file (templates/NAME.toml, or one's own). It is compiled to layouts: for each shape of
conversation, once, the control tokens and text pieces it becomes.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson

from yayi_data.console import one_line
from yayi_data.errors import YayiError

TrainOn = Literal["all", "last"]

FOLDER = Path(__file__).with_name("templates")
_SLOT = "{text}"
_NO_VALUE = -1
_REPLIES = ("assistant", "tool_call")
_KEYS: dict[str, type] = {
    "name": str,
    "control": list,
    "end": str,
    "default_system": str,
    "tools": str,
    "existing": dict,
    "roles": dict,
}
_OPTIONAL = {"existing"}
_LIKE = {"tool_call": "assistant", "tool_result": "user"}
_ROLES = ("system", "user", "assistant", *_LIKE)


class Control(NamedTuple):
    """A control token, placed by its id."""

    token: str
    supervised: bool


class Piece(NamedTuple):
    """Text between two control tokens: `before`, a value, `after`.

    `value` indexes the values of a conversation: the system text, each turn's text, and a closing "". Where
    `supervised`, all behind `header`, the beginning of `before`, is learnt.
    """

    before: str
    value: int
    after: str
    header: str
    supervised: bool


class Fixed(NamedTuple):
    """Text that the template itself puts between two control tokens; nothing of it is learnt."""

    text: str
    supervised: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """What every conversation of one shape becomes; compared by identity, so that it is a cheap key.

    `closed` is False for a prompt, which the reply is yet to follow.
    """

    elements: tuple[Control | Piece | Fixed, ...]
    closed: bool = True

    @cached_property
    def pieces(self) -> list[Piece]:
        """The text pieces that hold a value, in order."""
        return [e for e in self.elements if isinstance(e, Piece)]

    @cached_property
    def slots(self) -> list[tuple[str, int, str]]:
        """What stands before each piece's value, which value it is, and what stands after it."""
        return [(piece.before, piece.value, piece.after) for piece in self.pieces]


class Rendered(NamedTuple):
    """A rendered conversation: its layout, shared with all of its shape, and the texts of its pieces."""

    layout: Layout
    texts: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A checked template.

    `roles` maps each role to its string, `{text}` standing for the turn's text. `existing` tells where a
    tokenizer may already hold a control token under another name: at an id, or as its end of text ("eos").
    """

    name: str
    control: tuple[str, ...]
    end: str
    default_system: str
    tools: str
    existing: Mapping[str, int | str]
    roles: Mapping[str, str]

    @property
    def opening(self) -> str:
        """What stands before a reply: all that follows is the model's to say."""
        return self.roles["assistant"].partition(_SLOT)[0]

    @property
    def fingerprint(self) -> str:
        """The sha256 of what the template says, whatever its file looks like."""
        content = {key: getattr(self, key) for key in _KEYS}
        content |= {"roles": dict(self.roles), "existing": dict(self.existing)}
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


@lru_cache(maxsize=4096)
def layout(
    template: Template, roles: Sequence[str], train: Sequence[bool], system: bool, train_on: TrainOn = "all"
) -> Layout:
    """Return the layout of conversations whose turns have these roles and train flags.

    `system` tells whether they have a system text of their own: otherwise the template's default opens them,
    unless that is empty. With `train_on="last"` only the last reply is learnt.
    """
    replies = [i for i, role in enumerate(roles) if role in _REPLIES]
    learnt = {i for i in (replies if train_on == "all" else replies[-1:]) if train[i]}
    elements = _opening(template, own=system)
    for i, role in enumerate(roles):
        elements += _elements(template, template.roles[role], i + 1, i in learnt)
    return Layout(tuple(elements))


@lru_cache(maxsize=4096)
def prompt_layout(template: Template, roles: Sequence[str], system: bool) -> Layout:
    """Return the layout of these turns and of the opening of a reply, up to where its text would begin."""
    turns = layout(template, roles, (False,) * len(roles), system).elements
    return Layout((*turns, *_elements(template, template.opening, _NO_VALUE, False)), closed=False)


def _opening(template: Template, *, own: bool) -> list[Control | Piece | Fixed]:
    """Return what a system text becomes: a conversation's own, or the default, the same in each of them."""
    elements = _elements(template, template.roles["system"], 0, False)
    if own:
        return elements
    if not template.default_system:
        return []
    default = template.default_system
    return [Fixed(f"{e.before}{default}{e.after}") if isinstance(e, Piece) else e for e in elements]


def _elements(template: Template, text: str, value: int, learnt: bool) -> list[Control | Piece | Fixed]:
    """Cut a role's string at its control tokens; a reply is learnt from its opening to the end token."""
    elements: list[Control | Piece | Fixed] = []
    start, border = 0, len(template.opening)
    for part in cut(text, template.control):
        end = start + len(part)
        if part in template.control:
            supervised = learnt and start >= border
            learnt = learnt and not (supervised and part == template.end)
            elements.append(Control(part, supervised))
        else:
            before, slot, after = part.partition(_SLOT)
            header = before[: max(0, border - start)] if learnt else ""
            supervised = learnt and end > border
            if slot or supervised:
                elements.append(Piece(before, value if slot else _NO_VALUE, after, header, supervised))
            else:
                elements.append(Fixed(part))
        start = end
    return elements


def cut(text: str, control: Sequence[str]) -> list[str]:
    """Cut a text before and after every control token; longer tokens win over their own beginnings."""
    tokens = sorted(control, key=len, reverse=True)
    return [part for part in re.split(f"({'|'.join(map(re.escape, tokens))})", text) if part]


def load_template(name_or_path: str) -> Template:
    """Load a template by name, or from the TOML file at a path; a fault is told with its line."""
    path = FOLDER / f"{name_or_path}.toml"
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
    elif not path.is_file():
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise YayiError(
            f"no template is called {one_line(name_or_path)}: choose one of {names}, or give a FILE.toml"
        )
    try:
        source = path.read_text(encoding="utf-8")
        content = tomllib.loads(source)
    except OSError as error:
        raise YayiError(f"{path}: cannot read the template: {error.strerror}") from error
    except ValueError as error:
        raise YayiError(f"{path}: the template is not valid TOML: {one_line(str(error))}") from error
    fault = next(_faults(content), None)
    if fault:
        key, message = fault
        raise YayiError(f"{path}:{_line_of(key, source)}: {message}")
    return _template(content)


def _template(content: dict[str, Any]) -> Template:
    roles = {role: content["roles"].get(role, content["roles"].get(_LIKE.get(role))) for role in _ROLES}
    return Template(
        name=content["name"],
        control=tuple(content["control"]),
        end=content["end"],
        default_system=content["default_system"],
        tools=content["tools"],
        existing=MappingProxyType(content.get("existing", {})),
        roles=MappingProxyType(roles),
    )


def _line_of(key: str, source: str) -> int:
    """Return the 1-based line of a key or table of a TOML source, line 1 where it is missing."""
    pattern = re.compile(rf"""^\s*\[?\s*["']?{re.escape(key)}["']?\s*[=\].]""")
    return next((n for n, line in enumerate(source.splitlines(), 1) if pattern.match(line)), 1)


def _faults(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what keeps a parsed TOML from being a template, most basic first."""
    for key in content:
        if key not in _KEYS:
            yield key, f"unknown key {one_line(key)}: a template has {', '.join(_KEYS)}"
    for key, kind in _KEYS.items():
        if key not in content and key not in _OPTIONAL:
            yield key, f"the key {key} is missing: see the templates that come with the tool"
        elif not isinstance(content.get(key, kind()), kind):
            yield key, f"{key} is {type(content[key]).__name__}, expected {kind.__name__}"
    control, end = content["control"], content["end"]
    yield from _control_faults(control, end)
    for token, where in content.get("existing", {}).items():
        if token not in control or not (where == "eos" or type(where) is int):
            yield token, f"existing must map a control token to an id or to eos, found {one_line(token)}"
    if content["tools"].count(_SLOT) != 1:
        yield "tools", "tools must contain {text} exactly once, where the tool definitions stand"
    yield from _role_faults(content["roles"], control, end)


def _control_faults(control: list[Any], end: str) -> Iterator[tuple[str, str]]:
    if not control or not all(isinstance(token, str) and token.strip() for token in control):
        yield "control", "control must list the control tokens, each a string that is not blank"
    if len(set(control)) != len(control):
        yield "control", "control names a token twice"
    if end not in control:
        yield "end", f"end is {one_line(end)}, which control does not list"


def _role_faults(roles: dict[str, Any], control: list[str], end: str) -> Iterator[tuple[str, str]]:
    for role in roles:
        if role not in _ROLES:
            yield role, f"unknown role {one_line(role)}: a template has {', '.join(_ROLES)}"
    for role in _ROLES:
        if role not in roles and role not in _LIKE:
            yield "roles", f"the role {role} is missing"
    for role, text in roles.items():
        if not isinstance(text, str) or text.count(_SLOT) != 1:
            yield role, f"{role} must be a string with {{text}} in it once, where the turn's text stands"
        elif not text.startswith(tuple(control)):
            yield role, f"{role} must begin with a control token, which no text can imitate"
        elif role in _REPLIES and end not in text.partition(_SLOT)[2]:
            yield (
                role,
                f"{role} must have the end token {one_line(end)} after {{text}}, to teach the model to stop",
            )
        elif role in _REPLIES and not text.startswith(roles["assistant"].partition(_SLOT)[0]):
            yield role, f"{role} must begin as assistant does: the model says all that follows"


def template_toml(template: Template) -> str:
    """Return a TOML file that `load_template` reads back as the same template."""
    plain = [key for key in _KEYS if key not in ("existing", "roles")]
    lines = [f"{key} = {_literal(getattr(template, key))}" for key in plain]
    for table in ("existing", "roles"):
        lines += ["", f"[{table}]"]
        lines += [f"{_literal(key)} = {_literal(value)}" for key, value in getattr(template, table).items()]
    return "\n".join([*lines, ""])


def _literal(value: str | int | Sequence[str]) -> str:
    """Return a value as JSON writes it, and TOML with it."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
