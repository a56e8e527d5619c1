import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import active_children

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
    return {signal.SIGINT, signal.SIGHUP} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])


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


def sleep(exponent: int, seconds: int) -> int:
    time.sleep(seconds)
    return seconds


def test_jobs_under_way_do_not_hold_up_who_stops() -> None:
    results = run(sleep, [0, 300, 300], 2, two)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined] # as Ctrl-C does
    assert not active_children()


class Interrupting(list[int]):
    """Jobs of which each, as it is taken, brings a signal that another thread than the main one receives."""

    def __init__(self, jobs: list[int], number: int) -> None:
        super().__init__(jobs)
        self.number, self.taken = number, 0
        self.end = threading.Event()
        self.other = threading.Thread(target=self.end.wait, daemon=True)
        self.other.start()

    def __iter__(self) -> Iterator[int]:
        assert self.other.ident is not None
        try:
            for job in super().__iter__():
                self.taken += 1
                signal.pthread_kill(self.other.ident, self.number)
                time.sleep(0.01)  # time for a handler to run
                yield job
        finally:
            self.end.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_waits_until_the_workers_have_started(number: int) -> None:
    jobs = Interrupting([1, 2], number)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run(power, jobs, 2, two))
        assert jobs.taken == 2
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
