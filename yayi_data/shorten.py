"""Texts of records cut to one line each, at the place where they part."""

from collections.abc import Iterator, Sequence

from yayi_data.console import one_line

_LEAD = 12  # characters shown of what the texts begin with alike


def shortened(texts: Sequence[str], width: int) -> Iterator[str]:
    """Yield each text on one line of at most `width` columns, from a little before where they part."""
    from rich.text import Text  # slow to import

    same = next((i for i, found in enumerate(zip(*texts, strict=False)) if len(set(found)) > 1), 0)
    start = max(0, same - _LEAD) if len(texts) > 1 else 0
    for text in texts:
        shown = Text(("…" if start else "") + one_line(text[start : start + width + 1]))
        shown.truncate(max(8, width), overflow="ellipsis")
        yield shown.plain
