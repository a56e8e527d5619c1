"""Packed rows -> the conversations they were rendered from: render and encode, turned around."""

import re
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import orjson
from numpy.typing import NDArray

from yayi_data.shard import Row
from yayi_data.template import Template, cut
from yayi_data.tokenizer import Tokenizer
from yayi_data.types import Conversation, Role, Turn

_SLOT = "{text}"
_FIRST_MARK = 0xDC00
_NO_MARK = "[^\udc00-\udfff]*"
"""Control tokens become lone surrogates, which no decoded text can hold, so that a pattern can tell them."""


class Decoder:
    """Gives rows back as conversations, for one tokenizer and its template.

    What the template writes alike comes back alike: where a tool call wears a reply's header it is a reply,
    and its result a question. Text is what the tokenizer decodes, its own normalization included.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._template = tokenizer.template
        marks = {token: chr(_FIRST_MARK + i) for i, token in enumerate(self._template.control)}
        self._marks = {number: marks[token] for token, number in tokenizer.control_ids.items()}
        self._control = np.array(list(self._marks))
        self._turn = re.compile("|".join(_patterns(self._template, marks)))

    def conversation(self, row: Row) -> Conversation | None:
        """Return the conversation of a row; None where the template did not write it."""
        text, learnt = self._marked(row)
        system, turns, end = "", list[Turn](), 0
        while found := self._turn.match(text, end):
            role, said = str(found.lastgroup), found[str(found.lastgroup)]
            if role == "system":
                system = said
            else:
                train = role not in ("assistant", "tool_call") or bool(learnt[end : found.end()].any())
                turns.append(Turn(cast(Role, role), said, train))
            end = found.end()
        if end != len(text) or not turns:
            return None
        return Conversation(tuple(turns), *_system_and_tools(system, self._template))

    def _marked(self, row: Row) -> tuple[str, NDArray[np.bool_]]:
        """Return a row's text, its control tokens as marks, and which characters are learnt marks."""
        end = len(row.ids) - len(self._tokenizer.suffix_ids)
        start = len(self._tokenizer.prefix_ids)
        ids, mask = row.ids[start:end], row.mask[start:end]
        places = np.flatnonzero(np.isin(ids, self._control))
        pieces = np.split(ids, np.sort(np.concatenate([places, places + 1])))
        decoded = self._tokenizer.plain.decode_batch(
            [piece.tolist() for piece in pieces[::2]], skip_special_tokens=False
        )
        controls = [self._marks[number] for number in ids[places].tolist()] + [""]
        text = "".join(part for pair in zip(decoded, controls, strict=True) for part in pair)
        learnt = np.zeros(len(text), np.bool_)
        ends = np.cumsum([len(piece) + 1 for piece in decoded[:-1]], dtype=np.int64)
        learnt[ends - 1] = mask[places]
        return text, learnt


def _patterns(template: Template, marks: Mapping[str, str]) -> Iterator[str]:
    """Yield a pattern for each role, the more literal first; roles that are written alike share one."""
    roles = {
        template.roles[role]: role for role in ("tool_call", "tool_result", "assistant", "user", "system")
    }
    for text in sorted(roles, key=len, reverse=True):
        parts = [marks.get(part, part) for part in cut(text, template.control)]
        before, after = map(re.escape, "".join(parts).split(_SLOT))
        yield f"{before}(?P<{roles[text]}>{_NO_MARK}){after}"


def _system_and_tools(text: str, template: Template) -> tuple[str, str]:
    """Take tool definitions off the system text's end; the template's default is none of the record's."""
    before, after = template.tools.split(_SLOT)
    system, tools = text, ""
    head, found, rest = text.partition(before)
    if found and rest.endswith(after) and _is_list(rest.removesuffix(after)):
        system, tools = head, rest.removesuffix(after)
    return "" if system == template.default_system else system, tools


def _is_list(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), list)
    except ValueError:
        return False
