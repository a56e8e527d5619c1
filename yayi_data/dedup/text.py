"""What `yayi-data dedup` prints for a person: how much went, and pairs of texts that are alike."""

from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.text import Text

from yayi_data.console import one_line
from yayi_data.dedup import DedupOptions, ledger_path
from yayi_data.dedup.outcome import REASONS, Deduped, Pair
from yayi_data.shorten import shortened


def print_deduped(result: Deduped, options: DedupOptions) -> None:
    """Print the counts, then the first pairs of each reason, each text on one line as wide as the page."""
    console = Console(highlight=False)
    for line in _counts(result, options):
        console.print(Text(line), soft_wrap=True)
    for reason, pairs in groupby(sorted(result.pairs, key=_rank), lambda pair: pair.reason):
        shown = list(pairs)
        more = f", {len(shown)} shown" if len(shown) < result.dropped[reason] else ""
        console.print(Text(f"\n{reason} ({result.dropped[reason]:,}{more})", "bold"))
        for pair in shown:
            console.print(
                Text(f"  {_place(pair.place)} ~ {_place(pair.twin)}  {pair.similarity:.2f}"), soft_wrap=True
            )
            for line in shortened(tuple(dict.fromkeys(pair.texts)), console.width - 4):
                console.print(Text(f"    {line}", "dim"), soft_wrap=True)


def _rank(pair: Pair) -> int:
    return REASONS.index(pair.reason)


def _counts(result: Deduped, options: DedupOptions) -> Iterator[str]:
    kept = "would be kept" if options.report else "kept"
    yield (
        f"{one_line(str(options.output))}: {result.kept:,} of {result.read:,} records {kept}, "
        f"alike from {options.threshold:g} on"
    )
    wide = max(map(len, result.dropped), default=0)
    for reason, count in result.dropped.most_common():
        yield f"  {reason:{wide}}  {count:>8,}"
    if result.dropped:
        yield f"The line and the twin of each: {one_line(str(ledger_path(options)))}"


def _place(place: dict[str, object]) -> str:
    return f"{one_line(str(place['path']))}:{place['line']}"
