"""A packed folder on its way into S3-compatible storage: every file, the manifest last.

Object storage has no rename, so the manifest is the mark: while it is not there, there is no dataset, and a
manifest that is there lists nothing that is missing.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yayi_data import manifest
from yayi_data.atomic import write_atomically
from yayi_data.console import one_line
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST, FileFacts, Manifest
from yayi_data.progress import Progress
from yayi_data.remote.files import RemoteFile
from yayi_data.remote.mirror import read_manifest
from yayi_data.remote.objects import Objects

_BEGUN = ".yayi-upload"
"""The object that is there during an upload: the digest of its manifest, and the names that are ours."""

_TOGETHER = 4  # uploads at a time: each may hold a shard in memory


def ours(target: Objects, *, overwrite: bool) -> set[str]:
    """Return the names that may be removed: of an upload that broke off, or of a folder to be overwritten.

    Raises YayiError where anything else is there.
    """
    found = target.sizes()
    digest, *names = _begun(target) if _BEGUN in found else [""]
    known = {_BEGUN, *names} if names else set()
    if MANIFEST in found:
        old = manifest.parse(read_manifest(target.url) or b"", f"{target.url}/{MANIFEST}")
        if not overwrite and old.digest != digest:
            raise YayiError(
                f"{target.url}: holds a packed folder already; choose another --output, "
                "or --overwrite to replace it"
            )
        known |= {MANIFEST, *(file.path for file in _files(old))}
    foreign = sorted(found.keys() - known)
    if foreign:
        raise YayiError(
            f"{target.url}: holds {one_line(foreign[0])}, which pack did not write; choose another --output"
        )
    return known


def _begun(target: Objects) -> list[str]:
    """Return the lines of the object that a broken upload left."""
    with RemoteFile(f"{target.url}/{_BEGUN}") as file:
        return file.read().decode(errors="replace").split("\n")


def _files(whole: Manifest) -> list[FileFacts]:
    return [FileFacts(shard.file, shard.bytes, shard.sha256) for shard in whole.shards] + whole.files


def upload(folder: Path, whole: Manifest, target: Objects, replaced: set[str]) -> None:
    """Upload a packed folder: the old manifest goes first, the new one comes last, when all else is there.

    Of what is there only `replaced`, which `ours` gave, is removed.
    """
    files = _files(whole)
    there = target.sizes().keys() & replaced
    names = sorted({*replaced, *(file.path for file in files)} - {_BEGUN, MANIFEST})
    write_atomically(folder.parent / _BEGUN, "\n".join([manifest.load(folder).digest, *names]).encode())
    begun = manifest.file_facts(folder.parent, _BEGUN)
    _upload_file(folder.parent, begun, target)
    if MANIFEST in there:
        target.remove(MANIFEST)
    total = sum(file.bytes for file in files)
    with Progress("uploading", total) as progress, ThreadPoolExecutor(_TOGETHER) as uploads:
        for size in uploads.map(lambda file: _upload_file(folder, file, target), files):
            progress.advance(size)
    for name in there - {file.path for file in files} - {MANIFEST, _BEGUN}:
        target.remove(name)  # of an upload that was broken off, or of the folder that is replaced
    _check(target, {file.path: file.bytes for file in [begun, *files]})
    _upload_file(folder, manifest.file_facts(folder, MANIFEST), target)
    target.remove(_BEGUN)


def _upload_file(folder: Path, facts: FileFacts, target: Objects) -> int:
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
