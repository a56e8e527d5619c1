"""URLs as text: which kind one is, and what of it may be shown or written down."""

from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from yayi_data.errors import YayiError

_S3 = ("s3", "s3a")


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


def refuse_credentials(url: str) -> None:
    """Raise YayiError for an s3 URL with credentials in it."""
    if is_s3(url) and "@" in split_url(url).netloc:
        raise YayiError(
            f"{bare(url)}: an s3 URL holds no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile"
        )


def may_be_prefix(url: str) -> bool:
    """Tell whether a URL can be that of a packed folder; a pattern or a bucket's top is raw files' alone."""
    parts = split_url(url)
    refuse_credentials(url)
    return is_s3(url) and bool(parts.path.strip("/")) and not set("*[?#") & set(url)


def s3_prefix(url: str) -> str:
    """Return the URL of a packed folder as it may be written down; YayiError unless it is s3://BUCKET/PREFIX."""
    parts = split_url(url)
    if parts.scheme not in _S3:
        raise YayiError(f"{bare(url)}: only s3:// can be written; give s3://BUCKET/PREFIX or a local folder")
    if not may_be_prefix(url):
        raise YayiError(f"{bare(url)}: is not s3://BUCKET/PREFIX, without a query or a pattern")
    return bare(url).rstrip("/")
