"""`yayi-data dedup`."""

from pathlib import Path
from typing import Annotated

import typer

from yayi_data.cli.flags import MoreDomains, OnProblem, SourceDialect, Workers
from yayi_data.remote.urls import local_path


def dedup(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders, globs, URLs, or -; taken in this order."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            parser=local_path,
            help="The kept records: .jsonl or .json; with --report the ledger.",
        ),
    ],
    threshold: Annotated[
        float,
        typer.Option(
            min=0.1, max=1, help="Jaccard similarity of character 5-grams from which on texts repeat."
        ),
    ] = 0.8,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="An evaluation set: what overlaps it goes; may be given again."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Drop nothing: write the ledger to FILE, exit 1 on repeats.")
    ] = False,
    source_dialect: SourceDialect = "auto",
    on_problem: OnProblem = "fail",
    domains: MoreDomains = None,
    workers: Workers = None,
    max_examples: Annotated[int, typer.Option(min=0, help="Pairs shown of each reason.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> int:
    """Drop records that repeat an earlier one, exactly or nearly, or that overlap an evaluation set.

    The first of a group is kept, as it was; FILE's ledger (NAME.dropped.jsonl) names the twin of each that
    goes.

    Example: yayi-data dedup train.jsonl --against eval.jsonl --output kept.jsonl
    """
    from yayi_data.console import json_text
    from yayi_data.dedup import DedupOptions, dedup
    from yayi_data.dedup.text import print_deduped

    options = DedupOptions(
        paths=tuple(paths),
        output=output,
        against=tuple(against or ()),
        threshold=threshold,
        report=report,
        source_dialect=source_dialect,
        on_problem=on_problem,
        domains=domains,
        workers=workers,
        examples=max_examples,
    )
    result = dedup(options)
    if as_json:
        typer.echo(json_text({"output": str(output)} | result.summary(), indent=None), nl=False)
    else:
        print_deduped(result, options)
    return 1 if report and result.repeats else 0
