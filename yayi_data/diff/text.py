"""A difference for a person: facts, counts, domains side by side, examples with their places."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yayi_data.console import one_line
from yayi_data.diff.result import Counts, Difference, Example, Fact
from yayi_data.shorten import shortened

_KINDS = {
    "rows": {
        "same": "the same ids and mask",
        "remasked": "the same ids, another mask",
        "rerendered": "the same record of a source with the same bytes, other ids",
        "changed": "the same record of a source whose bytes changed, other ids",
        "removed": "only in A",
        "added": "only in B",
    },
    "records": {
        "same": "the same conversation",
        "changed": "the same prompt, another reply",
        "removed": "only in A",
        "added": "only in B",
    },
}
_WIDEST = max(len(kind) for kinds in _KINDS.values() for kind in kinds)
_NARROW = 70  # columns, below which the values of facts stand under their names
_VALUE = 60  # characters of a fact's value


def print_difference(found: Difference) -> None:
    """Print the difference to stdout, as wide as the terminal."""
    console = Console(highlight=False)
    for side, name in zip("AB", found.names, strict=True):
        console.print(Text(f"{side}: {one_line(name)}"), soft_wrap=True)
    if found.same:
        console.print(Text(f"The same: {found.counts['same']:,} {found.unit}, in the same order"))
        return
    for side, faults in zip("AB", found.uncompared, strict=True):
        if faults:
            told = f"not compared: text of {side} in no record; faults: {faults:,}, see yayi-data validate"
            console.print(Text(told, "yellow"), soft_wrap=True)
    if found.facts:
        console.print()
        facts = [(name, _value(a), _value(b)) for fact in found.facts for name, a, b in _parts(fact)]
        console.print(_facts(facts) if console.width >= _NARROW else _narrow_facts(facts))
    console.print(Text(f"\n{found.unit}", "bold"))
    for line in _counts(found):
        console.print(line, soft_wrap=True)
    if found.reordered:
        console.print(Text("Those of the same content stand in another order in B"), soft_wrap=True)
    if found.domains:
        console.print()
        console.print(_domains(found))
    for kind, examples in groupby(found.examples, lambda example: example.kind):
        _print_examples(console, kind, list(examples), found.counts[kind])


def _facts(facts: list[tuple[str, Text, Text]]) -> Table:
    table = _table("made with", "A", "B")
    table.columns[0].no_wrap = True
    for name, *values in facts:
        table.add_row(Text(one_line(name)), *values)
    return table


def _narrow_facts(facts: list[tuple[str, Text, Text]]) -> Text:
    """Return the facts with both values below each name."""
    lines = [Text("made with", "bold")]
    for name, a, b in facts:
        lines += [Text(one_line(name)), Text.assemble("  ", a, " → ", b)]
    return Text("\n").join(lines)


def _parts(fact: Fact) -> Iterator[tuple[str, Any, Any]]:
    """Yield a fact, or where it is a table what differs in it."""
    if not isinstance(fact.a, dict) or not isinstance(fact.b, dict):
        yield fact.name, fact.a, fact.b
        return
    for key in sorted({*fact.a, *fact.b}):
        if fact.a.get(key) != fact.b.get(key):
            yield f"{fact.name} {key}", fact.a.get(key), fact.b.get(key)


def _value(value: Any) -> Text:
    """Return a value cut to a length, a hash by its beginning."""
    text = "–" if value is None else one_line(str(value))
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        text = text[:12]
    return Text(text if len(text) <= _VALUE else f"{text[:_VALUE]}…")


def _counts(found: Difference) -> Iterator[Text]:
    """Yield a line for each kind that there is."""
    for kind, meaning in _KINDS[found.unit].items():
        if found.counts[kind]:
            line = Text(f"{found.counts[kind]:>12,}  {kind:{_WIDEST}}  ")
            yield line.append(meaning, "dim")


def _domains(found: Difference) -> Table:
    """Return the table of domains, the largest first, and of all together."""
    columns = list(next(iter(found.domains.values()))[0])
    table = _table("domain", *(name.replace("_tokens", "") for name in columns))
    for column in table.columns[1:]:
        column.justify = "right"
    total = tuple({c: sum(d[side][c] for d in found.domains.values()) for c in columns} for side in (0, 1))
    for name, (a, b) in sorted(found.domains.items(), key=lambda item: -_most(item[1], columns[-1])):
        table.add_row(Text(one_line(name)), *_arrows(a, b))
    table.add_row(Text("all", "bold"), *_arrows(*total))
    return table


def _most(sides: tuple[Counts, Counts], column: str) -> int:
    return max(side[column] for side in sides)


def _arrows(a: Counts, b: Counts) -> Iterator[Text]:
    for name, count in a.items():
        yield Text(f"{count:,}", "dim") if count == b[name] else Text(f"{count:,} → {b[name]:,}")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _print_examples(console: Console, kind: str, examples: list[Example], total: int) -> None:
    more = f", {len(examples)} shown" if len(examples) < total else ""
    console.print(Text(f"\n{kind} ({total:,}{more})", "bold"))
    for example in examples:
        places = [_place(place) for place in (example.a, example.b) if place]
        figures = "".join(f"  {name} {a:,} → {b:,}" for name, (a, b) in example.figures.items())
        console.print(Text(f"  {' → '.join(dict.fromkeys(places))}{figures}"), soft_wrap=True)
        texts = [text for text in example.texts if text is not None]
        marks = ["-"] * (example.a is not None) + ["+"] * (example.b is not None)
        if len(set(texts)) == len(texts):
            for mark, line in zip(marks, shortened(texts, console.width - 6), strict=True):
                style = "red" if mark == "-" else "green"
                console.print(Text(f"    {mark} {line}", style), soft_wrap=True)


def _place(place: dict[str, Any]) -> str:
    return f"{one_line(place['path'])}:{place['line']}"
