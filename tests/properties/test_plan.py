import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from yayi_data.plan import Plan, count_rows, pack, repeat, shuffled, split, unpacked

seeds = st.integers(-(2**70), 2**70)
epochs = st.integers(0, 1000)


@st.composite
def lengths_and_row(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Lengths of many shapes (few values, many, near the row's length) and a row they fit."""
    seq_len = draw(st.integers(1, 300))
    values = draw(st.lists(st.integers(1, seq_len), min_size=1, max_size=12))
    free = st.integers(1, seq_len)
    chosen = draw(st.lists(st.one_of(st.sampled_from(values), free), max_size=200))
    return np.array(chosen, np.int32), seq_len


def rows_of(plan: Plan) -> list[list[int]]:
    return [plan.row(i).tolist() for i in range(len(plan))]


@given(lengths_and_row(), seeds, epochs)
def test_every_example_is_in_exactly_one_row_that_it_fits(
    made: tuple[np.ndarray, int], seed: int, epoch: int
) -> None:
    lengths, seq_len = made
    rows = rows_of(pack(lengths, seq_len, seed, epoch))
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(row and lengths[row].sum() <= seq_len for row in rows)


@given(lengths_and_row(), seeds, epochs)
def test_no_two_rows_could_be_one_when_all_lengths_are_equal(
    made: tuple[np.ndarray, int], seed: int, epoch: int
) -> None:
    lengths, seq_len = made
    equal = np.full(len(lengths), lengths[0] if len(lengths) else 1)
    plan = pack(equal, seq_len, seed, epoch)
    per_row = seq_len // int(equal[0]) if len(equal) else 1
    assert len(plan) == math.ceil(len(equal) / per_row)


@given(lengths_and_row(), seeds, epochs)
def test_at_most_one_row_is_no_more_than_half_full(
    made: tuple[np.ndarray, int], seed: int, epoch: int
) -> None:
    lengths, seq_len = made
    rows = rows_of(pack(lengths, seq_len, seed, epoch))
    assert sum(2 * lengths[row].sum() <= seq_len for row in rows) <= 1


@given(lengths_and_row(), seeds, epochs)
def test_a_plan_is_a_function_of_its_arguments(made: tuple[np.ndarray, int], seed: int, epoch: int) -> None:
    lengths, seq_len = made
    first = pack(lengths, seq_len, seed, epoch)
    second = pack(lengths.astype(np.int64), seq_len, seed, epoch)
    assert first.offsets.tolist() == second.offsets.tolist()
    assert first.examples.tolist() == second.examples.tolist()
    assert count_rows(lengths, seq_len, seed, epoch) == len(first)


@given(lengths_and_row(), st.integers(1, 50), seeds, epochs)
def test_unpacked_batches_hold_every_example_once(
    made: tuple[np.ndarray, int], size: int, seed: int, epoch: int
) -> None:
    lengths, _ = made
    rows = rows_of(unpacked(lengths, size, seed, epoch))
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert sum(len(row) != size for row in rows) <= 1
    assert all(0 < len(row) <= size for row in rows)


@given(st.integers(0, 500), st.integers(0, 2**64 - 1))
def test_shuffling_is_a_permutation(n: int, key: int) -> None:
    assert sorted(shuffled(n, key).tolist()) == list(range(n))


@st.composite
def hashes_and_size(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Hashes with equal ones among them, and a size for the test side."""
    values = draw(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=80, unique=True))
    repeated = draw(st.lists(st.sampled_from(values), max_size=80))
    return np.array(draw(st.permutations(values + repeated)), np.uint64), draw(
        st.integers(1, len(values) - 1)
    )


@given(hashes_and_size(), seeds)
def test_a_split_keeps_equal_contents_on_one_side(made: tuple[np.ndarray, int], seed: int) -> None:
    hashes, size = made
    if min(Counter(hashes.tolist()).values()) > size:
        return
    train, test = split(hashes, size, seed)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(hashes)))
    assert not set(hashes[train].tolist()) & set(hashes[test].tolist())
    assert 0 < len(test) <= size
    missing = size - len(test)
    assert not missing or min(Counter(hashes[train].tolist()).values()) > missing


@given(hashes_and_size(), seeds, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_contents(
    made: tuple[np.ndarray, int], seed: int, random: object
) -> None:
    hashes, size = made
    if min(Counter(hashes.tolist()).values()) > size:
        return
    shuffled_hashes = hashes.copy()
    random.shuffle(shuffled_hashes)  # type: ignore[attr-defined]
    sides = [set(h[split(h, size, seed)[1]].tolist()) for h in (hashes, shuffled_hashes)]
    assert sides[0] == sides[1]


weights = st.lists(st.one_of(st.sampled_from([0, 1, 2, 0.5]), st.floats(0, 4)), min_size=1, max_size=4)


@given(weights, st.lists(st.integers(0, 3), max_size=60), seeds, st.integers(0, 50), st.integers(1, 6))
def test_over_epochs_every_example_comes_as_often_as_its_weight_says(
    made: list[float], codes: list[int], seed: int, first: int, epochs: int
) -> None:
    domain = np.array(codes, np.int32) % len(made)
    times = np.zeros(len(domain), int)
    for epoch in range(first, first + epochs):
        chosen = repeat(domain, made, seed, epoch)
        assert (np.diff(chosen) >= 0).all()
        times += np.bincount(chosen, minlength=len(domain))
    for code, weight in enumerate(made):
        expected = epochs * round(weight * 1_000_000) / 1_000_000
        assert all(abs(t - expected) < 1 for t in times[domain == code])
        assert abs(times[domain == code].sum() - expected * (domain == code).sum()) < 1
