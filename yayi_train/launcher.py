"""Whether the launcher of this process is still there, since DeepSpeed passes no signal on to its ranks.

`deepspeed` (the runner) starts deepspeed.launcher.launch, which starts the ranks. The runner dies of a
SIGTERM without a word to launch, and launch of a SIGKILL without one to the ranks.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psutil

_PR_SET_PDEATHSIG = 1


class Launcher(NamedTuple):
    """The process IDs of a rank's parent and of the parent's parent, the runner."""

    parent: int
    runner: int


def find_launcher() -> Launcher | None:
    """Return what started this process, None where that is not DeepSpeed's launcher."""
    parent = os.getppid()
    with contextlib.suppress(psutil.Error):
        started_by = psutil.Process(parent)
        if is_launcher(started_by.cmdline()):
            return Launcher(parent, started_by.ppid())
    return None


def is_launcher(command: Sequence[str]) -> bool:
    """Tell whether a command line is that of DeepSpeed's launcher on a node."""
    return any("deepspeed.launcher.launch" in word for word in command)


def has_gone(launcher: Launcher, parent_of: Callable[[int], int | None] | None = None) -> bool:
    """Tell whether the launcher or its runner has ended: orphans are given another parent.

    `parent_of` gives the parent of a process, None where there is no such process.
    """
    parent_of = parent_of or _parent_of
    return parent_of(os.getpid()) != launcher.parent or parent_of(launcher.parent) != launcher.runner


def _parent_of(process: int) -> int | None:
    try:
        parent: int = psutil.Process(process).ppid()
    except psutil.NoSuchProcess:
        return None
    return parent


def end_with_parent() -> None:
    """Have Linux send this process a SIGTERM when its parent ends, as amid a step nobody looks."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
