"""`yayi-data report`: a packed folder or a training run -> one page."""

from pathlib import Path

from yayi_data.atomic import write_atomically
from yayi_data.errors import YayiError
from yayi_data.manifest import FORMAT, MANIFEST
from yayi_data.page.html import page
from yayi_data.page.packed import packed_facts
from yayi_data.page.problems import load_problems
from yayi_data.page.run import RUN, run_facts


def report(folder: Path, output: Path, problems: Path | None = None) -> int:
    """Write the page of a packed folder or of a run, and return its bytes.

    `problems` is a JSON report of validate on a packed folder's sources. Raises YayiError where the folder is
    neither or the output is in the way, DataError where the folder is damaged.
    """
    _refuse_output(folder, output)
    if problems and output.exists() and problems.exists() and output.samefile(problems):
        raise YayiError(f"{output}: is the --problems file too; choose another --output")
    if (folder / RUN).is_file() and not (folder / MANIFEST).is_file():
        if problems:
            raise YayiError(f"{folder}: is a run; --problems belongs to a packed folder")
        content = page("run.html", run=run_facts(folder))
    elif folder.is_dir() and not (folder / MANIFEST).is_file():
        raise YayiError(
            f"{folder}: holds neither {MANIFEST} nor {RUN}; give a folder that `yayi-data pack` or "
            "`yayi-train` wrote"
        )
    else:
        facts = packed_facts(folder, load_problems(problems) if problems else None)
        content = page("packed.html", packed=facts)
    write_atomically(output, content)
    return len(content)


def _refuse_output(folder: Path, output: Path) -> None:
    if output.suffix not in (".html", ".htm"):
        raise YayiError(f"{output}: the name of --output must end in .html")
    if output.is_dir():
        raise YayiError(f"{output}: is a folder; --output names a file")
    for parent in output.resolve().parents:
        if (parent / MANIFEST).is_file() and (parent == folder.resolve() or _is_packed(parent)):
            raise YayiError(
                f"{output}: lies in the packed folder {parent.name}, which holds what its manifest lists and "
                "no more; choose another --output"
            )


def _is_packed(folder: Path) -> bool:
    """Tell a packed folder from another tool's that has a manifest.json."""
    return f'"{FORMAT}"'.encode() in (folder / MANIFEST).read_bytes()
