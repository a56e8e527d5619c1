"""Checkpoints: written under a temporary name, renamed when whole, found again, loaded at any world size.

`checkpoint-N/state` is DeepSpeed's own format, which it reads with pickle: trust a checkpoint as you trust
code. `checkpoint-N/checkpoint.json` is ours and lists every file's size, so that a cut one is recognised.
What changed at its size shows by the checksums in the state files, which torch writes and ignores.
"""

import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from yayi_data.atomic import fsync_path
from yayi_data.console import say
from yayi_data.errors import YayiError
from yayi_train.folders import fsync_files
from yayi_train.quiet import in_brief
from yayi_train.ranks import rank

STATE, UNIVERSAL, FACTS = "state", "universal", "checkpoint.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: the state after `step` steps.

    `eval_loss` is None where the step was not evaluated; `unlogged` are the totals of the steps since the
    last line of metrics.jsonl.
    """

    path: Path
    step: int
    world_size: int
    zero_stage: int
    eval_loss: float | None
    unlogged: dict[str, Any]
    files: dict[str, int] = field(default_factory=dict)


def save(engine: Any, checkpoint: Checkpoint, *, trained_only: bool) -> None:
    """Write a checkpoint; all ranks take part, and it has its name only when all have written."""
    import torch.distributed as dist

    partial = checkpoint.path.with_name(checkpoint.path.name + ".partial")
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    with writing(checkpoint.path):
        engine.save_checkpoint(
            str(partial), tag=STATE, save_latest=False, exclude_frozen_parameters=trained_only
        )
        dist.barrier()
        if rank() == 0:
            _publish(partial, checkpoint)
    dist.barrier()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what torch, safetensors and the system raise over a full disk into a YayiError."""
    from safetensors import SafetensorError

    from yayi_train.engine import of_machine

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if of_machine(error):
            raise
        raise YayiError(
            f"{path}: cannot be written ({in_brief(error)}); is the disk full? The checkpoints before it are "
            "kept, and the same command continues from the last one"
        ) from error


def _publish(partial: Path, checkpoint: Checkpoint) -> None:
    files = {str(path.relative_to(partial)): path.stat().st_size for path in _files(partial)}
    facts = asdict(checkpoint) | {"path": checkpoint.path.name, "files": files}
    (partial / FACTS).write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    fsync_files(partial)
    shutil.rmtree(checkpoint.path, ignore_errors=True)  # one that is there was found damaged
    partial.rename(checkpoint.path)
    fsync_path(checkpoint.path.parent)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """Return a run's last whole checkpoint, every byte of it read; what is not whole is named on stderr.

    One that changed at its size loses its marker, so that it counts for nothing any more.
    """
    for path in _numbered(folder):
        found = _read(path)
        if isinstance(found, str):
            say(f"warning: {path} is not whole ({found}); it is not used")
    for found in reversed(whole_checkpoints(folder)):
        changed = _changed(found)
        if changed is None:
            return found
        say(f"warning: {found.path} is damaged ({changed}); it is not used")
        (found.path / FACTS).rename(found.path / f"{FACTS}.damaged")
    return None


def _changed(checkpoint: Checkpoint) -> str | None:
    """Return the first file that is not what torch wrote, None where all are: zip's checksums tell."""
    paths = [path for path in _files(checkpoint.path) if path.suffix == ".pt"]
    with ThreadPoolExecutor() as pool:  # the checksum leaves Python's lock alone
        for path, whole in zip(paths, pool.map(_is_whole, paths), strict=True):
            if not whole:
                return f"{path.relative_to(checkpoint.path)} is not as it was written"
    return None


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
        return False


def whole_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the whole checkpoints of a run's folder, oldest first."""
    return [found for path in _numbered(folder) if isinstance(found := _read(path), Checkpoint)]


def _numbered(folder: Path) -> list[Path]:
    """Return the folders of all checkpoints, whole or not, oldest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("checkpoint-"))


def _read(path: Path) -> Checkpoint | str:
    """Return a checkpoint, or what about it is not whole."""
    try:
        found = Checkpoint(**(orjson.loads((path / FACTS).read_bytes()) | {"path": path}))
        if found.step != _step(path) or not all(isinstance(getattr(found, n), kind) for n, kind in _KINDS):
            return f"{FACTS} is missing or damaged"
        for name, size in found.files.items():
            there = (path / name).stat().st_size
            if there != size:
                return f"{name} has {there} bytes, {size} were written"
    except (OSError, ValueError, TypeError) as error:
        return f"{getattr(error, 'filename', None) or FACTS} is missing or damaged"
    return found


_KINDS: tuple[tuple[str, Any], ...] = (
    ("world_size", int),
    ("zero_stage", int),
    ("eval_loss", float | None),
    ("unlogged", dict),
    ("files", dict),
)


def remove_partial(folder: Path) -> None:
    """Remove what a killed run left half-written or half-removed."""
    for path in [*folder.glob("checkpoint-*.partial"), folder / "final.partial"]:
        shutil.rmtree(path, ignore_errors=True)


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint with the lowest evaluation loss, the earliest of equals."""
    evaluated = [c for c in checkpoints if c.eval_loss is not None]
    return min(evaluated, key=lambda c: (c.eval_loss, c.step), default=None)


def prune(folder: Path, limit: int, *, keep_best: bool) -> None:
    """Keep the last `limit` whole checkpoints and what is newer, and the best one beside them where asked."""
    checkpoints = whole_checkpoints(folder)
    if len(checkpoints) <= limit:
        return
    oldest, kept = checkpoints[-limit].step, best(checkpoints) if keep_best else None
    for path in _numbered(folder):
        if _step(path) < oldest and not (kept and path == kept.path):
            doomed = path.with_name(path.name + ".partial")
            path.rename(doomed)  # so that a kill amid the removal leaves nothing that looks whole
            shutil.rmtree(doomed)


def needs_universal(checkpoint: Checkpoint, ranks: int) -> bool:
    """Tell whether a checkpoint must be converted first: ZeRO's shards load at their own world size only."""
    return checkpoint.zero_stage > 0 and checkpoint.world_size != ranks


def make_universal(checkpoint: Checkpoint) -> None:
    """Convert a checkpoint's state for another number of ranks; rank 0 does it while the others wait."""
    import torch.distributed as dist

    if rank() == 0 and not (checkpoint.path / UNIVERSAL).exists():
        say(f"converting {checkpoint.path.name} from {checkpoint.world_size} ranks")
        partial = checkpoint.path / (UNIVERSAL + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _convert(checkpoint.path / STATE, partial)
        partial.rename(checkpoint.path / UNIVERSAL)
    dist.barrier()


def _convert(source: Path, target: Path) -> None:
    """Run DeepSpeed's converter in a process of its own, since it forks workers."""
    module = "deepspeed.checkpoint.ds_to_universal"
    options = ["--input_folder", str(source), "--output_folder", str(target), "--inject_missing_state"]
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise YayiError(f"{source.parent}: cannot be converted for another number of ranks: {said}")


@contextmanager
def reading(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what damaged files make torch and DeepSpeed raise into a YayiError that names the checkpoint.

    The loss of another process and of memory are no fault of its files.
    """
    from yayi_train.engine import of_machine

    try:
        yield
    except Exception as error:
        if isinstance(error, YayiError) or of_machine(error):
            raise
        raise YayiError(
            f"{checkpoint.path}: cannot be loaded, its files are damaged or another version's "
            f"({type(error).__name__}: {in_brief(error)}); remove it to use the one before"
        ) from error


def load(engine: Any, checkpoint: Checkpoint, *, trained_only: bool, universal: bool) -> None:
    """Bring an engine to the state of a checkpoint; YayiError where DeepSpeed does not find it."""
    loaded, _ = engine.load_checkpoint(
        str(checkpoint.path),
        tag=UNIVERSAL if universal else STATE,
        custom_load_fn=_load_trained if trained_only else None,
    )
    if loaded is None:
        raise YayiError(f"{checkpoint.path}: DeepSpeed could not load it; remove it to use the one before")


def _load_trained(src: Mapping[str, Any], dst: Any) -> None:
    """Load the weights of the model `dst` that are trained; ValueError unless `src` has just those.

    DeepSpeed calls it, and would itself pass over names that do not match, as after an update of PEFT.
    """
    found = dst.load_state_dict(src, strict=False)
    trained = {name for name, parameter in dst.named_parameters() if parameter.requires_grad}
    unmatched = sorted(trained.intersection(found.missing_keys)) + sorted(found.unexpected_keys)
    if unmatched:
        raise ValueError(f"{len(unmatched)} names of weights do not match, {unmatched[0]} first")
