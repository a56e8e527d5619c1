"""Settings of `validate` that live with the data: yayi.toml, or [tool.yayi-data] of pyproject.toml."""

import difflib
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from yayi_data.checking import ValidateOptions
from yayi_data.errors import YayiError
from yayi_data.types import Severity

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
        content = content.get("tool", {}).get("yayi-data")
        if content is None:
            return None
    return {key.replace("-", "_"): _checked(path, key, value) for key, value in content.items()}


def _checked(path: Path, key: str, value: Any) -> Any:
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(_TYPES)}"
        raise YayiError(f"{path}: unknown setting {key!r}: {hint}")
    if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and _TYPES[key] is not bool):
        raise YayiError(f"{path}: {key} must be a TOML {_name(_TYPES[key])}, found {value!r}")
    if isinstance(value, dict):
        return tuple((rule, _severity(path, rule, level)) for rule, level in value.items())
    if isinstance(value, list):
        return tuple(map(str, value))
    return str(path.parent / str(value)) if key in _FILES else value


def _severity(path: Path, rule: str, level: object) -> str:
    if level not in list(Severity):
        raise YayiError(f'{path}: severity of {rule}: expected "error" or "warning", found {level!r}')
    return str(level)


def _name(kind: Any) -> str:
    return {str: "string", list: "array", dict: "table", bool: "boolean", int: "integer"}[kind]


assert {key.replace("-", "_") for key in _TYPES} <= {field.name for field in fields(ValidateOptions)}
