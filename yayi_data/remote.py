"""Files that are elsewhere, through fsspec: one way to reach them, and one clear line when that fails.

Retries are the backend's own (S3: AWS_MAX_ATTEMPTS and AWS_RETRY_MODE, 5 attempts unless they say otherwise;
s3fs asks again for a body that breaks off). What a backend raises may repeat a URL with its secrets, so
neither its words nor its traceback are passed on.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast
from urllib.parse import SplitResult, urlsplit

from yayi_data.errors import YayiError

_BLOCK = 8 << 20  # bytes asked for at a time; s3fs would take 50 MB for every file that is looked at
_COPIED = 1 << 20
_S3 = ("s3", "s3a")
_CODE = re.compile(r"[A-Za-z0-9.]{1,60}")
_INSTALL = {
    "s3": 'pip install "yayi-tune[s3]"',
    "s3a": 'pip install "yayi-tune[s3]"',
    "hf": "pip install huggingface_hub",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
}

_REPEAT = "repeat the command"
_UNREACHABLE = "its server cannot be reached; check the network and AWS_ENDPOINT_URL"
_BROKEN_OFF = f"the connection broke off, also when it was tried again; {_REPEAT}"
_TOO_SLOW = f"the server did not answer in time; {_REPEAT}"
_NO_CREDENTIALS = (
    "there are no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
)
_KNOWN = {
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ClientConnectorError": _UNREACHABLE,
    "ClientConnectorDNSError": _UNREACHABLE,
    "ConnectionRefusedError": _UNREACHABLE,
    "ProxyConnectionError": _UNREACHABLE,
    "ClientPayloadError": _BROKEN_OFF,
    "IncompleteRead": _BROKEN_OFF,
    "IncompleteReadError": _BROKEN_OFF,
    "ConnectionClosedError": _BROKEN_OFF,
    "ConnectionResetError": _BROKEN_OFF,
    "ResponseStreamingError": _BROKEN_OFF,
    "ServerDisconnectedError": _BROKEN_OFF,
    "ClientOSError": _BROKEN_OFF,
    "ReadTimeoutError": _TOO_SLOW,
    "FSTimeoutError": _TOO_SLOW,
    "TimeoutError": _TOO_SLOW,
    "ServerTimeoutError": _TOO_SLOW,
    "NoCredentialsError": _NO_CREDENTIALS,
    "PartialCredentialsError": _NO_CREDENTIALS,
    "CredentialRetrievalError": _NO_CREDENTIALS,
    "ProfileNotFound": _NO_CREDENTIALS,
    "TokenRetrievalError": _NO_CREDENTIALS,
    "SSOTokenLoadError": _NO_CREDENTIALS,
    "UnauthorizedSSOTokenError": _NO_CREDENTIALS,
    "FileExpired": f"it was changed while it was read; {_REPEAT}",
}
"""What the exceptions of botocore, aiohttp and s3fs mean, by name, as none of them may be installed."""


class UnreachableError(YayiError):
    """The server of a URL did not answer; what was fetched from it before is as good as it was."""


def is_url(place: str) -> bool:
    """Tell whether a path is a URL rather than a local file."""
    return "://" in place


def is_s3(place: str) -> bool:
    """Tell whether a path is a URL of S3-compatible storage."""
    return split_url(place).scheme in _S3 if is_url(place) else False


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; YayiError, which does not repeat it, for what is none."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise YayiError(f"a URL that was given is malformed ({error})") from None


def bare(url: str) -> str:
    """Return a URL without user, password, query and fragment, where secrets live; a path as it is."""
    if not is_url(url):
        return url
    chained = url.rpartition("::")[2]  # as in simplecache::https://…
    parts = split_url(chained if is_url(chained) else url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def local_path(place: str) -> Path:
    """Return an output's path; YayiError for a URL, where only `pack` writes."""
    if is_url(place):
        raise YayiError(f"{bare(place)}: only pack writes to a URL; give a local path and copy it afterwards")
    return Path(place)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL, and the URL's path in it; YayiError where it cannot be had."""
    _refuse_credentials(url)
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


def _refuse_credentials(url: str) -> None:
    if is_s3(url) and "@" in split_url(url).netloc:
        raise YayiError(
            f"{bare(url)}: an s3 URL holds no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile"
        )


def may_be_prefix(url: str) -> bool:
    """Tell whether a URL can be that of a packed folder; a pattern or a bucket's top is raw files' alone."""
    parts = split_url(url)
    _refuse_credentials(url)
    return is_s3(url) and bool(parts.path.strip("/")) and not set("*[?#") & set(url)


def s3_prefix(url: str) -> str:
    """Return the URL of a packed folder as it may be written down; YayiError unless it is s3://BUCKET/PREFIX."""
    parts = split_url(url)
    if parts.scheme not in _S3:
        raise YayiError(f"{bare(url)}: only s3:// can be written; give s3://BUCKET/PREFIX or a local folder")
    if not may_be_prefix(url):
        raise YayiError(f"{bare(url)}: is not s3://BUCKET/PREFIX, without a query or a pattern")
    return bare(url).rstrip("/")


@contextmanager
def reaching(url: str, verb: str) -> Iterator[None]:
    """Tell whatever a URL's backend raises as one sentence: the URL `cannot be` read, listed, written …"""
    try:
        yield
    except YayiError:
        raise
    except Exception as error:
        told = why(error, url)
        kind = UnreachableError if told in (_UNREACHABLE, _TOO_SLOW) else YayiError
        raise kind(f"{bare(url)}: cannot be {verb}: {told}") from None


def why(error: Exception, url: str = "") -> str:
    """Say what went wrong without the words of a URL's backend, which may repeat the URL's secrets."""
    if isinstance(error, ImportError):
        need = _INSTALL.get(urlsplit(url).scheme, "install what fsspec names for it")
        return f"a package for this kind of URL is missing: {need}"
    chain = list(_chain(error))
    for one in chain:
        if known := _KNOWN.get(type(one).__name__):
            return known
    code = next(filter(None, map(_code, chain)), "")
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError) and code:
        return f"access is denied ({code}); check the credentials and the bucket's policy"
    if code:
        return f"the server says {code}"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> str:
    """Return the word or number of a server's refusal, "" without one; its sentences may hold secrets."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    found = found or getattr(error, "status", None)
    return str(found) if found and _CODE.fullmatch(str(found)) else ""


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
            if "NoSuchBucket" in map(_code, _chain(error)):
                raise
            return False
        return True


def copy(url: str, file: Any) -> None:
    """Write the bytes at `url` to an open file, a block at a time."""
    with RemoteFile(url) as source:
        while block := source.read(_COPIED):
            file.write(block)
