"""Pack to S3-compatible storage: packed into a scratch folder of the cache, then uploaded.

The scratch folder is kept until the upload is whole: the same command packs only what is missing and uploads
only what the server has not.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from yayi_data.atomic import writing
from yayi_data.errors import YayiError
from yayi_data.pipeline import Packed, PackOptions, pack
from yayi_data.read.inputs import expand
from yayi_data.remote.mirror import cache_folder, url_key
from yayi_data.remote.objects import Objects
from yayi_data.remote.upload import ours, upload
from yayi_data.remote.urls import bare, is_s3


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
    replaced = ours(target, overwrite=options.overwrite)
    _refuse_inputs(target.url, options.paths)
    with _alone(options.output.parent, target.url):
        packed = pack(replace(options, overwrite=True), reuse=True)
        upload(options.output, packed.manifest, target, replaced)
        shutil.rmtree(options.output.parent, ignore_errors=True)
    return packed._replace(output=target.url, seconds=time.monotonic() - started)


def _refuse_inputs(output: str, paths: Sequence[str]) -> None:
    """Raise where an input lies in the output, which would remove it, or the output in a prefix of inputs."""
    for path in filter(is_s3, paths):
        if _lies_in(output, path):
            raise YayiError(f"{output}: lies in {bare(path)}, which is an input; choose another --output")
        for found in expand(path):
            if _lies_in(found, output):
                raise YayiError(f"{bare(found)}: is an input and lies in the output; choose another --output")


def _lies_in(url: str, prefix: str) -> bool:
    inner, outer = (bare(one).partition("://")[2].rstrip("/") for one in (url, prefix))
    return f"{inner}/".startswith(f"{outer}/")


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
