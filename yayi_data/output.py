"""The life of an output folder: worked on as DIR.partial under a key, then renamed to DIR in one step.

A run that was interrupted finds its DIR.partial again by the key, which covers inputs and options, and goes
on; a run with another key refuses to touch it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from yayi_data.atomic import TEMPORARY, fsync_folder, writing
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST, Manifest, load

UNIT = ".unit"
"""How the file ends that marks a shard of DIR.partial as whole."""


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise unless `output` is free, or is a packed folder that may be overwritten."""
    if not output.exists():
        return
    if not overwrite:
        raise YayiError(f"{output}: exists already; choose another --output, or --overwrite to replace it")
    if not (output / MANIFEST).is_file():
        raise YayiError(
            f"{output}: holds no {MANIFEST}, so it is not ours to replace; choose another --output"
        )
    load(output)


def made_before(output: Path, facts: Manifest) -> Manifest | None:
    """Return the manifest of `output` where an earlier run made it from what `facts` says, None elsewhere."""
    if not (output / MANIFEST).is_file():
        return None
    there = load(output)
    found = {name: getattr(there, name) for name in _FOUND}
    return there if replace(facts, **found) == there else None


_FOUND = ("ledger", "domains", "rows", "tokens", "supervised_tokens", "straddling_tokens", "shards", "files")
"""What of a manifest is known only after packing."""


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold `output` for this run; YayiError where another run is writing it."""
    lock = FileLock(_beside(output, ".partial.lock"))
    try:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        raise YayiError(f"{output}: another run is writing it; wait for it to end") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # first, so that no later run's file is removed
        lock.release()


@contextmanager
def spool_folder(output: Path) -> Iterator[Path]:
    """Yield a folder for copies of what can be read only once; it is removed at the end."""
    spool = _beside(output, ".partial.spool")
    shutil.rmtree(spool, ignore_errors=True)
    with writing(spool):
        spool.mkdir()
    try:
        yield spool
    finally:
        shutil.rmtree(spool, ignore_errors=True)


@contextmanager
def partial_folder(output: Path, key: str) -> Iterator[Path]:
    """Yield DIR.partial; after an interruption it is kept if a shard in it is whole.

    It is removed where the data prevent the output. Raises YayiError where it was left by a run with another
    key.
    """
    partial, key_file = _beside(output, ".partial"), _beside(output, ".partial.key")
    with writing(partial):
        _claim(partial, key_file, key)
    try:
        yield partial
    except BaseException as error:
        if isinstance(error, DataError) or not any(partial.glob(f"*{UNIT}")):
            shutil.rmtree(partial, ignore_errors=True)
            key_file.unlink(missing_ok=True)
        raise


def publish(output: Path) -> None:
    """Turn the finished DIR.partial into DIR by one rename; a folder it replaces is removed afterwards."""
    replaced = _beside(output, ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if output.exists():
        output.replace(replaced)
    _beside(output, ".partial").replace(output)
    fsync_folder(output.parent)
    _beside(output, ".partial.key").unlink()
    shutil.rmtree(replaced, ignore_errors=True)


def _claim(partial: Path, key_file: Path, key: str) -> None:
    """Make the folder, its key written first, or check that the one that is there has the same key."""
    if partial.exists():
        if not key_file.is_file() or key_file.read_text() != key:
            raise YayiError(
                f"{partial}: was left by a run with other inputs or options; "
                "repeat that run to finish it, or delete the folder"
            )
        for scrap in partial.rglob(f"*{TEMPORARY}"):
            scrap.unlink()
        return
    key_file.write_text(key)
    partial.mkdir()


def _beside(output: Path, suffix: str) -> Path:
    return output.with_name(output.name + suffix)
