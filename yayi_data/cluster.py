"""Partitions as tasks of a Ray cluster; imported only where `--runner ray` asks for it.

Every node has to see the files under the same paths. A task whose worker or node dies is sent out again here,
not by Ray, so that one that runs out of memory every time ends the run instead of going round for ever.
"""

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from yayi_data import __version__
from yayi_data.errors import DataError, YayiError

Tools = TypeVar("Tools")
Job = TypeVar("Job")
Result = TypeVar("Result")

_ATTEMPTS = 5
_CPUS = 2.0  # a task reads on one core and tokenizes on another
_PATIENCE = 5.0  # seconds: for a cluster's address to answer, and between looks at its nodes
_FAREWELL = 20.0  # seconds for tasks that were cancelled to end


class _Work(NamedTuple):
    """What a worker process is begun with; `run` tells one run's tools from another's."""

    run: str
    version: str
    work: Callable[[Any, Any], Any]
    load: Callable[[], Any]


def run_on_ray(
    work: Callable[[Tools, Job], Result],
    jobs: Sequence[Job],
    at_once: int | None,
    load: Callable[[], Tools],
    address: str | None,
) -> Iterator[Result]:
    """Yield `work(tools, job)` for each job in the order of `jobs`, `at_once` of them running at a time.

    `address` is HOST:PORT of a cluster's head; None takes RAY_ADDRESS, or starts Ray here. `at_once` None is
    what the cluster's CPUs allow. A YayiError of a job is raised as itself, the first in the order of the
    jobs; a job whose worker or node died is begun again.
    """
    with _connected(address) as ray:
        cpus, room = _room(ray)
        task = ray.remote(_attempt).options(num_cpus=cpus, max_retries=0)
        begun = _Work(secrets.token_hex(8), __version__, work, load)
        yield from _in_order(ray, lambda job: task.remote(begun, job), jobs, at_once or room, cpus)


def _in_order(
    ray: Any, send: Callable[[Any], Any], jobs: Sequence[Any], at_once: int, cpus: float
) -> Iterator[Any]:
    """Keep `at_once` tasks of `cpus` each running, and yield their results in the order of the jobs."""
    waiting = iter(range(len(jobs)))
    running: dict[Any, int] = {}
    deaths = [0] * len(jobs)
    results: dict[int, Any] = {}
    wanted = 0
    try:
        while wanted < len(jobs):
            while len(running) < at_once and (number := next(waiting, None)) is not None:
                running[send(jobs[number])] = number
            done, _ = ray.wait(list(running), timeout=_PATIENCE)
            if not done and _room(ray)[0] < cpus:
                raise YayiError(f"--runner ray: no node has the {cpus:.0f} CPUs left that a task was given")
            for task in done:
                number = running.pop(task)
                try:
                    results[number] = ray.get(task)
                except ray.exceptions.RayTaskError as error:
                    results[number] = _cause(error)
                except ray.exceptions.RayError as error:
                    deaths[number] += 1
                    _refuse_mortal(deaths[number], error)
                    running[send(jobs[number])] = number
                if isinstance(results.get(number), Exception):
                    waiting = iter(range(0))  # the run ends with it, or with one before it
            while wanted in results:
                yield _opened(results.pop(wanted))
                wanted += 1
    finally:
        _cancel(ray, list(running))


def _cause(error: Any) -> Exception:
    """Return what a task raised, as it was raised there."""
    if isinstance(error.cause, ImportError):
        return YayiError(
            f"--runner ray: a node lacks a package: {error.cause}; install the same on all nodes"
        )
    return error.cause or error  # type: ignore[no-any-return]


def _opened(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def _refuse_mortal(deaths: int, error: Exception) -> None:
    """Raise where a job has lost its worker or its node too often."""
    if deaths >= _ATTEMPTS:
        raise YayiError(
            f"a partition lost its Ray worker {deaths} times ({type(error).__name__}), as happens when "
            "memory runs out; run the same command again, with fewer --workers, to continue where it stopped"
        ) from error


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """End the tasks that are still running, and wait for that: they write into a folder we may remove."""
    for task in tasks:
        ray.cancel(task, force=True)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=_FAREWELL)


# The cluster


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Yield the module `ray`, connected; the connection ends with the block unless the caller had made it."""
    place = refuse_unusable(address)
    _quieten(place)
    import ray

    if ray.is_initialized():
        yield ray
        return
    # Ray prints what happens to its nodes to stdout, where only our data may go
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        _connect(ray, place)
        try:
            yield ray
        finally:
            ray.shutdown()


def refuse_unusable(address: str | None) -> str:
    """Return where Ray is to run; YayiError where it is not installed or nothing answers there."""
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    _refuse_silent(place)
    if find_spec("ray") is None:
        raise YayiError(
            "--runner ray: Ray is not installed; pip install 'yayi-tune[ray]', or leave --runner out"
        )
    return place


def _refuse_silent(place: str) -> None:
    """Raise where nothing answers at HOST:PORT: Ray itself would try for minutes, loudly."""
    if place in ("local", "auto"):
        return
    host, _, port = place.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise YayiError(f"--runner ray: {place}: expected HOST:PORT of the cluster's head, as head:6379")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise YayiError(
            f"--runner ray: no Ray cluster answers at {place} ({error}); `ray start --head` starts one"
        ) from None


def _quieten(place: str) -> None:
    """Set what Ray reads when it is imported: no notice, and one attempt to reach a cluster, of 40 s."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if place != "local":
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")


def _connect(ray: Any, place: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=place, log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise YayiError(f"--runner ray: {place}: Ray cannot be used: {reason}; see `ray status`") from error
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # which Ray takes over


def _room(ray: Any) -> tuple[float, int]:
    """Return the CPUs that a task takes, and how many tasks the cluster's nodes have room for."""
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    cpus = min(_CPUS, max(nodes, default=0.0))
    if cpus < 1:
        raise YayiError("--runner ray: the cluster has no node with a CPU left; see `ray status`")
    return cpus, sum(int(node // cpus) for node in nodes)


def _refuse_version(driver: str) -> None:
    if driver != __version__:
        raise YayiError(f"this node has yayi-data {__version__}, the driver {driver}; install the same one")


# In a worker process

_worker: dict[str, Any] = {}
"""The tools of the run this process works for, which it loads once."""


def _attempt(begun: _Work, job: Any) -> Any:
    """Do one job; a YayiError comes back as a value, so that Ray wraps nothing around it."""
    try:
        if _worker.get("run") != begun.run:
            _refuse_version(begun.version)
            _worker.update(run=begun.run, tools=begun.load())
        return begun.work(_worker["tools"], job)
    except DataError as error:
        return error
    except YayiError as error:  # of the node: a file that it does not see, a full disk
        return YayiError(f"{error} (on the Ray node {socket.gethostname()}, which must see the same files)")
