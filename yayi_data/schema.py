"""The schemas of the dialects, compiled for jsonschema-rs, which accepts, and jsonschema, which explains."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

TURNS = {"multi-turn": "conversations", "sharegpt": "conversations", "messages": "messages"}
"""The member that holds a record's turns."""

SPEAKER = {"multi-turn": "from", "sharegpt": "from", "messages": "role"}
TEXT = {"multi-turn": "value", "sharegpt": "value", "messages": "content"}
"""The members of a turn that hold its role and its text."""

_RULES = {
    "required": "schema-missing",
    "type": "schema-type",
    "minLength": "schema-empty",
    "minItems": "schema-empty",
}


class Violation(NamedTuple):
    """One breach of a schema: the rule, the path to the offending value, and what to do."""

    rule: str
    path: tuple[str | int, ...]
    message: str


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Load a schema by its name: from the installed package, or from the checkout's `schemas` folder."""
    here = Path(__file__).parent
    installed = here / "schemas" / f"{name}.schema.json"
    path = installed if installed.exists() else here.parent / "schemas" / installed.name
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


@cache
def accepts(dialect: str) -> jsonschema_rs.Validator:
    """Return the fast validator of a list of records; it only says yes or no."""
    return jsonschema_rs.validator_for({"type": "array", "items": load_schema(dialect)})


@cache
def _explainer(dialect: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(load_schema(dialect))


def explain(dialect: str, value: object) -> Iterator[Violation]:
    """Yield every breach of the dialect's schema; none exactly where `accepts` says yes."""
    seen = set()
    for error in _explainer(dialect).iter_errors(value):
        path = tuple(error.absolute_path)
        violation = Violation(_rule(error, path), path, _message(error, path))
        if violation not in seen:
            seen.add(violation)
            yield violation


@cache
def members(dialect: str) -> dict[str, tuple[str, ...]]:
    """Return the known members of a record and, under "turn", of a turn."""
    schema = load_schema(dialect)["properties"]
    turns = schema[TURNS[dialect]]["items"]["properties"] if dialect in TURNS else ()
    return {"record": tuple(schema), "turn": tuple(turns)}


def _rule(error: Any, path: tuple[str | int, ...]) -> str:
    if error.validator == "enum" and path[-1] in ("from", "role"):
        return "role-system" if error.instance == "system" else "role-unknown"
    if error.validator == "minItems" and error.instance:
        return "schema-value"
    return _RULES.get(error.validator, "schema-value")


def _message(error: Any, path: tuple[str | int, ...]) -> str:
    name = next((f"`{part}`" for part in reversed(path) if isinstance(part, str)), "the record")
    if path and isinstance(path[-1], int):
        name = f"item {path[-1]} of {name}"
    return _MESSAGES.get(error.validator, _other)(error, name)


def _missing(error: Any, name: str) -> str:
    absent = next(m for m in error.validator_value if error.message.startswith(f"'{m}' is"))
    return f"{name} has no `{absent}`: add it"


def _wrong_type(error: Any, name: str) -> str:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    return f"{name} must be {' or '.join(map(_typed, wanted))}, found {_found(error.instance)}"


def _empty(error: Any, name: str) -> str:
    if error.instance:
        return _other(error, name)
    return f"{name} is empty: fill it, or remove the record"


def _not_allowed(error: Any, name: str) -> str:
    if error.instance == "system":
        return "a system turn stands among the turns: move its text to the record's `system`"
    allowed = " or ".join(json.dumps(v, ensure_ascii=False) for v in error.validator_value)
    return f"{name} must be {allowed}, found {_found(error.instance)}"


def _other(error: Any, name: str) -> str:
    if error.validator in ("minItems", "maxItems"):
        return f"{name} must hold {error.validator_value} items, found {len(error.instance)}"
    return f"{name} does not match {error.validator} {error.validator_value!r}"


_MESSAGES = {
    "required": _missing,
    "type": _wrong_type,
    "minLength": _empty,
    "minItems": _empty,
    "enum": _not_allowed,
}

_TYPES = {
    "string": "a text",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
    "null": "null",
}


def _typed(name: str) -> str:
    return _TYPES.get(name, name)


def _found(instance: object) -> str:
    if instance is None or isinstance(instance, bool):
        return json.dumps(instance)
    if isinstance(instance, (list, dict)):
        return "a list" if isinstance(instance, list) else "an object"
    shown = json.dumps(instance, ensure_ascii=False)
    return shown if len(shown) <= 40 else shown[:39] + "…"
