from collections import Counter

import pytest

from yayi_data.histogram import fill


def counts_of(lengths: Counter[int]) -> list[int]:
    return [lengths[length] for length in range(max(lengths) + 1)]


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        (Counter({10: 3}), 3),
        (Counter({5: 6}), 3),
        (Counter({7: 4, 3: 4}), 4),
        (Counter({7: 4, 2: 4, 1: 4}), 4),
        (Counter({6: 2, 5: 1, 4: 1, 1: 2}), 3),
        (Counter({1: 1}), 1),
    ],
)
def test_patterns_use_up_every_length_in_as_few_rows_as_can_be(lengths: Counter[int], rows: int) -> None:
    patterns = fill(counts_of(lengths), 10, list(lengths))
    placed: Counter[int] = Counter()
    for row, times in patterns:
        assert sum(row) <= 10
        placed.update({length: n * times for length, n in Counter(row).items()})
    assert placed == lengths
    assert sum(times for _, times in patterns) == rows


def test_equal_lengths_take_few_patterns_however_many_there_are() -> None:
    patterns = fill(counts_of(Counter({3: 3_000_000})), 10, [3])
    assert sum(times for _, times in patterns) == 1_000_000
    assert len(patterns) < 100


def test_other_draws_make_other_rows() -> None:
    lengths = counts_of(Counter(dict.fromkeys(range(1, 40), 5)))
    first, second = (fill(lengths, 100, draws) for draws in ([3, 30, 17], [25, 8, 39]))
    assert {tuple(sorted(row)) for row, _ in first} != {tuple(sorted(row)) for row, _ in second}
