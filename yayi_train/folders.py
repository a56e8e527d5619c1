"""A folder appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yayi_data.atomic import fsync_path
from yayi_data.errors import YayiError


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `output` when the block ends well, and is removed otherwise.

    An `output` that exists is refused, except an empty folder.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise YayiError(f"{output} exists: choose another --output, or remove it")
    whole = output.resolve()  # "." has no name
    partial = whole.with_name(f"{whole.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        fsync_files(partial)
        partial.rename(whole)
    except OSError as error:
        raise YayiError(f"{output}: cannot write it: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fsync_files(folder: Path) -> None:
    """Bring a folder's files to the disk, and then the list of them."""
    for path in folder.rglob("*"):
        if path.is_file():
            fsync_path(path)
    fsync_path(folder)
