"""Packed rows -> the conversations they were rendered from: render and encode, turned around."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from yayi_data.shard.columns import Row
from yayi_data.template import Template, cut
from yayi_data.tokenizer import Tokenizer
from yayi_data.types import Conversation, Role, Turn

_SLOT = "{text}"
_FIRST_MARK = 0xDC00
_NO_MARK = "[^\udc00-\udfff]*"
_MARK = re.compile("[\udc00-\udfff]")
"""Control tokens become lone surrogates, which no decoded text can hold, so that a pattern can tell them."""


class _Cut(NamedTuple):
    """A row's control tokens, whether each is learnt, and the ids before, between and behind them."""

    pieces: list[NDArray[np.int32]]
    controls: list[int]
    learnt: list[bool]


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

    def conversations(self, rows: Sequence[Row]) -> list[Conversation | None]:
        """Return the conversations of rows; None for a row that the template did not write."""
        cuts = [self._cut(row) for row in rows]
        pieces = [piece.tolist() for cut in cuts for piece in cut.pieces]
        decoded = iter(self._tokenizer.plain.decode_batch(pieces, skip_special_tokens=False))
        return [self._conversation(cut, list(islice(decoded, len(cut.pieces)))) for cut in cuts]

    def _cut(self, row: Row) -> _Cut:
        """Cut a row at its control tokens, without what the tokenizer itself put around it."""
        start, end = len(self._tokenizer.prefix_ids), len(row.ids) - len(self._tokenizer.suffix_ids)
        ids, mask = row.ids[start:end], row.mask[start:end]
        places = np.flatnonzero(np.isin(ids, self._control))
        pieces = np.split(ids, np.sort(np.concatenate([places, places + 1])))[::2]
        return _Cut(pieces, ids[places].tolist(), mask[places].tolist())

    def _conversation(self, cut: _Cut, decoded: Sequence[str]) -> Conversation | None:
        controls = [self._marks[number] for number in cut.controls]
        text = "".join([part for pair in zip_longest(decoded, controls, fillvalue="") for part in pair])
        learnt = iter(cut.learnt)
        system, turns, end = "", list[Turn](), 0
        while found := self._turn.match(text, end):
            role, said = str(found.lastgroup), found[str(found.lastgroup)]
            supervised = any(list(islice(learnt, len(_MARK.findall(found[0])))))
            if role == "system":
                system = said
            else:
                train = supervised or role not in ("assistant", "tool_call")
                turns.append(Turn(cast(Role, role), said, train))
            end = found.end()
        if end != len(text) or not turns:
            return None
        return Conversation(tuple(turns), *_system_and_tools(system, self._template))


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
