"""`yayi-data export`."""

from typing import Annotated

import typer


def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that pack wrote, or its s3:// URL.")],
    output: Annotated[str, typer.Option(metavar="OUT", help="The folder (--labels) or file to write.")],
    labels: Annotated[
        bool, typer.Option("--labels", help="A folder with input_ids and labels, for transformers' Trainer.")
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="One file with the columns of the shards.")
    ] = False,
    messages: Annotated[
        bool, typer.Option("--messages", help="The rows decoded to conversations: .jsonl, .json, .parquet.")
    ] = False,
) -> int:
    """Write a packed folder in another form: as labels, as parquet, or as messages again.

    Messages are decoded from the ids; a conversion of the sources is closer to them. How many rows give the
    same ids and mask when they are packed again is counted.

    Example: yayi-data export packed --labels --output labels
    """
    from yayi_data.console import say
    from yayi_data.errors import YayiError
    from yayi_data.export import export
    from yayi_data.remote.mirror import packed_at
    from yayi_data.remote.urls import local_path

    asked = [name for name, on in {"labels": labels, "parquet": parquet, "messages": messages}.items() if on]
    if len(asked) != 1:
        raise YayiError("export needs exactly one of --labels, --parquet and --messages")
    target = local_path(output)
    exported = export(packed_at(folder), asked[0], target)
    say(f"{target}: {exported.rows:,} conversations as {asked[0]}")
    for reason, count in exported.dropped.most_common():
        say(f"  dropped {count:,}: {reason}")
    if lossy := exported.rows - exported.again:
        say(f"  {lossy:,} of them give other ids when they are packed again: decoding changed their text")
    return 0
