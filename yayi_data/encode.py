"""A batch of rendered conversations becomes flat ids and a loss mask, vectorised: no per-token Python."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.template import Control, Fixed, Layout, Piece, Rendered
from yayi_data.tokenizer import Tokenizer

_FAR = 1 << 30
_MOST_FRAMES = 4096


class _Frame(NamedTuple):
    """The constant tokens of a layout, which stand around its text pieces, and what is learnt of each piece.

    `sizes` tells how many of them stand before each piece, and after the last. A piece's header is counted in
    normalised bytes (-1 = cannot be told) and in characters.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    supervised: NDArray[np.bool_]
    header_bytes: NDArray[np.int64]
    header_characters: NDArray[np.int64]


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
    if not rows:
        return Encoded(np.zeros(0, np.int32), np.zeros(0, np.bool_), _ends(_NONE), _NONE)
    frames, kinds = _frames([row.layout for row in rows], tokenizer)
    content = _content(rows, tokenizer)
    pieces = _Pieces(frames, kinds)
    learnt, straddles = _learnt(pieces, content, tokenizer)
    constants = np.concatenate([frame.ids for frame in frames])
    starts, sizes = _runs(frames, kinds, content, len(constants))
    source = np.repeat(starts - _ends(sizes)[:-1], sizes)
    source += np.arange(len(source))
    ids = np.concatenate([constants, content.ids]).take(source)
    mask = np.concatenate([*(frame.mask for frame in frames), learnt]).take(source)
    offsets = _ends(sizes)[_ends(2 * pieces.counts + 1)]
    straddling = np.bincount(np.repeat(np.arange(len(rows)), pieces.counts)[straddles], minlength=len(rows))
    return Encoded(ids, mask, offsets, straddling)


def element_ends(rows: Sequence[Rendered], tokenizer: Tokenizer) -> list[NDArray[np.int64]]:
    """Return for each row how many tokens come before each element of its layout, and after the last.

    The tokenizer's leading ids are counted, its trailing ones are not.
    """
    content = _content(rows, tokenizer)
    texts = iter((content.ends - content.starts).tolist())
    ends = []
    for row in rows:
        sizes = [
            next(texts) if isinstance(element, Piece) else len(_constant(element, tokenizer))
            for element in row.layout.elements
        ]
        ends.append(np.cumsum([len(tokenizer.prefix_ids), *sizes]))
    return ends


_NONE = np.zeros(0, np.int64)


def _ends(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 and the running sums."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _spread(parts: Sequence[NDArray[Any]], kinds: NDArray[np.int64]) -> NDArray[Any]:
    """Return `parts[kind]` of each of `kinds`, one after the other."""
    sizes = np.array([len(part) for part in parts], np.int64)
    counts = sizes[kinds]
    shift = _ends(sizes)[kinds] - _ends(counts)[:-1]
    spread: NDArray[Any] = np.concatenate(parts)[np.arange(counts.sum()) + np.repeat(shift, counts)]
    return spread


class _Pieces:
    """The pieces of all rows in order: what of each is learnt; `counts` are those of each row."""

    def __init__(self, frames: Sequence[_Frame], kinds: NDArray[np.int64]) -> None:
        self.counts = np.array([len(frame.supervised) for frame in frames], np.int64)[kinds]
        self.supervised = _spread([frame.supervised for frame in frames], kinds)
        self.header_bytes = _spread([frame.header_bytes for frame in frames], kinds)
        self.header_characters = _spread([frame.header_characters for frame in frames], kinds)


def _frames(layouts: list[Layout], tokenizer: Tokenizer) -> tuple[list[_Frame], NDArray[np.int64]]:
    """Return the frames of all layouts, and which one each row has."""
    numbers = {layout: i for i, layout in enumerate(dict.fromkeys(layouts))}
    kinds = np.fromiter(map(numbers.__getitem__, layouts), np.int64, len(layouts))
    return [_frame(layout, tokenizer) for layout in numbers], kinds


def _runs(
    frames: Sequence[_Frame], kinds: NDArray[np.int64], content: _Content, constants: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of constants or text starts, in all constants and then all texts; its size."""
    tables, shift = [], 0
    for frame in frames:
        table = np.full((2 * len(frame.sizes) - 1, 2), -1)
        table[::2, 0] = shift + _ends(frame.sizes)[:-1]
        table[::2, 1] = frame.sizes
        tables.append(table)
        shift += len(frame.ids)
    starts, sizes = _spread(tables, kinds).T.copy()
    text = sizes < 0
    starts[text] = constants + content.starts
    sizes[text] = content.ends - content.starts
    return starts, sizes


def _frame(layout: Layout, tokenizer: Tokenizer) -> _Frame:
    """Return a layout's frame, made once: the tokenizer keeps it, and takes it along when it goes."""
    if layout not in tokenizer.frames:
        if len(tokenizer.frames) >= _MOST_FRAMES:
            tokenizer.frames.clear()
        tokenizer.frames[layout] = _made_frame(layout, tokenizer)
    frame: _Frame = tokenizer.frames[layout]
    return frame


def _made_frame(layout: Layout, tokenizer: Tokenizer) -> _Frame:
    """Return a layout's frame, with the ids that the tokenizer itself puts around it."""
    constants = [(number, False) for number in tokenizer.prefix_ids]
    before = []
    for element in layout.elements:
        if isinstance(element, Piece):
            before.append(len(constants))
        else:
            constants += [(number, element.supervised) for number in _constant(element, tokenizer)]
    if layout.closed:
        constants += [(number, False) for number in tokenizer.suffix_ids]
    headers = [piece.header for piece in layout.pieces]
    return _Frame(
        ids=np.array([number for number, _ in constants], np.int32),
        mask=np.array([supervised for _, supervised in constants], np.bool_),
        sizes=np.diff([0, *before, len(constants)]),
        supervised=np.array([piece.supervised for piece in layout.pieces], np.bool_),
        header_bytes=np.array([tokenizer.header_bytes(header) for header in headers], np.int64),
        header_characters=np.array([len(header) for header in headers], np.int64),
    )


def _constant(element: Control | Fixed, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of an element that holds no text of a record."""
    if isinstance(element, Control):
        return [tokenizer.control_ids[element.token]]
    return _fixed_ids(element.text, tokenizer)


def _fixed_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Encode text that the template itself puts between control tokens: once, whatever the number of rows."""
    ids, _ = tokenizer.encode_flat([text])
    found = ids[tokenizer.reserved[ids]]
    if len(found):
        token = tokenizer.plain.id_to_token(int(found[0]))
        raise YayiError(
            f"the template {one_line(tokenizer.template.name)}: its own text {one_line(text[:80])} would "
            f"become the control token {token}, which this vocabulary spells itself; change that text"
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


def _learnt(
    pieces: _Pieces, content: _Content, tokenizer: Tokenizer
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which content ids are learnt, and which pieces hold a token that straddles a header's end."""
    plain = content.ends - content.starts
    straddles = np.zeros(len(plain), np.bool_)
    learnt = np.flatnonzero(pieces.supervised)
    plain[learnt], straddles[learnt] = _header_tokens(pieces, learnt, content, tokenizer)
    runs = np.stack([plain, content.ends - content.starts - plain], axis=1).ravel()
    return np.repeat(np.tile([False, True], len(plain)), runs), straddles


def _header_tokens(
    pieces: _Pieces, learnt: NDArray[np.int64], content: _Content, tokenizer: Tokenizer
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return how many tokens of each learnt piece lie within its header, and whether one straddles its end.

    Since no token is empty, they are among the first few, as many as the header has bytes. Where the length
    of one of these is unknown, the reference's offsets decide.
    """
    header = pieces.header_bytes[learnt, None]
    window = content.starts[learnt, None] + np.arange(header.max(initial=0) + 1)
    inside = window < content.ends[learnt, None]
    sizes = np.full(window.shape, _FAR)
    sizes[inside] = tokenizer.token_bytes[content.ids[window[inside]]]
    byte_ends = np.cumsum(sizes, axis=1)
    counts: NDArray[np.int64] = (byte_ends <= header).sum(axis=1)
    straddles: NDArray[np.bool_] = (inside & (byte_ends > header) & (byte_ends - sizes < header)).any(axis=1)
    untold = ((byte_ends <= header) & (sizes == 0)).any(axis=1) | (header[:, 0] < 0)
    for i in np.flatnonzero(untold):
        spans = tokenizer.spans(content.texts[learnt[i]])
        border = pieces.header_characters[learnt[i]]
        counts[i] = sum(end <= border for _, end in spans)
        straddles[i] = any(start < border < end for start, end in spans)
    return counts, straddles
