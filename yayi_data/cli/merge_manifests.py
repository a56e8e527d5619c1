"""`yayi-data merge-manifests`."""

from pathlib import Path
from typing import Annotated

import typer


def merge_manifests(
    output: Annotated[Path, typer.Argument(metavar="DIR", help="The --output of the parts.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's summary as JSON.")] = False,
) -> int:
    """Make the packed folder of what `pack --partition I/N` left, when all parts are done.

    The folder is byte for byte that of one run. A part that is missing, damaged or still running is named,
    and nothing is changed then.

    Example: yayi-data merge-manifests packed
    """
    from yayi_data.parts import merge
    from yayi_data.summary import print_packed

    print_packed(merge(output), as_json=as_json)
    return 0
