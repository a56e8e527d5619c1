"""A progress bar on stderr for what takes longer than two seconds, and only on a terminal."""

import time
from types import TracebackType
from typing import Any, Self

from yayi_data.console import on_terminal

_PATIENCE = 2.0  # seconds; what ends sooner needs no bar


class Progress:
    """Counts work done, of `total` units; shows a bar once the work has taken two seconds."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._started = time.monotonic()
        self._bar: Any = None

    def advance(self, amount: int) -> None:
        """Count `amount` more units as done."""
        self._done += amount
        if self._bar is None and on_terminal() and time.monotonic() - self._started > _PATIENCE:
            self._open()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._label, total=self._total)
        self._bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
