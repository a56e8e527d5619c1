"""`yayi-data verify`."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that pack wrote.")],
) -> int:
    """Check every file of a packed folder against its manifest, and the manifest against its digest.

    Exit 0 when all agree, 1 with one line a finding otherwise.

    Example: yayi-data verify packed
    """
    from yayi_data.console import visible
    from yayi_data.manifest import load
    from yayi_data.verify import verify

    findings = list(verify(folder))
    for finding in findings:
        typer.echo(visible(f"{finding.file}: {finding.message}"))
    if not findings:
        manifest = load(folder)
        typer.echo(
            f"{folder}: clean, {len(manifest.shards)} shards, {manifest.rows:,} rows, {manifest.tokens:,} tokens"
        )
    return 1 if findings else 0
