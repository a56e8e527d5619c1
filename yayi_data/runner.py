"""Where partitions run: this process, a local pool, or Ray; who runs them leaves no trace in the output."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from yayi_data.errors import YayiError

Tools = TypeVar("Tools")
Job = TypeVar("Job")
Result = TypeVar("Result")


class Ray(NamedTuple):
    """A Ray cluster: HOST:PORT of its head; None is RAY_ADDRESS, or one that is started here."""

    address: str | None = None


def refuse_unusable(ray: Ray) -> None:
    """Raise YayiError where Ray is not installed or does not answer: before hours of work, not after."""
    from yayi_data import cluster

    cluster.refuse_unusable(ray.address)


def run(
    work: Callable[[Tools, Job], Result],
    jobs: Sequence[Job],
    workers: int | None,
    load: Callable[[], Tools],
    ray: Ray | None = None,
) -> Iterator[Result]:
    """Yield `work(tools, job)` for each job in the order of `jobs`, over `workers` processes.

    `load` makes the tools, once in each process; with more than one worker, it, `work` and the jobs are
    pickled to spawned ones, or to the workers of a `ray` cluster (None: as many as its CPUs allow). The first
    failure in the order of the jobs is raised; jobs not yet begun are dropped.
    """
    if ray is not None:
        from yayi_data.cluster import run_on_ray

        yield from run_on_ray(work, jobs, workers, load, ray.address)
    elif workers is None or workers <= 1:
        tools = load()
        yield from (work(tools, job) for job in jobs)
    else:
        yield from _in_processes(work, jobs, workers, load)


def _in_processes(
    work: Callable[[Tools, Job], Result], jobs: Sequence[Job], workers: int, load: Callable[[], Tools]
) -> Iterator[Result]:
    from concurrent.futures import ProcessPoolExecutor  # imports that one process has no use for
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    others = set(active_children())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (work, load))
    try:
        with _interrupts_put_off():
            futures = [pool.submit(_work, job) for job in jobs]
        for future in futures:
            yield future.result()
    except BrokenProcessPool as error:
        raise YayiError(
            "a worker process was killed, as happens when memory runs out; "
            "run the same command again, with fewer --workers, to continue where it stopped"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody waits for what is being worked on
        for worker in set(active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Put off what ends a run while processes start: in between it would cut short what they are sent.

    Blocking alone does not do it: another thread may take the signal, and Python then runs its handler in
    this one. The processes inherit the mask and never hear what a terminal tells all, Ctrl-C and that it is
    gone: this one ends them.
    """
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()  # no other sets handlers or runs them
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if in_main else []
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


_worker: dict[str, Any] = {}
"""What this worker process was begun with: it has no other way to keep tools from job to job."""


def _begin(work: Callable[[Any, Any], Any], load: Callable[[], Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.update(work=work, tools=load())


def _end_with_parent() -> None:
    """End this process when its parent is killed, lest it writes beside the next run."""
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Any) -> Any:
    return _worker["work"](_worker["tools"], job)
