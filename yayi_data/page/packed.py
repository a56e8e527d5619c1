"""What the page shows of a packed folder, and its charts."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from markupsafe import Markup
from numpy.typing import NDArray

from yayi_data import plan
from yayi_data.finish import DROPPED
from yayi_data.index import Index, open_index
from yayi_data.lengths import length_bins
from yayi_data.manifest import Counts, Manifest, load, read_listed
from yayi_data.page.charts import Bar, Chart, Mark, histogram, share_bar
from yayi_data.page.problems import Place, Problems
from yayi_data.page.samples import Sample, samples
from yayi_data.page.svg import Axis
from yayi_data.verify import refuse_unsound

SEQ_LENS = (512, 1024, 2048, 4096, 8192)
_PLACES = 5  # source lines that are named for a reason
_NAMED = 40  # that are named
_BINS = 40  # of the lengths, at most
_SHARES = 20  # bars of the distribution of the supervised share


class Domain(NamedTuple):
    """A domain's counts; `tokens_share` is its part of all tokens."""

    name: str
    rows: int
    tokens: int
    supervised: int
    tokens_share: float
    bar: Markup


class Packing(NamedTuple):
    """What rows of `seq_len` hold: `used` is the share of their tokens that are not padding."""

    seq_len: int
    rows: int
    conversations: float
    used: float
    too_long: int
    bar: Markup


class Drop(NamedTuple):
    """A reason for drops, how often it was one, and the first places."""

    reason: str
    number: int
    places: list[Place]


@dataclass(frozen=True, slots=True)
class PackedFacts:
    """A packed folder as its page shows it; charts are None where there are no rows."""

    name: str
    manifest: Manifest
    quantiles: dict[str, int]
    domains: list[Domain]
    lengths: Chart | None
    shares: Chart | None
    packing: list[Packing]
    drops: list[Drop]
    problems: Problems | None
    samples: list[Sample]


def packed_facts(folder: Path, name: str, problems: Problems | None) -> PackedFacts:
    """Gather the facts of a packed folder; DataError where a file differs from its manifest."""
    manifest = load(folder)
    index = open_index(folder, manifest)
    refuse_unsound(folder, manifest, index)
    if problems is not None:
        problems.refuse_foreign(manifest.sources)
    empty = not len(index)
    return PackedFacts(
        name=name,
        manifest=manifest,
        quantiles={} if empty else _quantiles(index.tokens),
        domains=_domains(manifest),
        lengths=None if empty else _lengths(index.tokens),
        shares=None if empty else _shares(index),
        packing=[] if empty else [_packing(index.tokens, seq_len) for seq_len in SEQ_LENS],
        drops=list(_drops(read_listed(folder, manifest, DROPPED))),
        problems=problems,
        samples=[] if empty else samples(folder, manifest, index),
    )


def _quantiles(lengths: NDArray[np.int32]) -> dict[str, int]:
    values = np.quantile(lengths, [0, 0.5, 0.95, 1], method="inverted_cdf")
    return dict(zip(("shortest", "median", "p95", "longest"), map(int, values), strict=True))


def _domains(manifest: Manifest) -> list[Domain]:
    """Return the domains, the largest first, and what the rest of many add up to."""
    ordered = sorted(manifest.domains.items(), key=lambda entry: -entry[1].tokens)
    shown, rest = ordered[:_NAMED], [counts for _, counts in ordered[_NAMED:]]
    if rest:
        whole = (sum(getattr(one, name) for one in rest) for name in Counts.__slots__)
        shown.append((f"{len(rest):,} more", Counts(*whole)))
    most = max((counts.tokens for _, counts in shown), default=1)
    return [_domain(name, counts, manifest.tokens, most) for name, counts in shown]


def _domain(name: str, counts: Counts, whole: int, most: int) -> Domain:
    bar = share_bar(counts.tokens / most, counts.supervised_tokens / most)
    return Domain(name, counts.rows, counts.tokens, counts.supervised_tokens, counts.tokens / whole, bar)


def _lengths(lengths: NDArray[np.int32]) -> Chart:
    """Draw how many conversations have which length, on a logarithmic axis."""
    bins = length_bins(lengths, _BINS)
    powers = range(bins[0].low.bit_length() - 1, bins[-1].high.bit_length() + 1)
    ticks = [float(power) for power in powers[:: 1 if len(powers) < _MANY else 2]]
    x = Axis(powers[0], powers[-1], ticks, _power)
    bars = [
        Bar(
            math.log2(one.low),
            math.log2(one.high + 1),
            one.number,
            f"{one.low:,} to {one.high:,} tokens: {one.number:,} conversations",
        )
        for one in bins
    ]
    quantiles = _quantiles(lengths)
    marks = [Mark(math.log2(quantiles[name]), told) for name, told in _MARKS]
    label = f"Lengths: median {quantiles['median']:,} tokens, 95% up to {quantiles['p95']:,}."
    figures = [(f"{one.low:,} – {one.high:,}", f"{one.number:,}") for one in bins if one.number]
    return Chart(histogram(bars, x, label, marks), ("Tokens", "Conversations"), figures)


_MARKS = (("median", "median"), ("p95", "95%"))


_MANY = 10  # powers of two, more than which do not fit side by side on a phone


def _power(exponent: float) -> str:
    power = 2 ** round(exponent)
    return f"{power // 1024}k" if power >= 1024 else str(power)


def _shares(index: Index) -> Chart:
    """Draw how many conversations have which share of supervised tokens."""
    # Integers, so that no share falls into the wrong bin by rounding.
    bins = np.minimum(index.supervised_tokens.astype(np.int64) * _SHARES // index.tokens, _SHARES - 1)
    counts = np.bincount(bins, minlength=_SHARES).tolist()
    names = [f"{100 * i // _SHARES}% – {100 * (i + 1) // _SHARES}%" for i in range(_SHARES)]
    bars = [
        Bar(i / _SHARES, (i + 1) / _SHARES, count, f"{name} supervised: {count:,} conversations")
        for i, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    median = float(np.median(index.supervised_tokens / index.tokens))
    x = Axis(0, 1, [0, 0.25, 0.5, 0.75, 1], lambda share: f"{share:.0%}")
    label = f"Supervised share: half of the conversations have {median:.0%} or more."
    figures = [(name, f"{n:,}") for name, n in zip(names, counts, strict=True) if n]
    drawn = histogram(bars, x, label, [Mark(median, f"median {median:.0%}")])
    return Chart(drawn, ("Supervised", "Conversations"), figures)


def _packing(lengths: NDArray[np.int32], seq_len: int) -> Packing:
    fitting = lengths[lengths <= seq_len]
    rows = plan.count_rows(fitting, seq_len, seed=0, epoch=0)
    used = int(fitting.sum(dtype=np.int64)) / (rows * seq_len) if rows else 0.0
    each = len(fitting) / rows if rows else 0.0
    return Packing(seq_len, rows, each, used, len(lengths) - len(fitting), share_bar(1, used))


def _drops(lines: bytes) -> Iterator[Drop]:
    """Yield the reasons for drops, the most frequent first, from the content of dropped.jsonl."""
    counts: Counter[str] = Counter()
    places: dict[str, list[Place]] = {}
    for line in lines.splitlines():
        drop: dict[str, Any] = orjson.loads(line)
        reason = drop["reason"]
        counts[reason] += 1
        named = places.setdefault(reason, [])
        if len(named) < _PLACES:
            named.append(Place(drop["path"], f":{drop['line']}"))
    for reason, count in counts.most_common():
        yield Drop(reason, count, places[reason])
