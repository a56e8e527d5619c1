"""A remote packed folder through a local copy that fills as it is read: the index first, then shards.

A mirror is a folder of the cache named by the manifest's digest, so what is in it can only be of that
manifest: equal data under two URLs share it, and changed data get another. Every file is checked against the
manifest when it is fetched and again before it is used. A mirror whose shards are all there is a packed
folder like any other.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from filelock import FileLock

from yayi_data.atomic import TEMPORARY, AtomicFile, write_atomically, writing
from yayi_data.console import one_line, say
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST, FileFacts, ShardFacts, parse
from yayi_data.remote.failures import UnreachableError
from yayi_data.remote.files import RemoteFile, copy, exists
from yayi_data.remote.objects import Objects
from yayi_data.remote.urls import bare, is_s3, is_url, may_be_prefix, s3_prefix

_ORIGIN = ".yayi-origin"
_LOCKS = ".yayi-locks"
_TOGETHER = 8  # downloads at a time, each with some 10 MB in memory


def cache_folder() -> Path:
    """Return where copies of remote files are: YAYI_CACHE, or `yayi-tune` in the user's cache folder."""
    if own := os.environ.get("YAYI_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "yayi-tune"


def url_key(url: str) -> str:
    """Return a file name for an s3 URL, which means another place at another server."""
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return hashlib.sha256(f"{bare(server)} {bare(url).rstrip('/')}".encode()).hexdigest()[:32]


def open_mirror(url: str) -> Path | None:
    """Return the mirror of the packed folder at `url`, all but its shards fetched; None where none is there.

    The manifest is read anew each time. Where the server cannot be reached, the copy that this URL led to
    last is used, and that is said. Raises YayiError where the URL cannot be read, DataError where a file is
    not what the manifest says.
    """
    if not may_be_prefix(url):
        return None
    url = s3_prefix(url)
    known = cache_folder() / "urls" / url_key(url)
    try:
        data = read_manifest(url)
    except UnreachableError as error:
        return _known(known, error)
    if data is None:
        return None
    manifest = parse(data, f"{url}/{MANIFEST}")
    folder = cache_folder() / "packed" / manifest.digest
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        known.parent.mkdir(exist_ok=True)
        _beside(folder, _LOCKS).mkdir(exist_ok=True)
    _note(_beside(folder, _ORIGIN), url.encode())
    for facts in manifest.files:
        _fetch(folder, facts)
    _note(folder / MANIFEST, data)
    _note(known, manifest.digest.encode())
    return folder


def _note(path: Path, data: bytes) -> None:
    """Write a small file, unless that is what it says: a whole mirror may be on a disk that is read-only."""
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)


def find_packed(place: str) -> Path | None:
    """Return the packed folder that a path or an s3 URL names, locally; None where none is there."""
    folder = open_mirror(place) if is_s3(place) else Path(place)
    return folder if folder is not None and (folder / MANIFEST).is_file() else None


def packed_at(place: str) -> Path:
    """Return the packed folder that a path or an s3 URL names, locally; YayiError where a URL has none."""
    if not is_url(place):
        return Path(place)
    folder = open_mirror(place) if is_s3(place) else None
    if folder is None:
        raise _no_folder(bare(place))
    return folder


def _no_folder(url: str) -> YayiError:
    if not is_s3(url):
        return YayiError(f"{url}: packed folders are read from local paths and s3:// only")
    return YayiError(
        f"{url}: holds no {MANIFEST}, so it is not a packed folder; make one with `yayi-data pack`"
    )


def scratch_folder() -> Path:
    """Return a folder of the cache for what is removed again, where there is room for shards."""
    folder = cache_folder() / "scratch"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def download(url: str, folder: Path) -> None:
    """Copy everything under an s3 URL into `folder`, as it is there now."""
    objects = Objects(url)
    names = objects.sizes()
    if MANIFEST not in names:
        raise _no_folder(objects.url)
    above = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for name in names:
        path = folder / name
        if name in above or not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{objects.url}: holds an object named {one_line(name)}; pack the data again")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFile(path, lasting=False) as file:
            copy(f"{objects.url}/{name}", file)


def _known(known: Path, error: UnreachableError) -> Path:
    """Return the mirror that a URL led to last; raise `error` where there is none."""
    if known.is_file():
        folder = cache_folder() / "packed" / known.read_text()
        if (folder / MANIFEST).is_file():
            say(f"{error}; going on with the copy in {folder}")
            return folder
    raise error


def read_manifest(url: str) -> bytes | None:
    """Return the bytes of the manifest at `url`, None where there is none."""
    place = f"{url}/{MANIFEST}"
    if not exists(place):
        return None
    with RemoteFile(place) as file:
        return file.read()


def is_mirror(folder: Path) -> bool:
    """Tell whether a folder is a mirror, whose shards may still be elsewhere."""
    return _beside(folder, _ORIGIN).is_file()


def fetch_shard(folder: Path, facts: ShardFacts) -> Path:
    """Return a shard of a mirror, fetched if it is not there or not whole; its bytes are checked."""
    return _fetch(folder, FileFacts(facts.file, facts.bytes, facts.sha256))


def fetch_shards(folder: Path, shards: Sequence[ShardFacts]) -> None:
    """Fetch those shards that a mirror lacks, several at a time; those that are there are not checked."""
    missing = [facts for facts in shards if not (folder / facts.file).is_file()]
    if missing:
        with ThreadPoolExecutor(_TOGETHER) as downloads:
            for _ in downloads.map(lambda facts: fetch_shard(folder, facts), missing):
                pass


def _fetch(folder: Path, facts: FileFacts) -> Path:
    """Return a file of a mirror, whole; one of the processes that want it fetches it, the others wait."""
    path = folder / facts.path
    if _is_whole(path, facts):
        return path
    lock = _beside(folder, _LOCKS) / f"{hashlib.sha256(facts.path.encode()).hexdigest()[:32]}.lock"
    with writing(lock):
        lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        if not _is_whole(path, facts):
            _download(_beside(folder, _ORIGIN).read_text(), path, facts)
    return path


def _beside(folder: Path, suffix: str) -> Path:
    whole = folder.absolute()  # `.` has no name
    return whole.parent / (whole.name + suffix)


def _is_whole(path: Path, facts: FileFacts) -> bool:
    try:
        if path.stat().st_size != facts.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == facts.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise YayiError(f"{path}: cannot be read: {error.strerror}") from error


def _download(url: str, path: Path, facts: FileFacts) -> None:
    """Fetch a file under a temporary name, which becomes its own once its bytes are those of the manifest."""
    for scrap in path.parent.glob(f"{path.name}.*{TEMPORARY}"):  # of a killed process: we hold the lock
        scrap.unlink(missing_ok=True)
    place = f"{url}/{facts.path}"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as file:
        copy(place, file)
        if (file.bytes, file.sha256) != (facts.bytes, facts.sha256):
            raise DataError(
                f"{place}: has {file.bytes} bytes and the sha256 {file.sha256}, its manifest says "
                f"{facts.bytes} and {facts.sha256}; see `yayi-data verify {url}`, then pack again"
            )
