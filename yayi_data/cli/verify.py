"""`yayi-data verify`."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that pack wrote, or its s3:// URL.")],
) -> int:
    """Check every file of a packed folder against its manifest, and the manifest against its digest.

    Exit 0 when all agree, 1 with one line a finding otherwise. Of an s3:// URL every byte is fetched anew.

    Example: yayi-data verify packed
    """
    from tempfile import TemporaryDirectory

    from yayi_data.remote.mirror import download, scratch_folder
    from yayi_data.remote.urls import bare, is_url

    if not is_url(folder):
        return _verify(Path(folder), str(Path(folder)))
    with TemporaryDirectory(prefix="verify-", dir=scratch_folder()) as scratch:
        download(folder, Path(scratch))
        return _verify(Path(scratch), bare(folder))


def _verify(folder: Path, name: str) -> int:
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
    typer.echo(visible(f"{name}: clean, {whole.rows:,} conversations, {whole.tokens:,} tokens"))
    return 0
