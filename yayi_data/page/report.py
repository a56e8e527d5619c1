"""`yayi-data report`: a packed folder or a training run -> one page."""

from pathlib import Path

from yayi_data.atomic import write_atomically
from yayi_data.errors import YayiError
from yayi_data.manifest import MANIFEST
from yayi_data.outfile import refuse_output
from yayi_data.page.html import page
from yayi_data.page.packed import packed_facts
from yayi_data.page.problems import load_problems
from yayi_data.page.run import RUN, run_facts
from yayi_data.remote.mirror import packed_at
from yayi_data.remote.urls import bare, is_url


def report(place: str | Path, output: Path, problems: Path | None = None) -> int:
    """Write the page of a packed folder (its path or s3 URL) or of a run, and return its bytes.

    `problems` is a JSON report of validate on a packed folder's sources. Raises YayiError where the folder is
    neither or the output is in the way, DataError where the folder is damaged.
    """
    if output.suffix not in (".html", ".htm"):
        raise YayiError(f"{output}: the name of --output must end in .html")
    refuse_output(output, [str(problems)] if problems else [])
    folder = packed_at(str(place))
    name = bare(str(place)) if is_url(str(place)) else folder.resolve().name
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
        facts = packed_facts(folder, name, load_problems(problems) if problems else None)
        content = page("packed.html", packed=facts)
    write_atomically(output, content)
    return len(content)
