"""`yayi-data report`."""

from pathlib import Path
from typing import Annotated

import typer

from yayi_data.remote.urls import local_path


def report(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A packed folder or its s3:// URL, or a run's folder.")
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", parser=local_path, help="The page to write, such as report.html."),
    ],
    problems: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Show these problems too: what validate --format json wrote of the sources."
        ),
    ] = None,
) -> int:
    """Show a packed folder or a training run as one page, which opens in any browser and asks for nothing.

    A packed folder: totals, domains, lengths, packing, drops, and sampled conversations with their masks. A
    run: loss in all and by domain, learning rate, speed, and the resolved config.

    Example: yayi-data report packed --output report.html
    """
    from yayi_data.console import say
    from yayi_data.page.report import report

    size = report(folder, output, problems)
    say(f"{output}: {size / 1e3:,.0f} kB; open it in a browser")
    return 0
