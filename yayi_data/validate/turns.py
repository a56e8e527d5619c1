"""Who speaks when: questions and replies by turns, a reply last."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from yayi_data.schema import SPEAKER, TEXT, TURNS
from yayi_data.validate.finding import Finding

ASKS = {
    "multi-turn": frozenset(["human"]),
    "sharegpt": frozenset(["human", "observation"]),
    "messages": frozenset(["user", "tool"]),
}
"""The roles that speak first and by turns with those that reply."""

SYSTEM = {"sharegpt": frozenset(["system"]), "messages": frozenset(["system", "developer"])}
"""The roles that may stand once, before the first turn."""


def out_of_place(value: Any, dialect: str) -> Iterator[Finding]:
    """Yield turns out of order: two questions or two replies in a row, a misplaced system, no last reply."""
    if dialect not in TURNS:
        return
    said = [turn[SPEAKER[dialect]] for turn in value[TURNS[dialect]]]
    spoken: list[int] = []
    for i, role in enumerate(said):
        if role in SYSTEM.get(dialect, ()) and i:
            yield _role(
                dialect, i, "role-system", f"a {role} turn stands inside the conversation: it goes first"
            )
        elif role not in SYSTEM.get(dialect, ()) and not (role == "tool" and i and said[i - 1] == "tool"):
            spoken.append(i)
    if spoken:
        yield from _order(dialect, [(i, said[i]) for i in spoken])
    else:
        yield _role(
            dialect, len(said) - 1, "role-end", "the conversation has no turns: add them, or remove it"
        )


def _order(dialect: str, turns: list[tuple[int, str]]) -> Iterator[Finding]:
    asks = [role in ASKS[dialect] for _, role in turns]
    due = True
    for n, (i, role) in enumerate(turns):
        last = n == len(turns) - 1
        if last and asks[n]:
            yield _role(dialect, i, "role-end", f"the conversation ends with {role}: a reply must come last")
        elif asks[n] != due:
            yield _role(dialect, i, "role-order", _out_of_order(turns, n))
            # A turn in the wrong role keeps the rhythm, a missing or doubled one shifts it.
            due = due if not last and asks[n + 1] != due else asks[n]
        due = not due


def _out_of_order(turns: list[tuple[int, str]], n: int) -> str:
    role = turns[n][1]
    if n == 0:
        return f"the conversation begins with {role}: a question must come first"
    return f"{role} follows {turns[n - 1][1]}: questions and replies must alternate"


def _role(dialect: str, i: int, rule: str, message: str) -> Finding:
    return Finding(rule, (TURNS[dialect], i, SPEAKER[dialect]), message)


_LETTERS = {
    "human": "A",
    "observation": "A",
    "user": "A",
    "yayi": "R",
    "gpt": "R",
    "function_call": "R",
    "assistant": "R",
    "tool": "T",
    "system": "S",
    "developer": "S",
}
_IN_ORDER = {
    "multi-turn": re.compile("(?:AR)+"),
    "sharegpt": re.compile("S?(?:AR)+"),
    "messages": re.compile("S?(?:(?:A|T+)R)+"),
}


def in_order(dialect: str, value: Any) -> bool:
    """Tell quickly whether `out_of_place` finds nothing."""
    speaker = SPEAKER[dialect]
    said = "".join([_LETTERS[turn[speaker]] for turn in value[TURNS[dialect]]])
    return _IN_ORDER[dialect].fullmatch(said) is not None


def _first_turn(dialect: str) -> Callable[[Any], str]:
    turns, speaker, text = TURNS[dialect], SPEAKER[dialect], TEXT[dialect]

    def first(value: Any) -> str:
        asked: dict[str, Any] = next((turn for turn in value[turns] if _LETTERS[turn[speaker]] == "A"), {})
        return asked.get(text) or "-"

    return first


def _first_asked(value: Any) -> str:
    history = value.get("history")
    return str(history[0][0] if history else value["instruction"])


FIRST_ASK: dict[str, Callable[[Any], str]] = {"alpaca": _first_asked} | {d: _first_turn(d) for d in TURNS}
"""The first question of a valid record, where its domain tag stands; "-" where nobody asks."""
