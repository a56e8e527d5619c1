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
def locked(output: Path, part: str = "", *, patience: float = 0) -> Iterator[None]:
    """Hold `output`, or one `part` of it, for this run; YayiError where another run is writing it.

    `patience` is how many seconds to wait for that run to end.
    """
    lock = FileLock(beside(output, f".partial.lock{part}"))
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=patience)
        except Timeout:  # an OSError too
            what = f"{output} (part {part.strip('-')})" if part else output
            raise YayiError(f"{what}: another run is writing it; wait for it to end") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # first, so that no later run's file is removed
        lock.release()


@contextmanager
def spool_folder(output: Path, part: str = "") -> Iterator[Path]:
    """Yield a folder for copies of what can be read only once; it is removed at the end."""
    spool = beside(output, f".partial.spool{part}")
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
    partial = claim(output, key)
    with writing(partial):
        for scrap in partial.rglob(f"*{TEMPORARY}"):
            scrap.unlink(missing_ok=True)
    try:
        yield partial
    except BaseException as error:
        if isinstance(error, DataError) or not any(partial.glob(f"*{UNIT}")):
            shutil.rmtree(partial, ignore_errors=True)
            beside(output, ".partial.key").unlink(missing_ok=True)
        raise


def publish(output: Path) -> None:
    """Turn the finished DIR.partial into DIR by one rename; a folder it replaces is removed afterwards."""
    replaced = beside(output, ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if output.exists():
        output.replace(replaced)
    beside(output, ".partial").replace(output)
    fsync_folder(output.parent)
    beside(output, ".partial.key").unlink()
    shutil.rmtree(replaced, ignore_errors=True)


def claim(output: Path, key: str) -> Path:
    """Make DIR.partial, its key written first, and return it; or check that the one there has the same key.

    The caller holds the lock. Raises YayiError where a run with another key left it.
    """
    partial, key_file = beside(output, ".partial"), beside(output, ".partial.key")
    if not partial.exists():
        with writing(partial):
            key_file.write_text(key)
            partial.mkdir()
    elif not key_file.is_file() or key_file.read_text() != key:
        raise YayiError(
            f"{partial}: was left by a run with other inputs or options (--partition is one); "
            "repeat that run to finish it, or delete the folder"
        )
    return partial


def beside(output: Path, suffix: str) -> Path:
    """Return the path beside `output` whose name goes on with `suffix`."""
    return output.with_name(output.name + suffix)
