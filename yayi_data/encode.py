"""A batch of rendered conversations becomes flat ids and a loss mask, vectorised: no per-token Python."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.template import Control, Fixed, Layout, Piece, Rendered
from yayi_data.tokenizer import Tokenizer

_PIECE = -1
_FAR = 1 << 30
# The columns of a table of elements, the control tokens and text pieces of conversations in order: the id
# (_PIECE for a piece), whether it is supervised, a piece's header in normalised bytes (-1 = cannot be told)
# and in characters.
_ID, _SUPERVISED, _HEADER_BYTES, _HEADER_CHARACTERS = range(4)

Table = NDArray[np.int64]


class Encoded(NamedTuple):
    """Encoded conversations, flat: row i is `ids[offsets[i]:offsets[i + 1]]`, and the same of `mask`.

    `mask` is True where a token is supervised; `straddling` counts each row's tokens that cover the end of a
    header and the beginning of a reply, which are supervised.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    straddling: NDArray[np.int64]


class ReservedIdError(DataError):
    """Text yielded a control id; `row` is the index of the conversation in the batch."""

    def __init__(self, row: int, token: str):
        self.row = row
        super().__init__(
            f"the text of a record would become the control token {token}: the vocabulary spells it itself; "
            "train with another tokenizer, or take that string out of the record"
        )


class _Content(NamedTuple):
    """The pieces' texts and ids: those of piece i are `ids[starts[i]:ends[i]]`."""

    texts: list[str]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def encode(rows: Sequence[Rendered], tokenizer: Tokenizer) -> Encoded:
    """Encode rendered conversations: the tokenizer's leading ids, then control tokens and text in turn.

    A token is supervised if and only if it covers a character of a supervised span.
    Raises ReservedIdError where text yields a control id.
    """
    elements, row_elements = _elements([row.layout for row in rows], tokenizer)
    content = _content(rows, tokenizer)
    pieces = np.flatnonzero(elements[:, _ID] == _PIECE)
    lengths = _lengths(elements, content)
    ids = np.repeat(elements[:, _ID].astype(np.int32), lengths)
    ids[ids == _PIECE] = content.ids

    learnt = np.flatnonzero(elements[pieces, _SUPERVISED])
    plain = np.where(elements[:, _SUPERVISED], 0, lengths)
    headers, straddles = _header_tokens(elements[pieces[learnt]], learnt, content, tokenizer)
    plain[pieces[learnt]] = headers
    runs = np.stack([plain, lengths - plain], axis=1).ravel()
    mask = np.repeat(np.tile([False, True], len(elements)), runs)
    ends = _ends(row_elements)
    straddling = np.searchsorted(ends, pieces[learnt[straddles]], side="right") - 1
    return Encoded(ids, mask, _ends(lengths)[ends], np.bincount(straddling, minlength=len(rows)))


def element_ends(rows: Sequence[Rendered], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """Return for each row how many tokens come before each element of its layout, and after the last.

    The tokenizer's leading ids are counted, its trailing ones are not.
    """
    elements, row_elements = _elements([row.layout for row in rows], tokenizer)
    content = _content(rows, tokenizer)
    lengths = _lengths(elements, content)
    first = len(tokenizer.prefix_ids)
    tables = np.split(lengths, np.cumsum(row_elements))[: len(rows)]
    widths = [_widths(row.layout, tokenizer) for row in rows]
    return [_ends(table)[first + _ends(width)] for table, width in zip(tables, widths, strict=True)]


def _lengths(elements: Table, content: _Content) -> NDArray[np.int64]:
    """Return how many tokens each element is: a control token one, a piece as many as its text has."""
    lengths = np.ones(len(elements), np.int64)
    lengths[elements[:, _ID] == _PIECE] = content.ends - content.starts
    return lengths


def _ends(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 and the running sums."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _elements(layouts: list[Layout], tokenizer: Tokenizer) -> tuple[Table, NDArray[np.int64]]:
    """Return the table of the elements of all rows, and how many each row has."""
    numbers = {layout: i for i, layout in enumerate(dict.fromkeys(layouts))}
    tables = [_table(layout, tokenizer) for layout in numbers]
    kinds = np.fromiter(map(numbers.__getitem__, layouts), np.int64, len(layouts))
    sizes = np.array([len(table) for table in tables], np.int64)
    counts = sizes[kinds]
    shift = _ends(sizes)[kinds] - _ends(counts)[:-1]
    index = np.arange(counts.sum()) + np.repeat(shift, counts)
    return np.concatenate([np.zeros((0, 4), np.int64), *tables])[index], counts


@lru_cache(maxsize=4096)
def _table(layout: Layout, tokenizer: Tokenizer) -> Table:
    """Return a layout's elements, with the ids that the tokenizer itself puts around them."""
    table = [(number, 0, 0, 0) for number in tokenizer.prefix_ids]
    for element in layout.elements:
        if isinstance(element, Control):
            table.append((tokenizer.control_ids[element.token], element.supervised, 0, 0))
        elif isinstance(element, Piece):
            size = tokenizer.header_bytes(element.header)
            table.append((_PIECE, element.supervised, size, len(element.header)))
        else:
            table += [(number, 0, 0, 0) for number in _fixed_ids(element.text, tokenizer)]
    if layout.closed:
        table += [(number, 0, 0, 0) for number in tokenizer.suffix_ids]
    return np.array(table, np.int64)


def _widths(layout: Layout, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return how many entries of the table each element of a layout takes."""
    fixed = [e.text if isinstance(e, Fixed) else "" for e in layout.elements]
    return np.array([len(_fixed_ids(text, tokenizer)) if text else 1 for text in fixed], np.int64)


@lru_cache(maxsize=256)
def _fixed_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Encode text that the template itself puts between control tokens: once, whatever the number of rows."""
    ids, _ = tokenizer.encode_flat([text])
    found = ids[tokenizer.reserved[ids]]
    if len(found):
        token = tokenizer.plain.id_to_token(int(found[0]))
        raise YayiError(
            f"the template {one_line(tokenizer.template.name)}: its own text {one_line(text[:80])} would become "
            f"the control token {token}, which this vocabulary spells itself; change the template's text"
        )
    return list(map(int, ids))


def _content(rows: Sequence[Rendered], tokenizer: Tokenizer) -> _Content:
    """Encode the text pieces of all rows; raises ReservedIdError where one yields a control id."""
    texts = list(chain.from_iterable([row.texts for row in rows]))
    ids, ends = tokenizer.encode_flat(texts)
    found = np.take(tokenizer.reserved, ids)
    if found.any():
        token = int(found.argmax())
        piece = int(np.searchsorted(ends, token, side="right"))
        row_ends = np.cumsum([len(row.texts) for row in rows])
        row = int(np.searchsorted(row_ends, piece, side="right"))
        raise ReservedIdError(row, str(tokenizer.plain.id_to_token(int(ids[token]))))
    return _Content(texts, ids, np.concatenate([np.zeros(1, np.int64), ends])[:-1], ends)


def _header_tokens(
    elements: Table, pieces: NDArray[np.int64], content: _Content, tokenizer: Tokenizer
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return how many tokens of each of these pieces lie within its header, and whether one straddles its end.

    Since no token is empty, they are among the first few, as many as the header has bytes. Where the length
    of one of these is unknown, the reference's offsets decide.
    """
    header = elements[:, _HEADER_BYTES, None]
    window = content.starts[pieces, None] + np.arange(header.max(initial=0) + 1)
    inside = window < content.ends[pieces, None]
    sizes = np.full(window.shape, _FAR)
    sizes[inside] = tokenizer.token_bytes[content.ids[window[inside]]]
    byte_ends = np.cumsum(sizes, axis=1)
    counts: NDArray[np.int64] = (byte_ends <= header).sum(axis=1)
    straddles: NDArray[np.bool_] = (inside & (byte_ends > header) & (byte_ends - sizes < header)).any(axis=1)
    untold = ((byte_ends <= header) & (sizes == 0)).any(axis=1) | (elements[:, _HEADER_BYTES] < 0)
    for i in np.flatnonzero(untold):
        spans = tokenizer.spans(content.texts[pieces[i]])
        border = elements[i, _HEADER_CHARACTERS]
        counts[i] = sum(end <= border for _, end in spans)
        straddles[i] = any(start < border < end for start, end in spans)
    return counts, straddles
