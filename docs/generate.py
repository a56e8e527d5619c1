"""Write the generated pages of docs/; with --check, say which differ and exit 1 instead."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py (make docs); edit the code it comes from. -->\n\n"


def help_pages(app: Typer, name: str) -> Iterator[str]:
    """Yield a section for the application itself and for each of its commands, in order."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})
    for command in ["", *get_command(app).commands]:
        call = [command, "--help"] if command else ["--help"]
        page = runner.invoke(app, call, prog_name=name, catch_exceptions=False).output.strip()
        yield f"## {name} {command}".rstrip() + f"\n\n```text\n{page}\n```\n"


def commands() -> str:
    """Return docs/commands.md: every command's help."""
    from yayi_data.cli import app as data_app
    from yayi_train.cli import app as train_app

    pages = [*help_pages(data_app, "yayi-data"), *help_pages(train_app, "yayi-train")]
    return "# Commands\n\n" + NOTE + "\n".join(pages)


def rules() -> str:
    """Return docs/rules.md: every rule of validate, with its examples."""
    from yayi_data.rules import RULES

    table = ["| rule | | |", "| --- | --- | --- |"]
    table += [f"| [{rule.id}](#{rule.id}) | {rule.severity} | {rule.name} |" for rule in RULES.values()]
    sections = [
        f"## {rule.id}\n\n{rule.name} ({rule.severity}). {rule.why}\n\n"
        f"Bad:\n\n```text\n{rule.bad}\n```\n\nGood:\n\n```text\n{rule.good}\n```\n"
        for rule in RULES.values()
    ]
    intro = (
        "Errors break a record's structure and fail the run; warnings fail it with `--strict`. Severities "
        "can be set, and rules left out, as [ci.md](ci.md) shows. `yayi-data rules RULE` prints the same.\n\n"
    )
    return "# Rules\n\n" + NOTE + intro + "\n".join(table) + "\n\n" + "\n".join(sections)


PAGES: dict[str, Callable[[], str]] = {"commands.md": commands, "rules.md": rules}


def main() -> int:
    """Write or check every generated page."""
    check = "--check" in sys.argv[1:]
    stale = [name for name, page in PAGES.items() if not _current(DOCS / name, page())]
    if check:
        for name in stale:
            print(f"docs/{name} does not match the code; run make docs")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def _current(path: Path, page: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == page


if __name__ == "__main__":
    sys.exit(main())
