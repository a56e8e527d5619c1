"""`yayi-data diff`: what changed between two packed folders, or between two sets of source files."""

from dataclasses import dataclass
from pathlib import Path

from yayi_data.diff.result import Difference
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import MANIFEST
from yayi_data.read import open_sources


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What to compare; `examples` of each kind are shown."""

    a: str
    b: str
    domains: str | None = None
    examples: int = 5


def diff(options: DiffOptions) -> Difference:
    """Compare two packed folders or two sets of files.

    Raises YayiError where one is each, and where either cannot be read: exit code 1 says that they differ.
    """
    packed = [(Path(path) / MANIFEST).is_file() for path in (options.a, options.b)]
    if packed[0] != packed[1]:
        folder, files = (options.a, options.b) if packed[0] else (options.b, options.a)
        open_sources([files])  # tells of a path that is not there
        raise YayiError(
            f"{folder} is a packed folder and {files} is not: compare two of a kind; "
            f"`yayi-data pack {files}` makes a folder of it"
        )
    if options.a == options.b == "-":
        raise YayiError("stdin (-) can be read once only: name it once")
    try:
        if packed[0]:
            from yayi_data.diff.folders import diff_folders

            return diff_folders(options.a, options.b, options.examples)
        from yayi_data.diff.files import diff_files

        return diff_files(options.a, options.b, options.domains, options.examples)
    except DataError as error:
        raise YayiError(str(error)) from error
