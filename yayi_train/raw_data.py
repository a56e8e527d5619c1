"""--data-path -> a packed folder: as it is, or raw files packed first, once a node."""

import contextlib
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock

from yayi_data.console import say
from yayi_data.errors import YayiError
from yayi_data.manifest import MANIFEST
from yayi_data.remote.mirror import open_mirror
from yayi_data.remote.urls import bare, is_s3, is_url
from yayi_train.config import Config


def packed_folder(config: Config, output: Path) -> Path:
    """Return the packed folder of a run's data; raw files are packed into `output`/data/<fingerprint> first.

    The first process to come packs, under a lock, while the others of its node wait for it; no process group
    exists yet.
    """
    there = packed_already(config.data.path)
    if there is not None:
        return there
    folder = output / "data" / _fingerprint(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        with lock:
            if not (folder / MANIFEST).is_file():
                say(f"packing {bare(config.data.path)} into {folder}")
                _pack(config, folder)
    except YayiError:
        _leave_nothing(Path(lock.lock_file), folder.parent, output)
        raise
    return folder


def packed_already(data_path: str) -> Path | None:
    """Return the packed folder that --data-path names, of an s3 URL the local mirror; None for raw files."""
    if is_s3(data_path):
        return open_mirror(data_path)
    return Path(data_path) if (Path(data_path) / MANIFEST).is_file() else None


def _leave_nothing(lock_file: Path, *folders: Path) -> None:
    """Remove the lock and the folders that packing would have filled, unless something else is in them."""
    lock_file.unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _pack(config: Config, folder: Path) -> None:
    from yayi_data.finish import DROPPED
    from yayi_data.pipeline import PackOptions, pack
    from yayi_data.summary import hints

    given = asdict(config.pack)
    given["domains"] = Path(given["domains"]) if given["domains"] else None
    done = pack(PackOptions(paths=(config.data.path,), tokenizer=config.model.path, output=folder, **given))
    for hint in hints(done.manifest, f"{folder}/{DROPPED}"):
        say(hint)


def _fingerprint(config: Config) -> str:
    """Return a name for what the raw files and the options are now; sizes and times stand for the content."""
    named = (f"{config.model.path}/tokenizer.json", config.pack.domains, config.pack.template)
    files = [Path(name) for name in named if name]
    facts = {
        "data": _state(config.data.path),
        "tokenizer": config.model.path,
        "pack": asdict(config.pack),
        "files": [_state_of(path) for path in files if path.is_file()],
    }
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _state(pattern: str) -> Any:
    """Return what tells a file, folder, glob or ID apart from its later self."""
    path = Path(pattern)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    elif path.is_file():
        files = [path]
    else:
        anchor = Path(path.anchor)
        files = sorted(anchor.glob(str(path.relative_to(anchor)))) if any(c in pattern for c in "*?[") else []
    return [pattern, *map(_state_of, files)]


def _state_of(file: Path) -> list[str | int]:
    return [str(file), file.stat().st_size, file.stat().st_mtime_ns]


def refuse_missing(data_path: str) -> None:
    """Raise YayiError where --data-path names nothing; globs and URLs are left to pack."""
    if is_url(data_path) or any(c in data_path for c in "*?["):
        return
    if not Path(data_path).exists():
        raise YayiError(
            f"--data-path {data_path}: there is no such file or folder; give a packed folder or raw files"
        )
