"""Which files a run reads: files, folders, globs, saved datasets, URLs and dataset repositories."""

import glob
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from yayi_data.errors import YayiError

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst", ".parquet")
_WANTED = ".json, .jsonl (.gz and .zst included) or .parquet"


def expand(given: str) -> list[str]:
    """Return the files that one input names: itself, or what a folder, a pattern or a repository holds."""
    if given == "-":
        return [given]
    if "://" in given:
        return _expand_url(given)
    if Path(given).is_dir():
        inside = _saved_dataset(Path(given)) or [p for p in Path(given).rglob("*") if _is_data(p.name)]
        if files := sorted(str(p) for p in inside if p.is_file()):
            return files
        raise YayiError(f"{given}: the folder holds no {_WANTED} file")
    if Path(given).exists():
        return [given]
    if any(c in given for c in "*?["):
        if matched := sorted(p for p in glob.glob(given, recursive=True) if Path(p).is_file()):  # noqa: PTH207
            return matched
        raise YayiError(f"{given}: no file matches this pattern")
    raise YayiError(f"{given}: no such file or folder")


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
    parts = urlsplit(url)
    is_pattern = any(c in parts.path for c in "*[")
    if not is_pattern and (_is_data(parts.path) or parts.scheme in ("http", "https")):
        return [url]
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(url)
        if not is_pattern and not filesystem.isdir(path):
            return [url]
        found = filesystem.glob(path) if is_pattern else filter(_is_data, filesystem.find(path))
        matched = sorted(filesystem.unstrip_protocol(p) for p in found)
    except Exception as error:
        failed = "listed" if is_pattern else "opened"
        raise YayiError(f"{bare(url)}: cannot be {failed}: {why(error)}") from error
    if not matched:
        raise YayiError(
            f"{bare(url)}: nothing matches this pattern"
            if is_pattern
            else f"{bare(url)}: the folder holds no {_WANTED} file"
        )
    return matched


def bare(url: str) -> str:
    """Return a URL without user, password, query and fragment, where secrets live."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def why(error: Exception) -> str:
    """Say what went wrong without the words of a URL's backend, which may repeat the URL's secrets."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, ImportError):
        return "a package for this kind of URL is missing: pip install what fsspec names for it"
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
