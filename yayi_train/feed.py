"""Entries of the index -> the batch of a forward pass."""

from collections.abc import Sequence

import numpy as np
import torch

from yayi_data.errors import DataError
from yayi_train.batch import Batch, Document, count_supervised, make_batch
from yayi_train.data import Corpus, Entries, place_of

PAD_ID = 0
"""Any id will do: padding is a document of its own, and nothing is learnt from it."""

_NOTHING = Document(np.zeros(2, np.int32), np.zeros(2, np.bool_), 0)


def read_batch(corpus: Corpus, rows: Sequence[Entries], device: torch.device) -> Batch:
    """Read rows into a batch as long as its longest row.

    Without rows, an unsupervised one stands in: every rank must run every forward pass.
    """
    if rows:
        corpus.shards.fetch(np.unique(corpus.index.shard[np.concatenate(rows)]).tolist())
    documents = [[_document(corpus, int(entry)) for entry in row] for row in rows]
    return make_batch(documents or [[_NOTHING]], None, PAD_ID).to(device)


def _document(corpus: Corpus, entry: int) -> Document:
    index = corpus.index
    row = corpus.shards.row(int(index.shard[entry]), int(index.row[entry]))
    if count_supervised(row.mask) != index.supervised_tokens[entry]:
        place = place_of(corpus, entry)
        raise DataError(
            f"{corpus.folder}: the conversation of {place.path}:{place.line} supervises its first token, "
            "which nothing predicts; pack the data again with a template that begins with a role"
        )
    return Document(row.ids, row.mask, int(index.domain[entry]))
