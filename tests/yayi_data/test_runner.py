import os

import pytest

from yayi_data.errors import YayiError
from yayi_data.runner import run


def square(number: int) -> int:
    return number * number


def die(number: int) -> int:
    os._exit(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    assert list(run(square, [3, 1, 2], workers)) == [9, 1, 4]


def test_a_killed_worker_is_told_with_the_next_step() -> None:
    with pytest.raises(YayiError, match="run the same command again"):
        list(run(die, [1, 2], 2))
