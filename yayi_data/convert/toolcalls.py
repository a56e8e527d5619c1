"""Function calls and tool definitions as JSON text, as sharegpt writes them, and as OpenAI's objects.

A call's text is `{"name": …, "arguments": {…}}`, or a list of such objects for calls made at once. The text
of the arguments is carried over character by character: `1.50` stays `1.50`.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from yayi_data.errors import ConversionError

_DECODER = json.JSONDecoder()
_CALL_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_CALL_TAIL = re.compile(r"\s*\}\s*")


class Call(NamedTuple):
    """One function call; `arguments` is the JSON text of an object, or what a model wrote in its place."""

    name: str
    arguments: str


def calls_text(calls: Sequence[Call]) -> str:
    """Return the text of one call, or of several made at once."""
    texts = [f'{{"name": {_json(name)}, "arguments": {_written(arguments)}}}' for name, arguments in calls]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def calls_of(text: str) -> list[Call]:
    """Return the calls that a text holds; raise ConversionError where it has another form."""
    try:
        return _listed(text.strip()) if text.lstrip().startswith("[") else [_whole(text)]
    except (ValueError, RecursionError) as error:
        form = '{"name": "…", "arguments": {…}}'
        raise ConversionError(
            "tool-call", f"messages holds a function call of the form {form} only"
        ) from error


def tools_text(tools: str | list[Any] | None) -> str:
    """Return the JSON text of tool definitions (text, or a list from which OpenAI's wrapper is taken off).

    An empty list, or its text, is no tools: "".
    """
    if not tools or tools == "[]":
        return ""
    if isinstance(tools, str):
        return tools
    return _json([tool["function"] if _is_wrapped(tool) else tool for tool in tools])


def tools_of(text: str) -> list[dict[str, Any]]:
    """Return tool definitions in OpenAI's wrapper; raise ConversionError where there is no list."""
    try:
        tools = json.loads(text)
    except (ValueError, RecursionError):
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ConversionError("tool-definitions", "messages holds tools as a list of objects only")
    return [tool if _is_wrapped(tool) else {"type": "function", "function": tool} for tool in tools]


def _whole(text: str) -> Call:
    call, end = _one(text, 0)
    if end != len(text):
        raise ValueError(text)
    return call


def _listed(text: str) -> list[Call]:
    calls: list[Call] = []
    end = 0
    while text[end : end + 1] in {"[", ","}:
        call, end = _one(text, end + 1)
        calls.append(call)
    if text[end:] != "]":
        raise ValueError(text)
    return calls


def _one(text: str, start: int) -> tuple[Call, int]:
    head = _CALL_HEAD.match(text, start)
    if not head:
        raise ValueError(text)
    arguments, end = _DECODER.raw_decode(text, head.end())
    tail = _CALL_TAIL.match(text, end)
    if not tail or not isinstance(arguments, dict | str):
        raise ValueError(text)
    written = arguments if isinstance(arguments, str) else text[head.end() : end]
    return Call(json.loads(head[1]), written), tail.end()


def _written(arguments: str) -> str:
    """Return arguments as they stand in a call's text: an object as it is, other text as a JSON string."""
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return arguments.strip() if is_object else _json(arguments)


def _is_wrapped(tool: object) -> bool:
    return isinstance(tool, dict) and tool.keys() == {"type", "function"} and tool["type"] == "function"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
