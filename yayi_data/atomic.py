"""Files that appear under their name only when they are whole and on the disk."""

import errno
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from yayi_data.errors import YayiError

TEMPORARY = ".tmp"
"""How the name of a file ends while it is being written; a killed process leaves such files behind."""


class AtomicFile(io.RawIOBase):
    """A binary file that is renamed to `path` when its `with` block ends well, and removed when it does not.

    `bytes` and `sha256` tell what was written, without reading it again. The temporary name is this writer's
    own, so two processes that write the same file do not disturb each other. The content is on the disk
    before the name is, unless the file is not `lasting`: one that may be lost with the machine's power, since
    whoever reads it checks its hash. `fsync_path` makes the name last. What is there already and is no file
    (a pipe, /dev/null) is written to as it is. A full disk, a missing folder or a read-only one raises
    YayiError.
    """

    def __init__(self, path: Path, *, lasting: bool = True) -> None:
        self.path = path
        self.lasting = lasting
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._direct = path.exists() and not path.is_file()
        unique = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
        self._temporary = path if self._direct else unique

    @property
    def sha256(self) -> str:
        """The hash of what has been written so far, in hex."""
        return self._sha256.hexdigest()

    def __enter__(self) -> Self:
        with writing(self.path):
            self._file = self._temporary.open("wb" if self._direct else "xb")
        return self

    def writable(self) -> bool:
        """Say yes, as writers to a file object ask."""
        return True

    def write(self, data: Any) -> int:
        """Append `data` (bytes or any buffer) and return its length in bytes."""
        with writing(self.path):
            self._file.write(data)
        self._sha256.update(data)
        length = memoryview(data).nbytes
        self.bytes += length
        return length

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.path), self._file:
                if kind is None and not self._direct:
                    self._file.flush()
                    if self.lasting:
                        os.fsync(self._file.fileno())
                    self._temporary.replace(self.path)
        finally:
            if not self._direct:
                self._temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write `data` to `path`: afterwards the whole of it is on the disk under that name, or nothing is."""
    with AtomicFile(path, lasting=lasting) as file:
        file.write(data)
    if lasting:
        fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or the names in a folder (new files, renames), survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a full disk, a read-only folder and the like as one sentence (YayiError) that names `path`."""
    try:
        yield
    except OSError as error:
        step = _STEPS.get(error.errno or 0, "free some space or choose another output")
        raise YayiError(
            f"{path}: cannot be written: {error.strerror}; {step}, then run the same command again"
        ) from error


_NOT_ALLOWED = "make its folder writable or choose another output"
_STEPS = {
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "name a folder, not a file, before its last /",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: "choose an output that is not on a read-only filesystem",
}
"""What helps against an error of the system; against any other, space."""
