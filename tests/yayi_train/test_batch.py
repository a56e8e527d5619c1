"""Rows of documents as tensors: labels shifted inside each document, bounds that tell them apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yayi_train.batch import IGNORE, Document, count_supervised, make_batch


def document(ids, supervised, domain=0):
    mask = np.zeros(len(ids), np.bool_)
    mask[list(supervised)] = True
    return Document(np.array(ids, np.int32), mask, domain)


def test_a_row_of_two_documents_and_padding():
    batch = make_batch([[document([5, 6, 7], [1, 2]), document([8, 9], [1], domain=4)]], 7, pad_id=1)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch.labels.tolist() == [[6, 7, IGNORE, 9, IGNORE, IGNORE, IGNORE]]
    assert batch.segments.tolist() == [[0, 0, 0, 1, 1, -1, -1]]
    assert batch.domains.tolist() == [[0, 0, 0, 4, 4, -1, -1]]
    assert batch.bounds.tolist() == [0, 3, 5, 7]
    assert batch.longest == 3


def test_without_a_length_rows_are_as_long_as_the_longest():
    batch = make_batch([[document([5, 6, 7], [])], [document([8, 9], [])]], None, pad_id=0)
    assert batch.input_ids.shape == (2, 3)
    assert batch.bounds.tolist() == [0, 3, 5, 6]


def test_a_document_does_not_predict_the_next_ones_first_token():
    batch = make_batch([[document([5, 6], [0, 1]), document([7, 8], [0, 1])]], None, pad_id=0)
    assert batch.labels.tolist() == [[6, IGNORE, 8, IGNORE]]


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 tokens does not fit into 2"):
        make_batch([[document([5, 6, 7], [])]], 2, pad_id=0)


documents = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4)


@given(st.lists(documents, min_size=1, max_size=3))
def test_labels_are_as_many_as_the_denominator_counts(rows):
    laid = [[document(range(1, len(mask) + 1), np.flatnonzero(mask)) for mask in row] for row in rows]
    batch = make_batch(laid, None, pad_id=0)
    assert int((batch.labels != IGNORE).sum()) == sum(count_supervised(d.mask) for row in laid for d in row)


@given(st.lists(documents, min_size=1, max_size=3))
def test_bounds_are_where_positions_begin(rows):
    laid = [[document(range(1, len(mask) + 1), np.flatnonzero(mask)) for mask in row] for row in rows]
    batch = make_batch(laid, None, pad_id=0)
    assert batch.bounds.tolist()[:-1] == np.flatnonzero(batch.position_ids.numpy().ravel() == 0).tolist()
    assert batch.bounds[-1] == batch.input_ids.numel()
