"""`yayi-data inspect`: a packed folder in figures, or one row with its mask made visible."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tokenizers
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from yayi_data import plan
from yayi_data.console import json_text, one_line, say, visible
from yayi_data.detokenize import Span, spans, supervised_texts, token_texts
from yayi_data.errors import YayiError
from yayi_data.finish import DROPPED, TOKENIZER
from yayi_data.index import Index, open_index
from yayi_data.lengths import length_bins
from yayi_data.manifest import Manifest, load
from yayi_data.pipeline import PackOptions, pack
from yayi_data.remote.mirror import find_packed
from yayi_data.remote.urls import bare, is_url
from yayi_data.shard import Shards
from yayi_data.shard.columns import Row
from yayi_data.summary import describe, domain_table, hints, summary

_BINS = 16  # lines of the histogram, at most


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What `yayi-data inspect` was asked for; see its --help."""

    row: int | None = None
    source: str | None = None
    seq_len: int = 2048
    tokenizer: str | None = None
    template: str = "yayi"
    borders: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Folder:
    """A packed folder; `name` is what the person called it, or the raw files that were packed into it."""

    path: Path
    name: str
    manifest: Manifest
    index: Index


def inspect(path: str, options: InspectOptions) -> None:
    """Print the summary of a packed folder or one of its rows; raw files are packed aside first."""
    if options.row is not None and options.source is not None:
        raise YayiError("--row and --source exclude each other: choose one")
    there = find_packed(path)
    if there is not None:
        if options.tokenizer is not None or options.template != InspectOptions().template:
            raise YayiError(
                f"{bare(path)}: is packed already: leave out --tokenizer and --template, for raw files"
            )
        _show(there, bare(path), options)
        return
    if not is_url(path) and path != "-" and not Path(path).exists() and not set("*?[") & set(path):
        raise YayiError(f"{path}: no such file or folder")
    if options.tokenizer is None:
        raise YayiError(f"{bare(path)}: is not a packed folder; for raw files give --tokenizer too")
    with tempfile.TemporaryDirectory(prefix="yayi-inspect-") as scratch:
        output = Path(scratch) / "packed"
        packed = pack(
            PackOptions(
                paths=(path,),
                tokenizer=options.tokenizer,
                output=output,
                template=options.template,
                on_problem="drop",
            )
        )
        _show(output, f"{bare(path)}, as pack would write it", options)
        for hint in hints(packed.manifest):
            say(hint)


def _show(path: Path, name: str, options: InspectOptions) -> None:
    manifest = load(path)
    folder = _Folder(path, name, manifest, open_index(path, manifest))
    if options.row is None and options.source is None:
        figures = _figures(folder, options.seq_len)
        print(json_text(figures), end="") if options.as_json else _print_figures(folder, figures)
        return
    shards = Shards(path, manifest)
    number = _find(folder, shards, options.source) if options.source else options.row
    assert number is not None
    row = _row(folder, shards, number)
    if options.as_json:
        print(json_text(_row_json(folder, number, row), indent=None), end="")
    else:
        _print_row(folder, number, row, borders=options.borders)


def _figures(folder: _Folder, seq_len: int) -> dict[str, Any]:
    """Return the manifest's summary, the spread of lengths, and what packing at `seq_len` would fill."""
    lengths = folder.index.tokens
    quantiles = np.quantile(lengths, [0, 0.5, 0.95, 1], method="inverted_cdf")
    fitting = lengths[lengths <= seq_len]
    rows = plan.count_rows(fitting, seq_len, seed=0, epoch=0)
    return {
        **summary(folder.manifest),
        "lengths": dict(zip(("min", "median", "p95", "max"), map(int, quantiles), strict=True)),
        "packing": {
            "seq_len": seq_len,
            "rows": rows,
            "utilisation": round(int(fitting.sum()) / (rows * seq_len), 4) if rows else 0.0,
            "too_long": len(lengths) - len(fitting),
        },
    }


def _print_figures(folder: _Folder, figures: dict[str, Any]) -> None:
    console = Console(highlight=False)
    manifest, lengths, packing = folder.manifest, figures["lengths"], figures["packing"]
    console.print(describe(folder.name, manifest), soft_wrap=True)
    console.print(domain_table(manifest, console.width))
    console.print(
        f"Lengths: median {lengths['median']:,} tokens, 95% up to {lengths['p95']:,}, "
        f"from {lengths['min']:,} to {lengths['max']:,}",
        soft_wrap=True,
    )
    for line in _histogram(folder.index.tokens, min(40, max(10, console.width - 30))):
        console.print(line)
    long = f"; {packing['too_long']:,} longer than that" if packing["too_long"] else ""
    console.print(
        f"Packed at {packing['seq_len']:,}: {packing['rows']:,} {'row' if packing['rows'] == 1 else 'rows'}, "
        f"{packing['utilisation']:.2%} of their tokens used{long}",
        soft_wrap=True,
    )


def _histogram(lengths: NDArray[np.int32], width: int) -> Iterator[str]:
    """Yield a bar a bin of lengths, the fullest as wide as `width` characters."""
    bins = [
        one for one in length_bins(lengths, _BINS) if lengths.min() <= one.high and one.low <= lengths.max()
    ]
    fullest = max(one.number for one in bins)
    for low, high, number in bins:
        bar = "█" * round(width * number / fullest) or ("▏" if number else "")
        yield f"  {low:>7,} – {high:<7,} {bar} {number:,}"


def _find(folder: _Folder, shards: Shards, place: str) -> int:
    """Return the row that came from FILE:LINE; YayiError tells where that line's record went instead."""
    name, _, line = place.rpartition(":")
    if not name or not line.isdigit():
        raise YayiError(f"--source {place}: expected FILE:LINE, such as data.jsonl:17")
    source = _source(folder, name)
    index = folder.index
    for number in range(len(index)):
        row = shards.row(int(index.shard[number]), int(index.row[number]))
        if row.line == int(line) and row.source == source:
            return number
    raise YayiError(f"--source {place}: {_fate(folder, folder.manifest.sources[source].name, int(line))}")


def _source(folder: _Folder, name: str) -> int:
    """Return the number of the source of that name, or of the only one whose file is called so."""
    names = [source.name for source in folder.manifest.sources]
    if name in names:
        return names.index(name)
    alike = [i for i, known in enumerate(names) if Path(name).name == Path(known).name]
    if len(alike) != 1:
        shown = [one_line(names[i]) for i in alike or range(len(names))][:5]
        found = (
            f"several sources are called {one_line(name)}"
            if alike
            else f"no source is called {one_line(name)}"
        )
        raise YayiError(f"--source: {found}; name one of {', '.join(shown)}")
    return alike[0]


def _fate(folder: _Folder, name: str, line: int) -> str:
    """Say what became of the record at a line that has no row."""
    with (folder.path / DROPPED).open("rb") as drops:
        for drop in map(orjson.loads, drops):
            if drop["line"] == line and drop["path"] == name:
                return f"its record was dropped: {drop['reason']}"
    return "no record starts at that line; give the line of a record's first character"


def _row(folder: _Folder, shards: Shards, number: int) -> Row:
    index = folder.index
    if number >= len(index):
        raise YayiError(f"--row {number}: there are {len(index)} rows, the last is {len(index) - 1}")
    return shards.row(int(index.shard[number]), int(index.row[number]))


def _tokenizer(folder: _Folder) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder.path / TOKENIZER / "tokenizer.json"))


def _row_json(folder: _Folder, number: int, row: Row) -> dict[str, Any]:
    tokenizer = _tokenizer(folder)
    stretches = list(spans(row.ids.tolist(), row.mask.tolist(), tokenizer))
    return {
        "row": number,
        "source": {"path": folder.manifest.sources[row.source].name, "line": row.line},
        "domain": row.domain,
        "input_ids": row.ids.tolist(),
        "assistant_masks": row.mask.astype(int).tolist(),
        "tokens": [tokenizer.id_to_token(number) for number in row.ids.tolist()],
        "text": "".join(stretch.text for stretch in stretches),
        "supervised_text": supervised_texts(stretches),
    }


def _print_row(folder: _Folder, number: int, row: Row, *, borders: bool) -> None:
    """Print a row: supervised text in green, control tokens dim; without colour, supervised text in ⟦ ⟧."""
    console = Console(highlight=False)
    source = one_line(folder.manifest.sources[row.source].name)
    supervised = int(row.mask.sum())
    console.print(
        f"row {number} · {source}:{row.line} · {one_line(row.domain)} · {len(row.ids):,} tokens, "
        f"{supervised:,} supervised ({supervised / len(row.ids):.0%})\n",
        soft_wrap=True,
        markup=False,
    )
    tokenizer = _tokenizer(folder)
    coloured = console.color_system is not None and not console.no_color
    shown = Text()
    for learnt, group in groupby(
        spans(row.ids.tolist(), row.mask.tolist(), tokenizer), lambda span: span.supervised
    ):
        shown.append("⟦" if learnt and not coloured else "")
        for span in group:
            shown.append(_written(span, tokenizer, borders=borders), style=_style(span))
        shown.append("⟧" if learnt and not coloured else "")
    console.print(shown, soft_wrap=True)


def _style(span: Span) -> str:
    return (
        ("green" if span.supervised else "dim")
        if span.kind == "control"
        else ("bold green" if span.supervised else "")
    )


def _written(span: Span, tokenizer: tokenizers.Tokenizer, *, borders: bool) -> str:
    if not borders or span.kind == "control":
        return visible(span.text)
    return "│".join(visible(text) for text in token_texts(span.ids, tokenizer))
