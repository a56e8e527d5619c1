"""Pack to S3-compatible storage: packed into a scratch folder of the cache, then uploaded, the manifest last.

Object storage has no rename, so the manifest is the mark: while it is not there, there is no dataset, and a
manifest that is there lists nothing that is missing. The scratch folder is kept until the upload is whole:
the same command packs only what is missing and uploads only what the server has not.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from yayi_data import manifest
from yayi_data.atomic import write_atomically, writing
from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST, FileFacts, Manifest
from yayi_data.mirror import cache_folder, read_manifest, url_key
from yayi_data.objects import Objects
from yayi_data.pipeline import Packed, PackOptions, pack
from yayi_data.progress import Progress
from yayi_data.remote import RemoteFile, bare, is_s3

_BEGUN = ".yayi-upload"
"""The object that is there during an upload: the digest of its manifest, and the names that are ours."""

_TOGETHER = 4  # uploads at a time: each may hold a shard in memory


def scratch_of(url: str) -> Path:
    """Return where a pack to `url` is made before it is uploaded."""
    return cache_folder() / "uploads" / url_key(url) / "packed"


def pack_to(url: str, options: PackOptions) -> Packed:
    """Pack into `options.output`, which is `scratch_of(url)`, upload it to `url`, and remove it.

    Raises what `pack` raises, and YayiError where the storage refuses or does not answer; the same command
    then goes on.
    """
    started = time.monotonic()
    target = Objects(url)
    ours = _ours(target, overwrite=options.overwrite)
    for path in map(bare, options.paths):
        if is_s3(path) and f"{path}/".partition("://")[2].startswith(f"{target.url}/".partition("://")[2]):
            raise YayiError(f"{path}: is an input and lies in the output; choose another --output")
    with _alone(options.output.parent, target.url):
        packed = pack(replace(options, overwrite=True), reuse=True)
        _publish(options.output, packed.manifest, target, ours)
        shutil.rmtree(options.output.parent, ignore_errors=True)
    return packed._replace(output=target.url, seconds=time.monotonic() - started)


@contextmanager
def _alone(scratch: Path, url: str) -> Iterator[None]:
    """Hold the scratch folder for this run, and leave none that is empty."""
    with writing(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(scratch.with_name(f"{scratch.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise YayiError(f"{url}: another run is writing it; wait for it to end") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            scratch.rmdir()
        Path(lock.lock_file).unlink(missing_ok=True)  # first, so that no later run's file is removed
        lock.release()


def _ours(target: Objects, *, overwrite: bool) -> set[str]:
    """Return the names that may be removed: of an upload that broke off, or of a folder to be overwritten.

    Raises YayiError where anything else is there.
    """
    found = target.sizes()
    digest, *names = _begun(target) if _BEGUN in found else [""]
    ours = {_BEGUN, *names} if names else set()
    if MANIFEST in found:
        old = manifest.parse(read_manifest(target.url) or b"", f"{target.url}/{MANIFEST}")
        if not overwrite and old.digest != digest:
            raise YayiError(
                f"{target.url}: holds a packed folder already; choose another --output, "
                "or --overwrite to replace it"
            )
        ours |= {MANIFEST, *(file.path for file in _files(old))}
    foreign = sorted(found.keys() - ours)
    if foreign:
        raise YayiError(
            f"{target.url}: holds {one_line(foreign[0])}, which pack did not write; choose another --output"
        )
    return ours


def _begun(target: Objects) -> list[str]:
    """Return the lines of the object that a broken upload left."""
    with RemoteFile(f"{target.url}/{_BEGUN}") as file:
        return file.read().decode(errors="replace").split("\n")


def _files(whole: Manifest) -> list[FileFacts]:
    return [FileFacts(shard.file, shard.bytes, shard.sha256) for shard in whole.shards] + whole.files


def _publish(folder: Path, whole: Manifest, target: Objects, ours: set[str]) -> None:
    """Upload a packed folder: the old manifest goes first, the new one comes last, when all else is there.

    Of what is there only `ours` is removed.
    """
    files = _files(whole)
    there = target.sizes().keys() & ours
    names = sorted({*ours, *(file.path for file in files)} - {_BEGUN, MANIFEST})
    write_atomically(folder.parent / _BEGUN, "\n".join([manifest.load(folder).digest, *names]).encode())
    begun = manifest.file_facts(folder.parent, _BEGUN)
    _upload(folder.parent, begun, target)
    if MANIFEST in there:
        target.remove(MANIFEST)
    with Progress("uploading", sum(file.bytes for file in files)) as progress:
        for size in _each(lambda file: _upload(folder, file, target), files):
            progress.advance(size)
    for name in there - {file.path for file in files} - {MANIFEST, _BEGUN}:
        target.remove(name)  # of an upload that was broken off, or of the folder that is replaced
    _check(target, {file.path: file.bytes for file in [begun, *files]})
    _upload(folder, manifest.file_facts(folder, MANIFEST), target)
    target.remove(_BEGUN)


def _each(work: Callable[[FileFacts], int], files: Sequence[FileFacts]) -> Iterator[int]:
    """Yield what `work` gives for each file; after the first failure nothing more is begun."""
    with ThreadPoolExecutor(_TOGETHER) as uploads:
        try:
            yield from uploads.map(work, files)
        except BaseException:
            uploads.shutdown(wait=False, cancel_futures=True)
            raise


def _upload(folder: Path, facts: FileFacts, target: Objects) -> int:
    """Upload a file unless the server holds these very bytes, and return its size."""
    if manifest.file_facts(folder, facts.path) != facts:
        raise DataError(
            f"{folder / facts.path}: was changed; delete {folder.parent} and run the command again"
        )
    if target.holds(facts.path, facts.bytes, facts.sha256) is not True:
        target.upload(folder / facts.path, facts.path, facts.sha256)
        if target.holds(facts.path, facts.bytes, facts.sha256) is False:
            raise YayiError(
                f"{target.url}/{facts.path}: the server holds other bytes than were sent; "
                "run the same command again"
            )
    return facts.bytes


def _check(target: Objects, expected: dict[str, int]) -> None:
    """Raise YayiError unless the listing is what was uploaded: another run may have been at work there."""
    found = target.sizes()
    if found != expected:
        name = min(found.items() ^ expected.items())[0]
        raise YayiError(
            f"{target.url}: {one_line(name)} has {found.get(name, 'no')} bytes, "
            f"{expected.get(name, 'no')} were uploaded: something else writes there; run the command again"
        )
