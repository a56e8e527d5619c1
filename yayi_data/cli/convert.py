"""`yayi-data convert`."""

from typing import Annotated, Literal

import typer

from yayi_data.cli.flags import MoreDomains, SourceDialect
from yayi_data.console import json_text, one_line, say
from yayi_data.types import Dialect


def convert(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders, globs, URLs, or -; merged in this order."),
    ],
    to: Annotated[Dialect, typer.Option(help="The dialect to write.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="What to write: .jsonl, .json or .parquet.")],
    source_dialect: SourceDialect = "auto",
    add_domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Put this domain's tag before questions without one.")
    ] = None,
    strip_domain: Annotated[bool, typer.Option("--strip-domain", help="Take known domain tags off.")] = False,
    on_problem: Annotated[
        Literal["fail", "drop"],
        typer.Option(help="What to do with a record that has an error or that the target cannot hold."),
    ] = "fail",
    domains: MoreDomains = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> int:
    """Convert between dialects: alpaca, multi-turn, sharegpt, messages. Several inputs become one output.

    What the target cannot hold ends the conversion with its place, or is dropped and counted.

    Example: yayi-data convert data/*.json --to messages --output all.jsonl
    """
    from yayi_data.converting import ConvertOptions, convert_files
    from yayi_data.remote.urls import local_path

    target = local_path(output)
    options = ConvertOptions(
        paths=tuple(paths),
        to=to,
        output=target,
        source_dialect=source_dialect,
        add_domain=add_domain,
        strip_domain=strip_domain,
        on_problem=on_problem,
        domains=domains,
    )
    ledger = convert_files(options)
    if as_json:
        typer.echo(json_text({"output": str(target)} | ledger.summary(), indent=None), nl=False)
    else:
        say(f"{target}: {ledger.kept:,} of {ledger.read:,} records, in the {to} dialect")
        for reason, count in ledger.dropped.most_common():
            say(f"  dropped {count:,}: {reason}, first at {ledger.examples[reason]}")
        for member, count in ledger.left_out.most_common():
            say(f"  left out the member `{one_line(member)}`, which {to} has no place for, {count:,} times")
    return 0
