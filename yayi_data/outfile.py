"""Where a file may be written: over no folder, over no input, into no packed folder."""

from collections.abc import Iterable
from pathlib import Path

from yayi_data.errors import YayiError
from yayi_data.manifest import FORMAT, MANIFEST


def refuse_output(path: Path, inputs: Iterable[str] = ()) -> None:
    """Raise YayiError where a file to be written is a folder, is an input, or lies in a packed folder."""
    if path.is_dir():
        raise YayiError(f"{path}: is a folder; --output names a file")
    if path.is_file() and any(Path(name).exists() and path.samefile(name) for name in inputs):
        raise YayiError(f"{path}: is an input too; choose another --output")
    refuse_packed(path)


def refuse_packed(path: Path) -> None:
    """Raise YayiError where a path to be written lies in a packed folder."""
    for parent in path.resolve().parents:
        if _is_packed(parent):
            raise YayiError(
                f"{path}: lies in the packed folder {parent.name}, which holds what its manifest lists and "
                "no more; choose another --output"
            )


def _is_packed(folder: Path) -> bool:
    """Tell a packed folder from another tool's that has a manifest.json."""
    manifest = folder / MANIFEST
    return manifest.is_file() and f'"{FORMAT}"'.encode() in manifest.read_bytes()
