import os
import signal
from functools import partial

import pytest

from yayi_data.errors import DataError, YayiError
from yayi_data.runner import run


def power(exponent: int, number: int) -> int:
    if number < 0:
        raise DataError(f"{number} is negative")
    return int(number**exponent)


def die(exponent: int, number: int) -> int:
    os._exit(1)


def interrupts_are_blocked(exponent: int, number: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


two = partial(int, "2")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    assert list(run(power, [3, 1, 2], workers, two)) == [9, 1, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_failure_in_the_order_of_the_jobs_is_raised(workers: int) -> None:
    results = run(power, [1, -2, -3], workers, two)
    assert next(results) == 1
    with pytest.raises(DataError, match="-2 is negative"):
        next(results)


def test_a_killed_worker_is_told_with_the_next_step() -> None:
    with pytest.raises(YayiError, match="run the same command again"):
        list(run(die, [1, 2], 2, two))


def test_an_interrupt_is_for_the_parent_alone() -> None:
    assert list(run(interrupts_are_blocked, [1, 2], 2, two)) == [True, True]
    assert not interrupts_are_blocked(0, 0)
