"""The texts of a valid record, each with its path and its side: asked, replied or other."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from yayi_data.read.scan import Path
from yayi_data.schema import SPEAKER, TEXT, TURNS

Side = Literal["ask", "reply", "other"]

_SIDES: dict[str, Side] = {
    "human": "ask",
    "user": "ask",
    "yayi": "reply",
    "gpt": "reply",
    "assistant": "reply",
}


class Text(NamedTuple):
    """One text of a record."""

    path: Path
    text: str
    side: Side


def _alpaca(value: Any) -> Iterator[Text]:
    yield Text(("instruction",), value["instruction"], "ask")
    yield Text(("output",), value["output"], "reply")
    for name in ("input", "system"):
        if text := value.get(name):
            yield Text((name,), text, "other")
    for i, (asked, replied) in enumerate(value.get("history", ())):
        yield Text(("history", i, 0), asked, "ask")
        yield Text(("history", i, 1), replied, "reply")


def _turns(dialect: str) -> Callable[[Any], Iterator[Text]]:
    turns, speaker, name = TURNS[dialect], SPEAKER[dialect], TEXT[dialect]

    def texts(value: Any) -> Iterator[Text]:
        for i, turn in enumerate(value[turns]):
            if text := turn.get(name):
                yield Text((turns, i, name), text, _SIDES.get(turn[speaker], "other"))
        if text := value.get("system"):
            yield Text(("system",), text, "other")

    return texts


TEXTS: dict[str, Callable[[Any], Iterator[Text]]] = {"alpaca": _alpaca} | {d: _turns(d) for d in TURNS}
"""The texts of a record, by dialect."""


def first_ask(texts: list[Text]) -> Text | None:
    """Return the text whose start may hold the domain tag: the first thing a person says."""
    asked = [text for text in texts if text.side == "ask"]
    earliest = [text for text in asked if text.path[:2] == ("history", 0)]
    return next(iter(earliest or asked), None)
