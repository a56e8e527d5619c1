"""The processes of a run: who this one is, from the launcher's environment alone, without torch."""

import contextlib
import io
import os
import socket

from yayi_data.console import one_line
from yayi_data.errors import YayiError


def rank() -> int:
    """Return this process's number among all, 0 without a launcher."""
    return _number("RANK", 0)


def local_rank() -> int:
    """Return this process's number on its node."""
    return _number("LOCAL_RANK", 0)


def world_size() -> int:
    """Return the number of processes of the run."""
    return _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal():
        raise YayiError(f"{name} is {one_line(value)!r} in the environment; expected a number, or unset it")
    return int(value)


def first_alone_talks() -> contextlib.AbstractContextManager[object]:
    """Return a context in which what every rank would say the same is heard from rank 0 alone."""
    return contextlib.nullcontext() if rank() == 0 else contextlib.redirect_stderr(io.StringIO())


def complete_environment() -> None:
    """Set what a launcher would have set, for a single process started without one."""
    if _numbered():
        return
    refuse_unnumbered()
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(alone, MASTER_PORT=str(_free_port()))


def _numbered() -> bool:
    return "RANK" in os.environ and "MASTER_ADDR" in os.environ


def refuse_unnumbered() -> None:
    """Raise YayiError for one of several processes that nobody gave a rank: each would train alone."""
    if _numbered():
        return
    for name in ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        if _number(name, 1) > 1:
            raise YayiError(
                f"{name} is {os.environ[name]}, but RANK or MASTER_ADDR is not set, so each process would "
                "train alone; start one task a node with `deepspeed --module yayi_train`, or set RANK, "
                f"LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each (one alone: unset {name})"
            )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
