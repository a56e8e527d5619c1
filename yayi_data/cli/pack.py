"""`yayi-data pack`."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def pack(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, globs, URLs, or -.")],
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
    on_problem: Annotated[
        Literal["fail", "drop"], typer.Option(help="What to do with a record that has an error.")
    ] = "fail",
    max_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fail where a larger share of the records is dropped.")
    ] = None,
    domains: Annotated[Path | None, typer.Option(metavar="FILE", help="More domain tags, in TOML.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; the output is the same for any number.")
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
    from yayi_data.pipeline import PackOptions, pack
    from yayi_data.remote import is_url
    from yayi_data.summary import print_packed
    from yayi_data.upload import pack_to, scratch_of

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
        tokenizer_engine=tokenizer_engine,
        overwrite=overwrite,
    )
    packed = pack_to(output, options) if is_url(output) else pack(options)
    print_packed(packed, as_json=as_json)
    return 0
