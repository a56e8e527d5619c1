"""`yayi-data diff`."""

from typing import Annotated

import typer


def diff(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="A packed folder or its s3:// URL; or files: a path as elsewhere."),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind.")],
    max_examples: Annotated[int, typer.Option(min=0, help="Examples shown of each kind.")] = 5,
    domains: Annotated[
        str | None, typer.Option(metavar="FILE", help="For files: more domain tags, in TOML.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show what changed between two packed folders, or two source files: options, records, domains.

    Exits 0 when they are the same, 1 when they differ, 2 when they cannot be compared.

    Example: yayi-data diff packed-monday packed-friday
    """
    from yayi_data.console import json_text
    from yayi_data.diff import DiffOptions, diff

    found = diff(DiffOptions(a, b, domains, max_examples))
    if as_json:
        typer.echo(json_text(found.to_json()), nl=False)
    else:
        from yayi_data.diff.text import print_difference

        print_difference(found)
    return 0 if found.same else 1
