"""What both command lines share: --version, --debug, and one way to end."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from yayi_data import __version__
from yayi_data.console import say
from yayi_data.errors import YayiError

_INTERRUPTED = 130


def command_line(name: str, about: str) -> typer.Typer:
    """Return a command line that has no commands yet; `about` is what its --help says."""
    app = typer.Typer(
        name=name,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    def print_version(asked: bool) -> None:
        if asked:
            typer.echo(f"{name} {__version__}")
            raise typer.Exit

    @app.callback(help=about)
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", help="Show tracebacks, before or after the command.")
        ] = False,
    ) -> None:
        pass  # --debug is taken out by `run_main`, so that it may stand anywhere

    return app


def call(app: typer.Typer, arguments: list[str]) -> object:
    """Call a command line, with --help where no arguments are given; what goes wrong is raised."""
    return app(arguments or ["--help"], prog_name=app.info.name, standalone_mode=False)


def run_main(command: Callable[[list[str], bool], object]) -> NoReturn:
    """Run a command with this process's arguments, and whether --debug was among them; exit with its code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(run(lambda: command(arguments, debug), debug=debug))


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and return its exit code; an expected failure becomes one line on stderr unless `debug`.

    The codes: 0 or what the command returns, 1 and 2 as the error says, 130 interrupted, and 141, as a shell
    reports a broken pipe, when the reader of our stdout has gone (`| head`).
    """
    for stream in ("stdin", "stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever called us
            setattr(sys, stream, open(os.devnull, "r+"))  # noqa: SIM115, PTH123 - as long as the process
    try:
        result = command()
        sys.stdout.flush()
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        return _told(ended.__context__)  # which typer makes an exit code of 1 of
    except (YayiError, typer.TyperException, OSError, KeyboardInterrupt, typer.Abort) as error:
        if debug:
            raise
        return _told(error)
    if result == _INTERRUPTED:
        say("interrupted")  # typer turned Ctrl-C into this code, and says nothing
    return result if isinstance(result, int) else 0


def _told(error: BaseException) -> int:
    """Say in one line what ended the command and return the exit code for it."""
    match error:
        case YayiError():
            say(f"error: {error}")
            return error.exit_code
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            hint = f"; see {context.command_path} --help" if context else ""
            say(f"error: {error.format_message().rstrip('.')}{hint}")
            return 2
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            say(f"error: {place}{error.strerror or error}")
            return 2
        case _:
            say("interrupted")
            return _INTERRUPTED
