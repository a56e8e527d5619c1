"""The `yayi-data` command: one file a command, each a few lines over the stage that does the work.

Stages are imported inside the commands, so that `--help` and usage errors answer at once.
"""

import signal
import sys
from typing import Annotated

import typer

from yayi_data import __version__
from yayi_data.cli.convert import convert
from yayi_data.cli.dedup import dedup
from yayi_data.cli.diff import diff
from yayi_data.cli.export import export
from yayi_data.cli.inspect import inspect
from yayi_data.cli.merge_manifests import merge_manifests
from yayi_data.cli.pack import pack
from yayi_data.cli.report import report
from yayi_data.cli.rules import rules
from yayi_data.cli.validate import validate
from yayi_data.cli.verify import verify
from yayi_data.console import run

app = typer.Typer(
    name="yayi-data",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(validate)
app.command()(rules)
app.command()(convert)
app.command()(dedup)
app.command()(diff)
app.command()(pack)
app.command()(merge_manifests)
app.command()(inspect)
app.command()(verify)
app.command()(report)
app.command()(export)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"yayi-data {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, before or after the command.")
    ] = False,
) -> None:
    """Validate, convert and tokenize chat training data into Arrow shards with exact loss masks.

    Data goes to stdout, talk and progress to stderr.
    Exit codes: 0 clean, 1 findings in the data, 2 wrong usage or environment, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as tidily as Ctrl-C
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(
        run(lambda: app(arguments or ["--help"], prog_name="yayi-data", standalone_mode=False), debug=debug)
    )


if __name__ == "__main__":
    main()
