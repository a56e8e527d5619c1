"""Which files a run reads: files, folders, globs, saved datasets, URLs and dataset repositories."""

import glob
import os
from pathlib import Path

import orjson

from yayi_data.errors import YayiError
from yayi_data.remote.failures import reaching
from yayi_data.remote.files import filesystem
from yayi_data.remote.urls import bare, is_url, split_url

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst", ".parquet")
_WANTED = ".json, .jsonl (.gz and .zst included) or .parquet"


def expand(given: str) -> list[str]:
    """Return the files that one input names: itself, or what a folder, a pattern or a repository holds."""
    if given == "-":
        return [given]
    if not given:
        raise YayiError(
            "an input is named by an empty text: name a file or a folder (is a shell variable unset?)"
        )
    if is_url(given):
        return _expand_url(given)
    if Path(given).is_dir():
        below = _files_below(given)
        inside = _saved_dataset(Path(given)) or [path for path in below if _is_data(path.name)]
        if files := sorted(str(path) for path in inside if path.is_file()):
            return files
        raise YayiError(f"{given}: the folder holds no {_WANTED} file")
    if Path(given).exists():
        return [given]
    if any(c in given for c in "*?["):
        if matched := sorted(p for p in glob.glob(given, recursive=True) if Path(p).is_file()):  # noqa: PTH207
            return matched
        raise YayiError(f"{given}: no file matches this pattern")
    raise YayiError(f"{given}: no such file or folder")


def _files_below(folder: str) -> list[Path]:
    """Return the files of a folder and of those in it, hidden ones (.git, .cache) apart."""

    def refuse(error: OSError) -> None:
        raise YayiError(f"{error.filename}: the folder cannot be read: {error.strerror}")

    found = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here, name) for name in names]
    return found


def _is_data(name: str) -> bool:
    return name.endswith(_SUFFIXES)


def _saved_dataset(folder: Path) -> list[Path]:
    """Return the Arrow files of what `datasets` saved with save_to_disk, all splits; none elsewhere."""
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = orjson.loads((folder / "dataset_dict.json").read_bytes())["splits"]
            return [file for split in splits for file in _saved_dataset(folder / Path(split).name)]
        if (folder / "state.json").is_file():
            listed = orjson.loads((folder / "state.json").read_bytes())["_data_files"]
            return [folder / Path(entry["filename"]).name for entry in listed]
    except (ValueError, KeyError, TypeError):
        pass  # another program's file of that name
    return []


def _expand_url(url: str) -> list[str]:
    """List what a URL's pattern matches, or the data files of a folder or dataset repository."""
    parts = split_url(url)
    is_pattern = any(c in parts.path for c in "*[")
    if not is_pattern and (_is_data(parts.path) or parts.scheme in ("http", "https")):
        return [url]
    files, path = filesystem(url)
    with reaching(url, "listed" if is_pattern else "opened"):
        if not is_pattern and not files.isdir(path):
            return [url]
        found = files.glob(path) if is_pattern else filter(_is_data, files.find(path))
        matched = sorted(files.unstrip_protocol(p) for p in found)
    if not matched:
        raise YayiError(
            f"{bare(url)}: nothing matches this pattern"
            if is_pattern
            else f"{bare(url)}: the folder holds no {_WANTED} file"
        )
    return matched
