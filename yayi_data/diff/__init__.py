"""`yayi-data diff`: what changed between two packed folders, or between two sets of source files."""

from dataclasses import dataclass

from yayi_data.diff.result import Difference
from yayi_data.errors import DataError, YayiError
from yayi_data.read import open_sources
from yayi_data.remote.mirror import find_packed
from yayi_data.remote.urls import bare


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
    if options.a == options.b == "-":
        raise YayiError("stdin (-) can be read once only: name it once")
    try:
        a, b = find_packed(options.a), find_packed(options.b)
        if a and b:
            from yayi_data.diff.folders import diff_folders

            return diff_folders((a, b), (bare(options.a), bare(options.b)), options.examples)
        if a or b:
            raise _two_kinds(*((options.a, options.b) if a else (options.b, options.a)))
        from yayi_data.diff.files import diff_files

        return diff_files(options.a, options.b, options.domains, options.examples)
    except DataError as error:
        raise YayiError(str(error)) from error


def _two_kinds(folder: str, files: str) -> YayiError:
    open_sources([files])  # tells of a path that is not there
    return YayiError(
        f"{bare(folder)} is a packed folder and {bare(files)} is not: compare two of a kind; "
        f"`yayi-data pack {bare(files)}` makes a folder of it"
    )
