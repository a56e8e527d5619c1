"""Rows of documents -> tensors: ids, positions, shifted labels, and whose document each position is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = -100
"""The label of a position that predicts nothing; what torch's cross entropy ignores."""


class Document(NamedTuple):
    """One conversation: its ids, its loss mask (True = supervised) and the number of its domain."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    domain: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows, all of one length; padding at a row's end counts as a document of its own.

    `labels[r, t]` is the token that position t must predict, already shifted, so nothing is shifted again;
    IGNORE where that token is unsupervised, at a document's last position and on padding. `segments` numbers
    the documents of a row, -1 on padding. `bounds` and `longest` describe the documents and paddings of all
    rows laid end to end: where each begins, then where the last one ends; the length of the longest.
    """

    input_ids: Tensor  # (rows, length) int64
    position_ids: Tensor  # (rows, length) int64, from 0 in every document
    labels: Tensor  # (rows, length) int64
    segments: Tensor  # (rows, length) int32
    domains: Tensor  # (rows, length) int32, -1 on padding
    bounds: Tensor  # (documents and paddings + 1,) int32
    longest: int

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch with every tensor on `device`."""
        names = ("input_ids", "position_ids", "labels", "segments", "domains", "bounds")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def count_supervised(mask: NDArray[np.bool_]) -> int:
    """Return how many labels a document's mask gives: nothing predicts a first token, so it never counts.

    Every loss denominator is the sum of this over the documents of a global batch.
    """
    return int(np.count_nonzero(mask[1:]))


def make_batch(rows: Sequence[Sequence[Document]], length: int | None, pad_id: int) -> Batch:
    """Lay each row's documents end to end and pad on the right to `length`, or to the longest row where None.

    A row longer than `length` is the caller's mistake: ValueError.
    """
    sizes = [sum(len(document.ids) for document in row) for row in rows]
    length = max(sizes) if length is None else length
    if max(sizes) > length:
        raise ValueError(f"a row of {max(sizes)} tokens does not fit into {length}")
    shape = (len(rows), length)
    ids = np.full(shape, pad_id, np.int64)
    positions = np.zeros(shape, np.int64)
    labels = np.full(shape, IGNORE, np.int64)
    segments = np.full(shape, -1, np.int32)
    domains = np.full(shape, -1, np.int32)
    lengths: list[int] = []
    for r, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row):
            end = start + len(document.ids)
            ids[r, start:end] = document.ids
            positions[r, start:end] = np.arange(end - start)
            labels[r, start : end - 1] = np.where(document.mask[1:], document.ids[1:], IGNORE)
            segments[r, start:end] = number
            domains[r, start:end] = document.domain
            lengths.append(end - start)
            start = end
        if start < length:
            positions[r, start:] = np.arange(length - start)
            lengths.append(length - start)
    bounds = torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)
    ids_, positions_, labels_, segments_, domains_ = map(
        torch.from_numpy, (ids, positions, labels, segments, domains)
    )
    return Batch(ids_, positions_, labels_, segments_, domains_, bounds, max(lengths))
