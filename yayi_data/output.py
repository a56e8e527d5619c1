"""The life of an output folder: worked on as DIR.partial under a key, then renamed to DIR in one step.

A run that was interrupted finds its DIR.partial again by the key, which covers inputs and options, and goes
on; a run with another key refuses to touch it.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from yayi_data.atomic import TEMPORARY, fsync_path, writing
from yayi_data.console import one_line, say
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST, Manifest, load
from yayi_data.outfile import refuse_packed
from yayi_data.read import Source

UNIT = ".unit"
"""How the file ends that marks a shard of DIR.partial as whole."""


def real(output: Path) -> Path:
    """Return the folder that an output names, where that is a link, or without a name as `.` and `..` are."""
    found = output.resolve() if output.is_symlink() or output.name in ("", "..") else output
    if not found.name:
        raise YayiError(f"{output}: is the top of the filesystem; choose another --output")
    return found


def refuse_existing(output: Path, *, overwrite: bool) -> None:
    """Raise unless `output` is free, or is a packed folder that may be overwritten, and so it is removed.

    What a killed run left of a folder it replaced, DIR.replaced, is removed too: it must be one as well. A
    place inside another packed folder is not free.
    """
    refuse_packed(output)
    replaced = beside(output, ".replaced")
    if replaced.is_symlink() or (replaced.exists() and (not replaced.is_dir() or any(replaced.iterdir()))):
        _refuse_foreign(replaced)
    if not output.exists():
        return
    if not overwrite:
        ours = (output / MANIFEST).is_file()
        step = "choose another --output" + (", or --overwrite to replace it" if ours else "")
        raise YayiError(f"{output}: exists already{'' if ours else ', and pack did not write it'}; {step}")
    _refuse_foreign(output)


def _refuse_foreign(folder: Path) -> None:
    """Raise unless a folder holds what a manifest in it lists, and nothing else."""
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        raise YayiError(
            f"{folder}: is a link, or holds no {MANIFEST}, so it is not ours to replace; "
            "choose another --output"
        )
    manifest = load(folder)
    ours = {MANIFEST, *(shard.file for shard in manifest.shards), *(file.path for file in manifest.files)}
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    foreign = sorted({path.relative_to(folder).as_posix() for path in found} - ours)
    if foreign:
        raise YayiError(
            f"{folder}: holds {one_line(foreign[0])}, which pack did not write: move it away, "
            "or choose another --output"
        )


def refuse_inputs(output: Path, paths: Sequence[str], sources: Sequence[Source]) -> None:
    """Raise where an input lies in the output, which would remove it, or the output in a folder of inputs.

    There a run that goes on would read what it wrote before.
    """
    own = [beside(output, suffix).resolve() for suffix in ("", ".partial", ".replaced")]
    for path in paths:
        if Path(path).is_dir() and own[0].is_relative_to(Path(path).resolve()):
            raise YayiError(f"{output}: lies in {path}, which is an input; choose another --output")
    for source in sources:
        place = Path(source.path).resolve()
        if source.size is not None and any(place.is_relative_to(folder) for folder in own):
            raise YayiError(f"{source.path}: is an input and lies in the output; choose another --output")


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


def publish(output: Path, *, overwrite: bool) -> None:
    """Turn the finished DIR.partial into DIR by one rename; a folder it replaces is removed afterwards.

    Raises as `refuse_existing` does.
    """
    refuse_existing(output, overwrite=overwrite)
    replaced = beside(output, ".replaced")
    _remove(replaced)
    if output.exists():
        output.replace(replaced)
    beside(output, ".partial").replace(output)
    fsync_path(output.parent)
    beside(output, ".partial.key").unlink()
    _remove(replaced)


def _remove(replaced: Path) -> None:
    """Remove a packed folder, its manifest last: what a kill leaves is known as ours by it."""
    if not replaced.exists():
        return
    for path in replaced.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MANIFEST:
            path.unlink(missing_ok=True)
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
            f"{partial}: was left by a run with other inputs or options (I/N of --partition among them); "
            "repeat that run to finish it, or delete the folder"
        )
    return partial


@contextmanager
def going_on_later(output: Path) -> Iterator[None]:
    """Tell who interrupts a run that what it has done is kept, where there is something."""
    try:
        yield
    except KeyboardInterrupt:
        if beside(output, ".partial").is_dir():
            say(f"what is packed stays in {beside(output, '.partial')}: the same command goes on from there")
        raise


def beside(output: Path, suffix: str) -> Path:
    """Return the path beside `output` whose name goes on with `suffix`."""
    return output.with_name(output.name + suffix)
