"""Files that are elsewhere, through fsspec: one way to reach them, and one clear line when that fails.

Retries are the backend's own (S3: AWS_MAX_ATTEMPTS and AWS_RETRY_MODE, 5 attempts unless they say otherwise;
s3fs asks again for a body that breaks off). What a backend raises may repeat a URL with its secrets, so
neither its words nor its traceback are passed on.
"""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast
from urllib.parse import urlsplit

from yayi_data.errors import YayiError

_BLOCK = 8 << 20  # bytes asked for at a time; s3fs would take 50 MB for every file that is looked at
_COPIED = 1 << 20
_S3 = ("s3", "s3a")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9.]{1,60}")
_INSTALL = {
    "s3": 'pip install "yayi-tune[s3]"',
    "s3a": 'pip install "yayi-tune[s3]"',
    "hf": "pip install huggingface_hub",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
}

_UNREACHABLE = {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError",
                "ConnectionRefusedError", "ProxyConnectionError", "ClientConnectorDNSError"}  # fmt: skip
_BROKEN_OFF = {"ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ConnectionClosedError",
               "ResponseStreamingError", "ServerDisconnectedError", "ConnectionResetError"}  # fmt: skip
_TOO_SLOW = {"ReadTimeoutError", "FSTimeoutError", "TimeoutError", "ServerTimeoutError"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
                   "ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError",
                   "UnauthorizedSSOTokenError"}  # fmt: skip


class UnreachableError(YayiError):
    """The server of a URL did not answer; what was fetched from it before is as good as it was."""


def is_url(place: str) -> bool:
    """Tell whether a path is a URL rather than a local file."""
    return "://" in place


def is_s3(place: str) -> bool:
    """Tell whether a path is a URL of S3-compatible storage."""
    return urlsplit(place).scheme in _S3 if is_url(place) else False


def bare(url: str) -> str:
    """Return a URL without user, password, query and fragment, where secrets live; a path as it is."""
    if not is_url(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def local_path(place: str) -> Path:
    """Return an output's path; YayiError for a URL, where only `pack` writes."""
    if is_url(place):
        raise YayiError(f"{bare(place)}: only pack writes to a URL; give a local path and copy it afterwards")
    return Path(place)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL, and the URL's path in it; YayiError where it cannot be had."""
    parts = urlsplit(url)
    if parts.scheme in _S3 and (parts.username is not None or parts.password is not None):
        raise YayiError(
            f"{bare(url)}: an s3 URL holds no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile"
        )
    import fsspec

    with reaching(url, "opened"):
        found: tuple[Any, str] = fsspec.url_to_fs(url)
        return found


@contextmanager
def reaching(url: str, verb: str) -> Iterator[None]:
    """Tell whatever a URL's backend raises as one sentence: the URL `cannot be` read, listed, written …"""
    try:
        yield
    except YayiError:
        raise
    except Exception as error:
        names = {type(e).__name__ for e in _chain(error)}
        kind = UnreachableError if names & (_UNREACHABLE | _TOO_SLOW) else YayiError
        raise kind(f"{bare(url)}: cannot be {verb}: {why(error, url)}") from None


def why(error: Exception, url: str = "") -> str:
    """Say what went wrong without the words of a URL's backend, which may repeat the URL's secrets."""
    chain = list(_chain(error))
    names = {type(e).__name__ for e in chain}
    code = next((c for c in map(_code, chain) if c), "")
    if isinstance(error, ImportError):
        need = _INSTALL.get(urlsplit(url).scheme, "install what fsspec names for it")
        return f"a package for this kind of URL is missing: {need}"
    if names & _NO_CREDENTIALS:
        return (
            "there are no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        )
    if names & _UNREACHABLE:
        return "its server cannot be reached; check the network and AWS_ENDPOINT_URL"
    if names & _BROKEN_OFF:
        return "the connection broke off, also when it was tried again; repeat the command"
    if names & _TOO_SLOW:
        return "the server did not answer in time; repeat the command"
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return (
            f"access is denied{f' ({code})' if code else ''}; check the credentials and the bucket's policy"
        )
    if code:
        return f"the server says {code}"
    return (
        error.strerror if isinstance(error, OSError) and error.strerror and not code else type(error).__name__
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _code(error: BaseException) -> str:
    """Return the word that an S3 server gave for its refusal, "" where it gave none."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return found if isinstance(found, str) and _CODE.fullmatch(found) else ""


class RemoteFile:
    """A URL opened for reading, of which every failure is a YayiError; it can be read from any place."""

    def __init__(self, url: str) -> None:
        self._url = url
        files, path = filesystem(url)
        with reaching(url, "opened"):
            self._file = cast(BinaryIO, files.open(path, "rb", block_size=_BLOCK))

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
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Objects:
    """The objects under an S3 prefix: listed, uploaded and removed by their names relative to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _S3:
            raise YayiError(
                f"{bare(url)}: only s3:// can be written; give s3://BUCKET/PREFIX or a local folder"
            )
        if parts.query or parts.fragment or not parts.path.strip("/"):
            raise YayiError(f"{bare(url)}: is not s3://BUCKET/PREFIX, without a query")
        self.url = bare(url).rstrip("/")
        self._files, self._path = filesystem(self.url)

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object by its name; empty where there is none."""
        with reaching(self.url, "listed"):
            self._files.invalidate_cache()
            found = self._files.find(self._path, detail=True)
        start = len(self._path) + 1
        return {
            path[start:]: info["size"] for path, info in found.items() if path.startswith(f"{self._path}/")
        }

    def upload(self, path: Path, name: str, sha256: str) -> None:
        """Upload a file; the server is told its sha256, and refuses other bytes where it checks that."""
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        with reaching(f"{self.url}/{name}", "written"):
            self._files.put_file(str(path), f"{self._path}/{name}", ChecksumSHA256=digest)

    def holds(self, name: str, size: int, sha256: str) -> bool | None:
        """Tell whether an object has this size and hash; None where the server keeps no hash to compare."""
        bucket, _, prefix = self._path.partition("/")
        with reaching(f"{self.url}/{name}", "read"):
            try:
                facts = self._files.call_s3(
                    "head_object", Bucket=bucket, Key=f"{prefix}/{name}", ChecksumMode="ENABLED"
                )
            except FileNotFoundError:
                return False
        if facts["ContentLength"] != size:
            return False
        there = facts.get("ChecksumSHA256")
        return None if there is None else bool(there == base64.b64encode(bytes.fromhex(sha256)).decode())

    def remove(self, name: str) -> None:
        """Remove an object."""
        with reaching(f"{self.url}/{name}", "removed"):
            self._files.rm_file(f"{self._path}/{name}")


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
