"""Settings of `validate` that live with the data: yayi.toml, or [tool.yayi-data] of pyproject.toml."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

from yayi_data.checking import ValidateOptions
from yayi_data.errors import YayiError
from yayi_data.types import DIALECTS, Severity
from yayi_data.validate.ruleset import selected

_TYPES: dict[str, type | tuple[type, ...]] = {
    "dialect": str,
    "select": list,
    "ignore": list,
    "severity": dict,
    "strict": bool,
    "baseline": str,
    "max-problems": int,
    "limit": int,
    "domains": str,
    "template": str,
    "workers": int,
}
_FILES = ("baseline", "domains")
_POSITIVE = ("max-problems", "limit", "workers")


def load_settings(folder: Path) -> dict[str, Any]:
    """Return the settings for a folder, from the nearest file at or above it, as names of ValidateOptions.

    Paths in a file are relative to it. Raises YayiError for a key or a value that is not known.
    """
    for place in (folder, *folder.parents):
        for name in ("yayi.toml", "pyproject.toml"):
            if (place / name).is_file() and (found := _load(place / name)) is not None:
                return found
    return {}


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise YayiError(f"{path}: cannot read the settings: {error}") from error
    if path.name == "pyproject.toml":
        tools = content.get("tool")
        content = tools.get("yayi-data") if isinstance(tools, dict) else None
        if content is None:
            return None
        if not isinstance(content, dict):
            raise YayiError(f"{path}: tool.yayi-data must be a TOML table, found {content!r}")
    return {key.replace("-", "_"): _checked(path, key, value) for key, value in content.items()}


def _checked(path: Path, key: str, value: Any) -> Any:
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(_TYPES)}"
        raise YayiError(f"{path}: unknown setting {key!r}: {hint}")
    if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and _TYPES[key] is not bool):
        raise YayiError(f"{path}: {key} must be a TOML {_name(_TYPES[key])}, found {value!r}")
    if key in _POSITIVE and isinstance(value, int) and value < 1:
        raise YayiError(f"{path}: {key} must be 1 or more, found {value}")
    if key == "dialect" and value not in ("auto", *DIALECTS):
        raise YayiError(f"{path}: {key} must be one of auto, {', '.join(DIALECTS)}, found {value!r}")
    if isinstance(value, dict):
        return tuple(chain.from_iterable(_severity(path, name, level) for name, level in value.items()))
    if isinstance(value, list):
        return tuple(map(str, value))
    is_file = key in _FILES or (key == "template" and str(value).endswith(".toml"))
    return str(path.parent / str(value)) if is_file else value


def _severity(path: Path, name: str, level: object) -> Iterator[tuple[str, str]]:
    """Yield the rules that a name stands for, each with its severity."""
    if level not in list(Severity):
        raise YayiError(f'{path}: severity of {name}: expected "error" or "warning", found {level!r}')
    try:
        yield from ((rule, str(level)) for rule in selected([name], []))
    except YayiError as error:
        raise YayiError(f"{path}: severity: {error}") from None


def _name(kind: Any) -> str:
    return {str: "string", list: "array", dict: "table", bool: "boolean", int: "integer"}[kind]


assert {key.replace("-", "_") for key in _TYPES} <= {field.name for field in fields(ValidateOptions)}
