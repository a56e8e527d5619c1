"""`yayi-data validate`."""

import os
import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from yayi_data.cli.flags import DialectOrAuto, Inputs, MoreDomains, Workers

if TYPE_CHECKING:
    from yayi_data.checking import ValidateOptions, ValidateResult

Format = Literal["text", "json", "github", "sarif", "junit"]
_SHOWN = {"text": 10, "github": 10}
_RULES = "RULE,.."


def validate(
    paths: Inputs,
    dialect: Annotated[
        DialectOrAuto | None,
        typer.Option(help="The dialect of the records; auto finds it in each file."),
    ] = None,
    report: Annotated[Format, typer.Option("--format", help="How the problems are shown.")] = "text",
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the report here, not to stdout.")
    ] = None,
    select: Annotated[
        str | None, typer.Option(metavar=_RULES, help="Only these rules; `schema` stands for all schema-….")
    ] = None,
    ignore: Annotated[str | None, typer.Option(metavar=_RULES, help="All rules but these.")] = None,
    strict: Annotated[bool | None, typer.Option("--strict/--no-strict", help="Warnings fail too.")] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="FILE", help="A JSON report: what it holds is known, and passes.")
    ] = None,
    max_problems: Annotated[
        int | None, typer.Option(min=1, help="Problems shown of each rule; text and github: 10, else all.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records of each file.")] = None,
    domains: MoreDomains = None,
    template: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml", help="Whose control tokens texts must not hold.")
    ] = None,
    workers: Workers = None,
) -> int:
    """Check every record: JSON, encoding, schema, roles, tags, duplicates; each problem at its exact place.

    Defaults may stand in yayi.toml or under [tool.yayi-data] in pyproject.toml. Exits 0 when there is no
    error, 1 otherwise.

    Example: yayi-data validate data/*.json --format github --strict
    """
    from yayi_data.checking import ValidateOptions
    from yayi_data.outfile import refuse_output
    from yayi_data.read import open_sources
    from yayi_data.remote.urls import local_path
    from yayi_data.settings import load_settings

    target = local_path(output) if output else None
    given = {
        "dialect": dialect,
        "select": _listed(select),
        "ignore": _listed(ignore),
        "strict": strict,
        "baseline": baseline,
        "max_problems": max_problems,
        "limit": limit,
        "domains": domains,
        "template": template,
        "workers": workers,
    }
    settings: dict[str, Any] = {"max_problems": _SHOWN.get(report)} | load_settings(Path.cwd())
    settings |= {name: value for name, value in given.items() if value is not None}
    options = ValidateOptions(tuple(paths), **settings, fingerprints=report in ("json", "sarif"))
    if target:
        refuse_output(target, [*(source.path for source in open_sources(paths)), options.baseline or ""])
    result = _watched(options)
    _write(result, report, target)
    return 0 if result.ok else 1


def _listed(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.strip() for name in names.split(",") if name.strip())


def _watched(options: "ValidateOptions") -> "ValidateResult":
    """Validate, with a progress bar where a person watches."""
    from yayi_data.checking import total_bytes, validate_paths
    from yayi_data.progress import Progress

    with Progress("validating", total_bytes(options.paths)) as progress:
        return validate_paths(options, progress.advance)


def _write(result: "ValidateResult", report: Format, output: Path | None) -> None:
    from yayi_data.atomic import write_atomically
    from yayi_data.console import say
    from yayi_data.report import REPORTS, append_step_summary
    from yayi_data.report.text import text
    from yayi_data.report.words import verdict

    on_screen = output is None and sys.stdout.isatty()
    colour, columns = (
        on_screen and "NO_COLOR" not in os.environ,
        get_terminal_size().columns if on_screen else 0,
    )
    written = text(result, colour=colour, columns=columns) if report == "text" else REPORTS[report](result)
    if report == "github":
        append_step_summary(result)
    if output is None:
        sys.stdout.write(written)
    else:
        write_atomically(output, written.encode())
        say(f"{verdict(result)}; see {output}")
