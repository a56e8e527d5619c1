"""The messages dialect (OpenAI's roles, tool calls and tool results) <-> Conversation.

A message may speak and call at once; in a Conversation these are two turns, the reply and then the call.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import count, groupby
from typing import Any

from yayi_data.convert.toolcalls import Call, calls_of, calls_text, tools_of, tools_text
from yayi_data.errors import ConversionError
from yayi_data.types import Conversation, Role, Turn

Value = dict[str, Any]

_NAMES: dict[Role, str] = {
    "user": "user",
    "assistant": "assistant",
    "tool_call": "assistant",
    "tool_result": "tool",
}


def trained(turn: Value, role: Role) -> bool:
    """Tell whether a turn is learnt from: its `train` or `weight` says so, in replies and calls only."""
    return role in {"user", "tool_result"} or (turn.get("train") is not False and turn.get("weight") != 0)


def from_messages(record: Value) -> Conversation:
    """Return the conversation of a messages record; tool results are put in the order of their calls."""
    messages, system = record["messages"], ""
    if messages[0]["role"] in {"system", "developer"}:
        messages, system = messages[1:], _text(messages[0])
    turns = [turn for message in _in_call_order(messages) for turn in _turns(message)]
    tools = record.get("tools")
    if isinstance(tools, str) and tools:  # as columns hold them, where each definition has its own members
        tools = tools_of(tools)
    return Conversation(tuple(turns), system, tools_text(tools))


def to_messages(conversation: Conversation) -> Value:
    """Return a conversation as a messages record; calls are numbered call_0, call_1 …"""
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    record: Value = {"messages": messages + _merged(_numbered(conversation.turns))}
    if conversation.tools:
        record["tools"] = tools_of(conversation.tools)
    return record


def _in_call_order(messages: Iterable[Value]) -> Iterator[Value]:
    place: dict[str | None, int] = {}
    numbers = count()
    for is_result, group in groupby(messages, key=lambda message: message["role"] == "tool"):
        if is_result:
            yield from sorted(group, key=lambda result: place.get(result.get("tool_call_id"), sys.maxsize))
            continue
        for message in group:
            for call in message.get("tool_calls") or ():
                place[call.get("id")] = next(numbers)
            yield message


def _turns(message: Value) -> Iterator[Turn]:
    if message["role"] != "assistant":
        yield Turn("tool_result" if message["role"] == "tool" else "user", _text(message))
        return
    train, calls = trained(message, "assistant"), message.get("tool_calls")
    text = message.get("content") or ""
    if text or not calls:
        yield Turn("assistant", text, train)
    if calls:
        yield Turn("tool_call", calls_text([_called(call["function"]) for call in calls]), train)


def _text(message: Value) -> str:
    """Return the text of a message that may not call tools."""
    if message.get("tool_calls"):
        raise ConversionError("tool-call", f"a message from {message['role']} calls tools, which it cannot")
    text: str = message["content"]
    return text


def _numbered(turns: Iterable[Turn]) -> Iterator[Value]:
    """Yield a message a turn; results answer the latest calls, first to last."""
    numbers, waiting = count(), list[str]()
    for role, text, train in turns:
        message: Value = {"role": _NAMES[role], "content": text}
        if role == "tool_call":
            calls = [_calling(f"call_{next(numbers)}", call) for call in calls_of(text)]
            message |= {"content": None, "tool_calls": calls}
            waiting = [call["id"] for call in calls]
        elif role == "tool_result" and waiting:
            message["tool_call_id"] = waiting.pop(0)
        if not train:
            message["weight"] = 0
        yield message


def _merged(messages: Iterable[Value]) -> list[Value]:
    """Make one message of a reply and the calls that follow it, as the dialect has it."""
    merged: list[Value] = []
    for message in messages:
        if not merged or merged[-1]["role"] != "assistant" or message["role"] != "assistant":
            merged.append(message)
        elif merged[-1].get("weight") == message.get("weight"):
            merged[-1]["tool_calls"] = message["tool_calls"]
        else:
            raise ConversionError("train-flags", "messages cannot train on a reply without the call after it")
    return merged


def _calling(number: str, call: Call) -> Value:
    return {"id": number, "type": "function", "function": call._asdict()}


def _called(function: Value) -> Call:
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Call(function["name"], arguments)
