"""Dialect <-> Conversation: two small functions a dialect, in two tables.

`conversation` is on pack's hot path: a record costs a microsecond or two. Text is carried over as it
stands, never stripped. What a dialect cannot hold raises ConversionError; nothing is left out in silence.
docs/formats.md says what each dialect holds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from yayi_data.convert.messages import from_messages, to_messages, trained
from yayi_data.convert.toolcalls import tools_text
from yayi_data.errors import ConversionError
from yayi_data.types import Conversation, Role, Turn

Value = dict[str, Any]

_MULTI_TURN: dict[str, Role] = {"human": "user", "yayi": "assistant"}
_SHAREGPT: dict[str, Role] = {
    "human": "user",
    "gpt": "assistant",
    "function_call": "tool_call",
    "observation": "tool_result",
}


def conversation(value: Value, dialect: str) -> Conversation:
    """Return the conversation that a record holds; the record must be valid in its dialect."""
    return FROM[dialect](value)


def value(conversation: Conversation, dialect: str) -> Value:
    """Return a conversation as a record of the dialect; raise ConversionError where that cannot hold it."""
    _check_turns(conversation, dialect)
    return TO[dialect](conversation)


def _from_alpaca(record: Value) -> Conversation:
    asked: str = record["instruction"]
    if more := record.get("input"):
        asked = f"{asked}\n{more}"
    turns: tuple[Turn, ...] = (Turn("user", asked), Turn("assistant", record["output"]))
    if history := record.get("history"):
        turns = (*_exchanges(history), *turns)
    return Conversation(turns, record.get("system") or "")


def _exchanges(history: Sequence[Sequence[str]]) -> Iterator[Turn]:
    for asked, answered in history:
        yield Turn("user", asked)
        yield Turn("assistant", answered)


def _to_alpaca(conversation: Conversation) -> Value:
    turns = conversation.turns
    if not all(turn.train for turn in turns):
        raise ConversionError("train-flags", "alpaca cannot mark a reply that is not to be trained on")
    record: Value = {"instruction": turns[-2].text, "input": "", "output": turns[-1].text}
    if conversation.system:
        record["system"] = conversation.system
    if len(turns) > 2:
        record["history"] = [[turns[i].text, turns[i + 1].text] for i in range(0, len(turns) - 2, 2)]
    return record


def _from_multi_turn(record: Value) -> Conversation:
    return Conversation(_heard(record["conversations"], _MULTI_TURN), record.get("system") or "")


def _to_multi_turn(conversation: Conversation) -> Value:
    return {"system": conversation.system, "conversations": _said(conversation, _MULTI_TURN)}


def _from_sharegpt(record: Value) -> Conversation:
    said, system = record["conversations"], record.get("system") or ""
    if said[0]["from"] == "system":
        if system and system != said[0]["value"]:
            raise ConversionError(
                "two-systems", "the record has a system member and a system turn that differs"
            )
        said, system = said[1:], said[0]["value"]
    return Conversation(_heard(said, _SHAREGPT), system, tools_text(record.get("tools")))


def _to_sharegpt(conversation: Conversation) -> Value:
    record: Value = {"conversations": _said(conversation, _SHAREGPT)}
    if conversation.system:
        record["system"] = conversation.system
    if conversation.tools:
        record["tools"] = conversation.tools
    return record


def _heard(said: Sequence[Value], roles: Mapping[str, Role]) -> tuple[Turn, ...]:
    # A list, since a tuple made from a generator takes half as long again.
    return tuple([Turn(roles[t["from"]], t["value"]) if len(t) == 2 else _flagged(t, roles) for t in said])


def _flagged(turn: Value, roles: Mapping[str, Role]) -> Turn:
    role = roles[turn["from"]]
    return Turn(role, turn["value"], trained(turn, role))


def _said(conversation: Conversation, roles: Mapping[str, Role]) -> list[Value]:
    names = {role: name for name, role in roles.items()}
    return [
        {"from": names[turn.role], "value": turn.text} | ({} if turn.train else {"train": False})
        for turn in conversation.turns
    ]


_LETTERS: dict[Role, str] = {"user": "U", "assistant": "A", "tool_call": "C", "tool_result": "T"}

# What a record of the dialect may be by validate's rules, which refuse any other order.
_ORDER = {
    "alpaca": re.compile("(?:UA)+"),
    "multi-turn": re.compile("(?:UA)+"),
    "sharegpt": re.compile("(?:[UT][AC])+"),
    "messages": re.compile("(?:(?:U|T+)(?:AC?|C))+"),
}


def _check_turns(conversation: Conversation, dialect: str) -> None:
    order = "".join([_LETTERS[turn.role] for turn in conversation.turns])
    if dialect in {"alpaca", "multi-turn"} and (conversation.tools or "C" in order or "T" in order):
        raise ConversionError("tools", f"{dialect} holds no tools and no tool turns")
    if not _ORDER[dialect].fullmatch(order):
        raise ConversionError("not-alternating", f"{dialect} holds questions and replies by turns only")


FROM: dict[str, Callable[[Value], Conversation]] = {
    "alpaca": _from_alpaca,
    "multi-turn": _from_multi_turn,
    "sharegpt": _from_sharegpt,
    "messages": from_messages,
}

TO: dict[str, Callable[[Conversation], Value]] = {
    "alpaca": _to_alpaca,
    "multi-turn": _to_multi_turn,
    "sharegpt": _to_sharegpt,
    "messages": to_messages,
}
