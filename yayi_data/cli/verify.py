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
    from yayi_data.progress import Progress
    from yayi_data.verify import verify

    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with Progress("verifying", total) as progress:
        findings = verify(folder, progress.advance)
    for finding in findings:
        typer.echo(visible(f"{finding.file}: {finding.message}"))
    if findings:
        return 1
    whole = load(folder)
    typer.echo(visible(f"{folder}: clean, {whole.rows:,} conversations, {whole.tokens:,} tokens"))
    return 0
