"""Arguments and options that several commands have."""

from typing import Annotated, Literal

import typer

from yayi_data.types import Dialect

Inputs = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, globs, URLs, or -.")]

DialectOrAuto = Literal["auto", Dialect]

SourceDialect = Annotated[
    DialectOrAuto, typer.Option("--from", help="The dialect to read; auto finds it in each file.")
]

OnProblem = Annotated[
    Literal["fail", "drop"], typer.Option(help="What to do with a record that has an error.")
]

MoreDomains = Annotated[str | None, typer.Option(metavar="FILE", help="More domain tags, in TOML.")]

Workers = Annotated[int | None, typer.Option(min=1, help="Processes; the output is the same for any number.")]
