"""Long conversations cut to a maximum length: whole exchanges go, from the end, never a part of a reply."""

from collections.abc import Iterator, Sequence

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
    after = len(tokenizer.suffix_ids)
    shortened: list[Rendered | None] = []
    for conversation, row_ends in zip(conversations, ends, strict=True):
        beginnings = (render(beginning, template, train_on) for beginning in _beginnings(conversation))
        fitting = (b for b in beginnings if row_ends[len(b.layout.elements)] + after <= max_length)
        shortened.append(next((b for b in fitting if _learnt(b)), None))
    return shortened


def _beginnings(conversation: Conversation) -> Iterator[Conversation]:
    """Yield the beginnings of a conversation that end before a question, longest first."""
    turns = conversation.turns
    for i in range(len(turns) - 1, 0, -1):
        if turns[i].role == "user" and turns[i - 1].role != "user":
            yield conversation._replace(turns=turns[:i])


def _learnt(rendered: Rendered) -> bool:
    return any(element.supervised for element in rendered.layout.elements)
