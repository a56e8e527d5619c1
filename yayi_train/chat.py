"""A conversation with a model on a terminal: replies appear as they are made."""

import sys
from typing import Any

from yayi_data.console import say, visible
from yayi_data.types import Conversation, Turn
from yayi_train.generate import Speaker, answer

_UNFINISHED = "\ufffd"


class Printer:
    """A streamer for transformers that writes a reply while it is made: whole characters, safe to show."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._ids: list[int] | None = None
        self._written = 0

    def put(self, value: Any) -> None:
        """Take the prompt's ids first, then each new one."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        text = self._speaker.said(self._ids)
        if not text.endswith((_UNFINISHED, "\n")):
            self._write(text)

    def end(self) -> None:
        """Write what was held back, and a newline."""
        self._write(self._speaker.said(self._ids or []))
        print(flush=True)

    def _write(self, text: str) -> None:
        print(visible(text[self._written :]), end="", flush=True)
        self._written = len(text)


def _asked() -> str:
    """Return the next line that is text."""
    while True:
        try:
            line = input("> ")
            line.encode()
        except UnicodeError:
            say("that was not UTF-8; say it again")
        else:
            return line


def chat(speaker: Speaker) -> None:
    """Talk until the person leaves with Ctrl-C, Ctrl-D or an empty line."""
    say("An empty line, Ctrl-D or Ctrl-C ends the conversation.")
    turns: tuple[Turn, ...] = ()
    try:
        while asked := _asked():
            turns += (Turn("user", asked),)
            said = answer(speaker, Conversation(turns), Printer(speaker))
            turns += (Turn("assistant", said.reply),)
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stdout)
