"""What the rules find in one parsed record, exactly: the slow path, for records that looked suspicious."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from yayi_data.scan import Path
from yayi_data.schema import SPEAKER, TURNS, explain, members


class Finding(NamedTuple):
    """A breach of a rule at a path; `at_key` places it at the member's key instead of its value."""

    rule: str
    path: Path
    message: str
    at_key: bool = False


def schema(value: Any, dialect: str) -> Iterator[Finding]:
    """Yield what breaks the dialect's schema, and members it does not know."""
    for violation in explain(dialect, value):
        yield Finding(*violation)


def unknown_members(value: Any, dialect: str) -> Iterator[Finding]:
    """Yield the members of a record and of its turns that nothing reads."""
    known = members(dialect)
    if isinstance(value, dict):
        yield from _unknown(value, known["record"], ())
        turns = value.get(TURNS.get(dialect, ""))
        for i, turn in enumerate(turns if isinstance(turns, list) else ()):
            if isinstance(turn, dict):
                yield from _unknown(turn, known["turn"], (TURNS[dialect], i))


def _unknown(found: dict[str, Any], known: Sequence[str], path: Path) -> Iterator[Finding]:
    for name in found.keys() - known:
        near = difflib.get_close_matches(name, [k for k in known if k not in found], 1, 0.6)
        hint = f"did you mean `{near[0]}`?" if near else f"expected one of {', '.join(known)}"
        yield Finding("unknown-member", (*path, name), f"nothing reads the member `{name}`: {hint}", True)


ASKS = {
    "multi-turn": frozenset(["human"]),
    "sharegpt": frozenset(["human", "observation"]),
    "messages": frozenset(["user", "tool"]),
}
"""The roles that speak first and by turns with those that reply."""

SYSTEM = {"sharegpt": frozenset(["system"]), "messages": frozenset(["system", "developer"])}
"""The roles that may stand once, before the first turn."""


def roles(value: Any, dialect: str) -> Iterator[Finding]:
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
