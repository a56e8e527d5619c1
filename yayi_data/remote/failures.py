"""One clear line for whatever goes wrong with a URL.

What a backend raises may repeat a URL with its secrets, so neither its words nor its traceback are passed on.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from yayi_data.errors import YayiError
from yayi_data.remote.urls import bare

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
    for one in _chain(error):
        if known := _KNOWN.get(type(one).__name__):
            return known
    code = next(codes(error), "")
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError) and code:
        return f"access is denied ({code}); check the credentials and the bucket's policy"
    if code:
        return f"the server says {code}"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


def codes(error: BaseException) -> Iterator[str]:
    """Yield the words or numbers of a server's refusals, the last one first."""
    return filter(None, map(_code, _chain(error)))


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
