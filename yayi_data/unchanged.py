"""Inputs that change while a run reads them: their sizes and times are compared, before and after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from yayi_data.errors import DataError
from yayi_data.read import Source

Stamps = dict[str, tuple[int, int] | None]
"""The size and the time of change of each file, by its path."""


class ChangedError(DataError):
    """An input is not what it was when the run began."""

    @classmethod
    def of(cls, path: str) -> "ChangedError":
        """Return the error that names an input."""
        return cls(f"{path}: changed while it was read; run the same command again")


def stamps_of(sources: Sequence[Source]) -> Stamps:
    """Return what tells a change of those sources that are files here, before they are read."""
    return {source.path: _stamp(source.path) for source in sources if source.size is not None}


@contextmanager
def unchanged(stamps: Stamps) -> Iterator[None]:
    """Raise ChangedError at the end where a file changed; also in place of what that made of the data."""
    try:
        yield
    except DataError:
        _compare(stamps)
        raise
    _compare(stamps)


def _compare(stamps: Stamps) -> None:
    for path, stamp in stamps.items():
        if _stamp(path) != stamp:
            raise ChangedError.of(path)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
