"""`yayi-data pack`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from yayi_data.cli.flags import Inputs, OnProblem


def pack(
    paths: Inputs,
    tokenizer: Annotated[
        str, typer.Option(metavar="DIR|ID", help="Folder with a tokenizer.json, or a hub ID.")
    ],
    output: Annotated[str, typer.Option(metavar="DIR|URL", help="The folder or s3:// prefix to write.")],
    template: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="How conversations are rendered.")
    ] = "yayi",
    max_length: Annotated[int, typer.Option(min=1, help="Longest conversation, in tokens.")] = 2048,
    on_long: Annotated[
        Literal["drop", "truncate", "fail"],
        typer.Option(help="What to do with a longer one; truncate cuts whole exchanges from its end."),
    ] = "drop",
    train_on: Annotated[
        Literal["all", "last"], typer.Option(help="Supervise all replies or the last.")
    ] = "all",
    on_problem: OnProblem = "fail",
    max_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail where a larger share of the records is dropped.")
    ] = None,
    domains: Annotated[Path | None, typer.Option(metavar="FILE", help="More domain tags, in TOML.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, with Ray tasks at a time; the output is the same for any number."
        ),
    ] = None,
    runner: Annotated[
        Literal["local", "ray"], typer.Option(help="Where partitions run: here, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The Ray cluster's head; RAY_ADDRESS, or this machine alone, otherwise."
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I (from 0) of N; merge-manifests ends the run."),
    ] = None,
    tokenizer_engine: Annotated[
        Literal["auto", "fast", "reference"],
        typer.Option(help="The fast engine is used once it agreed with the reference."),
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that pack wrote.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's summary as JSON.")] = False,
) -> int:
    """Tokenize conversations into Arrow shards with domain tags and loss masks.

    The folder appears only when it is whole; a run that was interrupted continues where it stopped.

    Example: yayi-data pack data/*.json --tokenizer ./YaYi-7B --output packed
    """
    from yayi_data.errors import YayiError
    from yayi_data.pack_to_url import pack_to, scratch_of
    from yayi_data.pipeline import PackOptions, pack
    from yayi_data.remote.urls import is_url
    from yayi_data.summary import print_packed, print_part

    if partition is not None and is_url(output):
        raise YayiError("--partition packs into a folder that all parts share: give a local --output")
    if address and runner != "ray":
        raise YayiError("--address names a Ray cluster: add --runner ray, or leave it out")
    options = PackOptions(
        paths=tuple(paths),
        tokenizer=tokenizer,
        output=scratch_of(output) if is_url(output) else Path(output),
        template=template,
        max_length=max_length,
        on_long=on_long,
        train_on=train_on,
        on_problem=on_problem,
        max_drop=max_drop,
        domains=domains,
        limit=limit,
        workers=workers,
        runner=runner,
        address=address,
        tokenizer_engine=tokenizer_engine,
        overwrite=overwrite,
    )
    if partition is not None:
        from yayi_data.parts import pack_part, part_of

        print_part(pack_part(options, part_of(partition)), as_json=as_json)
    else:
        print_packed(pack_to(output, options) if is_url(output) else pack(options), as_json=as_json)
    return 0
