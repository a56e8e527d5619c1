"""A batch of rendered conversations becomes flat ids and a loss mask, vectorised: no per-token Python."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yayi_data.errors import DataError
from yayi_data.template import Control, Layout, Rendered
from yayi_data.tokenizer import Tokenizer

_PIECE = -1
_UNKNOWN = -1


class Encoded(NamedTuple):
    """Encoded conversations, flat: row i is `ids[offsets[i]:offsets[i + 1]]`, and the same of `mask`.

    `mask` is True where a token is supervised; `straddling` counts the tokens that cover the end of a header
    and the beginning of a reply, which are supervised.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    straddling: int


class ReservedIdError(DataError):
    """Text yielded a control id; `row` is the index of the conversation in the batch."""

    def __init__(self, row: int, token: str):
        self.row = row
        super().__init__(
            f"the text of a record would become the control token {token}: the vocabulary spells it itself; "
            "train with another tokenizer, or take that string out of the record"
        )


class _Elements(NamedTuple):
    """The control tokens and text pieces of conversations, in order: parallel arrays.

    `id` is _PIECE for a piece; `header_bytes` is the normalised length of its header, _UNKNOWN where the
    vocabulary cannot tell; `header_characters` its length as text.
    """

    id: NDArray[np.int64]
    supervised: NDArray[np.bool_]
    header_bytes: NDArray[np.int64]
    header_characters: NDArray[np.int64]

    def at(self, index: NDArray[np.int64]) -> "_Elements":
        return _Elements(
            self.id[index], self.supervised[index], self.header_bytes[index], self.header_characters[index]
        )


def encode(rows: Sequence[Rendered], tokenizer: Tokenizer) -> Encoded:
    """Encode rendered conversations: the tokenizer's leading ids, then control tokens and text in turn.

    A token is supervised if and only if it covers a character of a supervised span.
    Raises ReservedIdError where text yields a control id.
    """
    if not rows:
        return Encoded(np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(1, np.int64), 0)
    tables = [_elements(row.layout, tokenizer) for row in rows]
    elements = _concatenate(tables)
    texts = [text for row in rows for text in row.texts]
    content, ends = tokenizer.encode_flat(texts)
    _check_reserved(content, ends, rows, tokenizer)

    pieces = np.flatnonzero(elements.id == _PIECE)
    lengths = np.ones(len(elements.id), np.int64)
    lengths[pieces] = np.diff(ends, prepend=0)
    header_tokens, straddling = _header_tokens(elements.at(pieces), texts, content, ends, tokenizer)
    unlearnt = np.where(elements.supervised, 0, lengths)
    learnt = elements.supervised[pieces]
    unlearnt[pieces[learnt]] = header_tokens[learnt]

    ids = np.repeat(elements.id.astype(np.int32), lengths)
    ids[ids == _PIECE] = content
    mask = np.repeat(
        np.tile([False, True], len(lengths)), np.stack([unlearnt, lengths - unlearnt], axis=1).ravel()
    )
    last = np.cumsum([len(table.id) for table in tables]) - 1
    return Encoded(ids, mask, np.concatenate([[0], np.cumsum(lengths)[last]]), straddling)


def _concatenate(tables: Sequence[_Elements]) -> _Elements:
    return _Elements(
        np.concatenate([table.id for table in tables]),
        np.concatenate([table.supervised for table in tables]),
        np.concatenate([table.header_bytes for table in tables]),
        np.concatenate([table.header_characters for table in tables]),
    )


def _check_reserved(
    content: NDArray[np.int32], ends: NDArray[np.int64], rows: Sequence[Rendered], tokenizer: Tokenizer
) -> None:
    found = tokenizer.reserved[content]
    if found.any():
        token = int(found.argmax())
        piece = int(np.searchsorted(ends, token, side="right"))
        row_ends = np.cumsum([len(row.texts) for row in rows])
        row = int(np.searchsorted(row_ends, piece, side="right"))
        raise ReservedIdError(row, tokenizer.plain.id_to_token(int(content[token])) or str(content[token]))


@lru_cache(maxsize=4096)
def _elements(layout: Layout, tokenizer: Tokenizer) -> _Elements:
    table = [(number, False, 0, 0) for number in tokenizer.prefix_ids]
    for element in layout.elements:
        if isinstance(element, Control):
            table.append((tokenizer.control_ids[element.token], element.supervised, 0, 0))
        else:
            size = _header_bytes(element.header, tokenizer)
            table.append((_PIECE, element.supervised, size, len(element.header)))
    if layout.closed:
        table += [(number, False, 0, 0) for number in tokenizer.suffix_ids]
    ids, supervised, sizes, characters = zip(*table, strict=True)
    return _Elements(np.array(ids), np.array(supervised), np.array(sizes), np.array(characters))


@lru_cache(maxsize=256)
def _header_bytes(header: str, tokenizer: Tokenizer) -> int:
    """Return how many normalised bytes a piece's header takes, with what the tokenizer puts before it."""
    if not header:
        return 0
    sizes = tokenizer.token_bytes[tokenizer.encode_flat([f"{header}a"])[0]]
    return int(sizes.sum()) - 1 if sizes.all() else _UNKNOWN


def _header_tokens(
    pieces: _Elements,
    texts: list[str],
    content: NDArray[np.int32],
    ends: NDArray[np.int64],
    tokenizer: Tokenizer,
) -> tuple[NDArray[np.int64], int]:
    """Return how many tokens of each supervised piece lie within its header, and how many straddle its end."""
    sizes = tokenizer.token_bytes[content]
    byte_ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    starts = np.concatenate([[0], ends[:-1]])
    border = byte_ends[starts] + pieces.header_bytes
    first = np.minimum(np.searchsorted(byte_ends[1:], border, side="right"), ends)
    straddles = (first < ends) & (byte_ends[first] < border) & pieces.supervised
    unknown = np.concatenate([[0], np.cumsum(sizes == 0)])
    untold = (unknown[np.minimum(first + 1, ends)] > unknown[starts]) | (pieces.header_bytes == _UNKNOWN)
    for i in np.flatnonzero(untold & pieces.supervised):
        spans = tokenizer.spans(texts[i])
        border_characters = pieces.header_characters[i]
        within = sum(end <= border_characters for _, end in spans)
        first[i] = starts[i] + within
        straddles[i] = within < len(spans) and spans[within][0] < border_characters
    return first - starts, int(straddles.sum())
