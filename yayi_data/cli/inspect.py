"""`yayi-data inspect`."""

from typing import Annotated

import typer


def inspect(
    path: Annotated[str, typer.Argument(metavar="DIR|PATH", help="A packed folder, or raw files.")],
    row: Annotated[int | None, typer.Option(min=0, help="Show this row, 0-based.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="FILE:LINE", help="Show the row that came from this source line.")
    ] = None,
    seq_len: Annotated[int, typer.Option(min=1, help="Row length for the packing figures.")] = 2048,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="DIR|ID", help="For raw files: the tokenizer to pack with.")
    ] = None,
    template: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="For raw files: the template.")
    ] = "yayi",
    borders: Annotated[bool, typer.Option("--borders", help="Mark the borders between tokens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Summarise a packed folder, or show one row with its supervised text marked and its source line.

    Example: yayi-data inspect packed --row 0
    """
    from yayi_data.inspect import InspectOptions, inspect

    inspect(path, InspectOptions(row, source, seq_len, tokenizer, template, borders, as_json))
    return 0
