"""Long conversations cut to a maximum length: whole exchanges go, from the end, never a part of a reply."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from yayi_data.encode import element_ends
from yayi_data.render import render
from yayi_data.template import Rendered, Template, TrainOn
from yayi_data.tokenizer import Tokenizer
from yayi_data.types import Conversation


def truncate(
    conversations: Sequence[Conversation],
    template: Template,
    tokenizer: Tokenizer,
    max_length: int,
    train_on: TrainOn = "all",
) -> list[Rendered | None]:
    """Render the longest beginning of each conversation that fits into `max_length` tokens.

    A beginning is a number of whole exchanges, fewer than all of them. None where no beginning fits that has
    something to learn.
    """
    rows = [render(conversation, template) for conversation in conversations]
    ends = element_ends(rows, tokenizer)
    room = max_length - len(tokenizer.suffix_ids)
    return [
        _longest(conversation, row_ends, room, lambda talk: render(talk, template, train_on))
        for conversation, row_ends in zip(conversations, ends, strict=True)
    ]


def _longest(
    conversation: Conversation,
    ends: NDArray[np.int64],
    room: int,
    rendered: Callable[[Conversation], Rendered],
) -> Rendered | None:
    """Return the longest beginning whose last element ends within `room` tokens and teaches something.

    A later cut is never shorter, so that a search renders few of thousands.
    """

    def beginning(cut: int) -> Rendered:
        return rendered(conversation._replace(turns=conversation.turns[:cut]))

    def length(cut: int) -> int:
        return int(ends[len(beginning(cut).layout.elements)])

    cuts = _cuts(conversation)
    fitting = reversed(cuts[: bisect_right(cuts, room, key=length)])
    return next(filter(_learnt, map(beginning, fitting)), None)


def _cuts(conversation: Conversation) -> list[int]:
    """Return before which turns a beginning may end: the questions, but not the first."""
    turns = conversation.turns
    return [i for i in range(1, len(turns)) if turns[i].role == "user" and turns[i - 1].role != "user"]


def _learnt(rendered: Rendered) -> bool:
    return any(element.supervised for element in rendered.layout.elements)
