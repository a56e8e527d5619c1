"""Where partitions run: in this process or a local pool; who runs them leaves no trace in the output."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from yayi_data.errors import YayiError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Yield `work(job)` for each job in the order of `jobs`, over `workers` processes.

    `work` and the jobs are pickled to spawned processes when there is more than one. The first failure, in
    the order of the jobs, is raised; the jobs not yet begun are then dropped.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        for future in [pool.submit(work, job) for job in jobs]:
            yield future.result()
    except BrokenProcessPool as error:
        raise YayiError(
            "a worker process was killed, as happens when memory runs out; "
            "run the same command again, with fewer --workers, to continue where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
