import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest

from yayi_data.errors import YayiError
from yayi_data.plan import ORDER_VERSION, hashed, mix_weights, pack, repeat, shuffled, split, unpacked

SHARED = Path(os.environ.get("YAYI_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared"))


def conversations(n: int = 20_000) -> np.ndarray:
    """Lengths as chat data has them: most are short, a few fill a row."""
    lengths = np.random.default_rng(0).lognormal(4.8, 0.8, n)
    return np.clip(lengths, 10, 2048).astype(np.int32)


def filled(lengths: np.ndarray, rows: int, seq_len: int) -> float:
    return lengths.sum() / (rows * seq_len)


@pytest.mark.parametrize("seq_len", [2048, 2500, 4096, 32768])
def test_rows_of_conversations_are_filled(seq_len: int) -> None:
    lengths = conversations()
    best = math.ceil(lengths.sum() / seq_len)
    assert len(pack(lengths, seq_len, 515, 0)) <= best * 1.003 + 1


@pytest.mark.parametrize(
    ("lengths", "rows", "what"),
    [
        (np.full(1000, 600), 334, "three of 600 in a row"),
        (np.full(1000, 1025), 1000, "all longer than half a row"),
        (np.arange(1, 2048).repeat(20), 20 * 1023 + 10, "every length with its complement"),
        (np.array([2048]), 1, "exactly a row"),
        (np.array([1]), 1, "one token"),
        (np.array([1024, 1024]), 1, "two halves"),
        (np.array([1024, 1023, 1]), 1, "a half that is there once"),
        (np.array([100] * 19 + [148]), 1, "one row of many"),
    ],
)
def test_rows_of_odd_lengths_are_as_few_as_can_be(lengths: np.ndarray, rows: int, what: str) -> None:
    assert len(pack(lengths, 2048, 0, 0)) == rows, what


def test_lengths_that_hardly_add_up_are_no_worse_than_best_fit() -> None:
    lengths = np.random.default_rng(0).integers(600, 800, 3000)
    assert filled(lengths, len(pack(lengths, 2048, 0, 0)), 2048) > 0.866  # best-fit decreasing: 0.865


def test_real_conversations_fill_at_least_995_of_1000_slots() -> None:
    tokenizer = SHARED / "tokenizers" / "qwen3" / "tokenizer.json"
    corpus = SHARED / "corpus" / "sft50k.jsonl"
    if not (tokenizer.exists() and corpus.exists()):
        pytest.skip(f"the benchmark corpus is not in {SHARED}")
    from fastokens import Tokenizer

    texts = corpus.read_text(encoding="utf-8").splitlines()  # its JSON punctuation stands in for the template
    _, offsets = Tokenizer.from_file(str(tokenizer)).encode_batch_flat(texts)
    lengths = np.diff(np.frombuffer(offsets, np.uint64).astype(np.int64))
    lengths = lengths[lengths <= 2048]
    assert len(lengths) > 49_000
    assert filled(lengths, len(pack(lengths, 2048, 515, 0)), 2048) >= 0.995


def test_companions_are_new_every_epoch() -> None:
    lengths = conversations(5000)

    def pairs(seed: int, epoch: int) -> set[tuple[int, int]]:
        plan = pack(lengths, 2048, seed, epoch)
        rows = (plan.row(i).tolist() for i in range(len(plan)))
        return {(min(a, b), max(a, b)) for row in rows for a in row for b in row if a != b}

    first = pairs(0, 0)
    for other in (pairs(0, 1), pairs(0, 2), pairs(1, 0)):
        assert len(first & other) < 0.05 * len(first)


def test_rows_are_in_random_order() -> None:
    lengths = conversations()
    plan = pack(lengths, 2048, 0, 0)
    sizes = np.diff(plan.offsets)
    halves = sizes[: len(sizes) // 2].mean(), sizes[len(sizes) // 2 :].mean()
    assert abs(halves[0] - halves[1]) < 0.1 * sizes.mean()


def test_no_examples_make_no_rows() -> None:
    empty = np.empty(0, np.int32)
    for plan in (pack(empty, 2048, 0, 0), unpacked(empty, 8, 0, 0)):
        assert (len(plan), len(plan.examples)) == (0, 0)


def test_longer_than_a_row_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        YayiError, match="--seq-len 8: 2 of 3 conversations are longer, up to 11 tokens; raise"
    ):
        pack(np.array([8, 9, 11]), 8, 0, 0)


def test_padding_of_length_grouped_batches_is_small() -> None:
    lengths = conversations()
    plan = unpacked(lengths, 8, 0, 0)
    padded = sum(int(lengths[plan.row(i)].max()) * len(plan.row(i)) for i in range(len(plan)))
    assert lengths.sum() / padded > 0.93
    assert np.array_equal(np.sort(plan.examples), np.arange(len(lengths)))


def test_length_grouped_batches_are_new_every_epoch_and_shuffled() -> None:
    lengths = conversations(5000)
    first, second = (unpacked(lengths, 8, 0, epoch) for epoch in (0, 1))
    same = {tuple(sorted(first.row(i))) for i in range(len(first))}
    assert not any(tuple(sorted(second.row(i))) in same for i in range(len(second)))
    means = [lengths[first.row(i)].mean() for i in range(len(first))]
    assert means != sorted(means)


def test_a_split_takes_a_count_or_a_share() -> None:
    hashes = hashed(1000, 7)
    for size, expected in ((400, 400), (0.1, 100), (0, 0), (0.0004, 0), (999, 999)):
        train, test = split(hashes, size, 515)
        assert (len(train), len(test)) == (1000 - expected, expected)


def test_a_split_differs_by_seed() -> None:
    hashes = hashed(1000, 7)
    tests = [set(split(hashes, 100, seed)[1].tolist()) for seed in (1, 2)]
    assert len(tests[0] & tests[1]) < 50


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (10, "--test-size 10: there are 10 conversations; ask for fewer than that"),
        (400, "--test-size 400: there are 10 conversations"),
        (-1, "--test-size -1: is neither a share below 1 nor a whole number"),
        (2.5, "--test-size 2.5: is neither"),
        (math.nan, "--test-size nan: is neither"),
        (math.inf, "--test-size inf: is neither"),
    ],
)
def test_a_test_size_that_cannot_be_is_refused(size: float, message: str) -> None:
    with pytest.raises(YayiError, match=message):
        split(hashed(10, 0), size, 0)


def test_equal_conversations_that_fill_no_test_side_are_refused() -> None:
    with pytest.raises(YayiError, match="each has at least 4 equals; ask for 5 or more"):
        split(np.repeat(hashed(2, 0), 5), 3, 0)


def test_a_mixture_repeats_drops_and_halves() -> None:
    domain = np.array([0, 1, 2, 3] * 10)
    chosen = repeat(domain, [1, 2, 0, 0.5], 0, 0)
    assert np.bincount(domain[chosen], minlength=4).tolist() == [10, 20, 0, 5]
    other = repeat(domain, [1, 2, 0, 0.5], 0, 1)
    halves = [set(c[domain[c] == 3].tolist()) for c in (chosen, other)]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(np.flatnonzero(domain == 3).tolist())


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf, 2_000_000])
def test_a_weight_that_cannot_be_is_refused(weight: float) -> None:
    with pytest.raises(YayiError, match="--mix: a weight is a number from 0 to 999,999, not "):
        repeat(np.array([0]), [weight], 0, 0)


def test_weights_by_name() -> None:
    assert mix_weights(["a", "b"], {"b": 0.5}) == [1, 0.5]
    with pytest.raises(YayiError, match="--mix: the data has no domain c; it has a, b"):
        mix_weights(["a", "b"], {"c": 2})


def test_the_hash_is_splitmix64() -> None:
    step = 0x9E3779B97F4A7C15
    stream = np.array([step, (2 * step) % 2**64, (3 * step) % 2**64], np.uint64)
    expected = [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]  # splitmix64 of seed 0, as published
    assert hashed(stream, 0).tolist() == expected
    assert hashed(3, 5).tolist() == hashed(np.array([5, 6, 7]), 0).tolist()


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in arrays)).hexdigest()[:16]


def test_the_order_of_version_1_is_fixed() -> None:
    """Runs resume and are traced by this order: whoever changes it raises ORDER_VERSION."""
    lengths = (hashed(3000, 1) % 700 + 1).astype(np.int32)
    packed, batches = pack(lengths, 2048, 515, 3), unpacked(lengths, 8, 515, 3)
    found = {
        "shuffled": shuffled(10, 1).tolist(),
        "pack": digest(packed.offsets, packed.examples),
        "unpacked": digest(batches.offsets, batches.examples),
        "split": digest(*split(hashed(3000, 2) % 2000, 400, 515)),
        "repeat": digest(repeat(lengths % 3, [1, 2, 0.3], 515, 3)),
    }
    assert ORDER_VERSION == 1
    assert found == {
        "shuffled": [9, 6, 2, 0, 8, 4, 3, 5, 7, 1],
        "pack": "39bb3746bdb79f83",
        "unpacked": "809a66b917978ad6",
        "split": "6d8c1322615090d2",
        "repeat": "cb6ade4c79e0e94b",
    }
