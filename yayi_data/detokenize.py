"""A row's ids as text again: which stretches are control tokens, context, or supervised."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import tokenizers

Kind = Literal["control", "context", "supervised"]


class Span(NamedTuple):
    """A stretch of a row; a supervised control token (the end of a reply) has the kind `control`."""

    text: str
    kind: Kind
    supervised: bool
    ids: tuple[int, ...]


def spans(ids: Sequence[int], mask: Sequence[bool], tokenizer: tokenizers.Tokenizer) -> Iterator[Span]:
    """Yield a row's stretches in order.

    What stands between two control tokens is decoded as one, since a decoder drops the blank that a tokenizer
    put before it; its supervised part is what remains after the context.
    """
    control = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    tokens = list(zip(ids, mask, strict=True))
    for is_control, group in groupby(tokens, lambda token: token[0] in control):
        if is_control:
            for number, supervised in group:
                yield Span(tokenizer.id_to_token(number) or "", "control", supervised, (number,))
        else:
            yield from _piece(list(group), tokenizer)


def _piece(tokens: list[tuple[int, bool]], tokenizer: tokenizers.Tokenizer) -> Iterator[Span]:
    whole = tokenizer.decode([number for number, _ in tokens], skip_special_tokens=False)
    context = tuple(number for number, supervised in tokens if not supervised)
    learnt = tuple(number for number, supervised in tokens if supervised)
    border = len(tokenizer.decode(list(context), skip_special_tokens=False)) if learnt else len(whole)
    if context:
        yield Span(whole[:border], "context", False, context)
    if learnt:
        yield Span(whole[border:], "supervised", True, learnt)


def supervised_texts(row: Sequence[Span]) -> list[str]:
    """Return each supervised stretch as one string, the end token included."""
    groups = groupby(row, lambda span: span.supervised)
    return ["".join(span.text for span in group) for supervised, group in groups if supervised]


def token_texts(ids: Sequence[int], tokenizer: tokenizers.Tokenizer) -> Iterator[str]:
    """Yield the text of one token after the other; tokens that share a character come as one."""
    waiting: list[int] = []
    for number in ids:
        waiting.append(number)
        text = tokenizer.decode(waiting, skip_special_tokens=False)
        if not text.endswith("\ufffd") or len(waiting) > 8:
            yield text
            waiting = []
    if waiting:
        yield tokenizer.decode(waiting, skip_special_tokens=False)
