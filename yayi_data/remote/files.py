"""Files that are elsewhere, through fsspec: one way to reach and to read them.

Retries are the backend's own (S3: AWS_MAX_ATTEMPTS and AWS_RETRY_MODE, 5 attempts unless they say otherwise;
s3fs asks again for a body that breaks off).
"""

import os
from functools import cache
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from yayi_data.remote.failures import codes, reaching
from yayi_data.remote.urls import is_s3, refuse_credentials

_BLOCK = 8 << 20  # bytes asked for at a time; s3fs would take 50 MB for every file that is looked at
_COPIED = 1 << 20


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL, and the URL's path in it; YayiError where it cannot be had."""
    refuse_credentials(url)
    import fsspec

    with reaching(url, "opened"):
        if is_s3(url) and "?versionId=" not in url:  # for which s3fs needs a client of another kind
            files = s3_client(os.getpid())
            return files, files._strip_protocol(url)
        found: tuple[Any, str] = fsspec.url_to_fs(url)
        return found


@cache
def s3_client(process: int) -> Any:
    """Return the one S3 filesystem of this process: fsspec would open connections for every thread anew."""
    import fsspec

    return fsspec.filesystem("s3")


class RemoteFile:
    """A URL opened for reading, of which every failure is a YayiError; `block` bytes are read ahead."""

    def __init__(self, url: str, block: int = _BLOCK) -> None:
        self._url = url
        files, path = filesystem(url)
        with reaching(url, "opened"):
            self._file = cast(BinaryIO, files.open(path, "rb", block_size=block))

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer than `size` only at the end."""
        with reaching(self._url, "read to its end"):
            return self._file.read(size)

    def readline(self) -> bytes:
        """Return the rest of the line."""
        with reaching(self._url, "read to its end"):
            return self._file.readline()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file."""
        with reaching(self._url, "read to its end"):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Tell whether `seek` works."""
        return self._file.seekable()

    def readable(self) -> bool:
        """Say yes, as readers of a file object ask."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def close(self) -> None:
        """Let the connection go."""
        with reaching(self._url, "closed"):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def exists(url: str) -> bool:
    """Tell whether there is a file at `url` now; YayiError where nobody can say."""
    files, path = filesystem(url)
    with reaching(url, "opened"):
        files.invalidate_cache()
        try:
            files.info(path)
        except FileNotFoundError as error:
            if "NoSuchBucket" in codes(error):
                raise
            return False
        return True


def copy(url: str, file: Any) -> None:
    """Write the bytes at `url` to an open file, a block at a time."""
    with RemoteFile(url) as source:
        while block := source.read(_COPIED):
            file.write(block)
