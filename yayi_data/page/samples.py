"""Some conversations of a packed folder, spread over its domains, as the model sees them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from yayi_data import plan
from yayi_data.decode import Decoder
from yayi_data.detokenize import Span, spans
from yayi_data.finish import TOKENIZER
from yayi_data.index import Index
from yayi_data.manifest import Manifest, read_listed
from yayi_data.shard import Shards
from yayi_data.shard.columns import Row
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer

SAMPLES = 100
_SHOWN = 1200  # characters of one stretch
_SHOWN_IN_ALL = 4000  # characters of a conversation
_PREVIEW = 120
_ORDER = 0x5EED  # the key of the hash that draws


class Part(NamedTuple):
    """A piece of text, a control token, or a remark about what is left out."""

    kind: Literal["text", "control", "cut"]
    text: str


class Stretch(NamedTuple):
    """Consecutive parts that are all learnt, or all context."""

    learnt: bool
    parts: list[Part]


class Sample(NamedTuple):
    """One conversation with its place; `preview` is how its first question begins."""

    row: int
    source: str
    line: int
    domain: str
    tokens: int
    supervised: int
    preview: str
    stretches: list[Stretch]


def samples(folder: Path, manifest: Manifest, index: Index) -> list[Sample]:
    """Return up to SAMPLES conversations, the same for the same folder, from all domains alike."""
    numbers = choose(index.domain, SAMPLES).tolist()
    files = f"{TOKENIZER}/tokenizer.json", f"{TOKENIZER}/template.toml"
    tokenizer_json, _ = (read_listed(folder, manifest, file) for file in files)
    shards = Shards(folder, manifest)
    rows = [shards.row(int(index.shard[number]), int(index.row[number])) for number in numbers]
    loaded = load_tokenizer(
        str(folder / TOKENIZER), load_template(str(folder / TOKENIZER / "template.toml")), "reference"
    )
    asked = [talk.turns[0].text if talk else "" for talk in Decoder(loaded).conversations(rows)]
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json.decode())
    return [
        _sample(number, row, question, manifest, tokenizer)
        for number, row, question in zip(numbers, rows, asked, strict=True)
    ]


def choose(domain: NDArray[np.int32], wanted: int) -> NDArray[np.int64]:
    """Draw rows: one of each domain in turn, until there are as many as wanted; `domain` are codes."""
    drawn = plan.shuffled(len(domain), _ORDER)
    order = drawn[np.argsort(domain[drawn], kind="stable")]
    sizes = np.bincount(domain)
    turn = np.arange(len(domain)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[np.lexsort((domain[order], turn))][:wanted]


def _sample(
    number: int, row: Row, question: str, manifest: Manifest, tokenizer: tokenizers.Tokenizer
) -> Sample:
    found = list(spans(row.ids.tolist(), row.mask.tolist(), tokenizer))
    learnt = next((span.text for span in found if span.kind == "supervised"), "")
    return Sample(
        row=number,
        source=manifest.sources[row.source].name,
        line=row.line,
        domain=row.domain,
        tokens=len(row.ids),
        supervised=int(row.mask.sum()),
        preview=_preview(question or learnt),
        stretches=list(_stretches(found)),
    )


def _preview(text: str) -> str:
    start = " ".join(text[: 2 * _PREVIEW].split())
    return start if len(start) <= _PREVIEW else start[:_PREVIEW] + "…"


def _stretches(found: Sequence[Span]) -> Iterator[Stretch]:
    """Yield the stretches of a conversation, until as much is shown as fits."""
    left = _SHOWN_IN_ALL
    for learnt, group in groupby(found, lambda span: span.supervised):
        if left <= 0:
            yield Stretch(learnt=False, parts=[Part("cut", "the rest of the conversation is left out")])
            return
        parts = [part for span in group for part in _parts(span)]
        left -= sum(len(part.text) for part in parts)
        yield Stretch(learnt, parts)


def _parts(span: Span) -> Iterator[Part]:
    """Yield a span, its middle left out where it is long."""
    if span.kind == "control":
        yield Part("control", span.text)
        return
    missing = len(span.text) - _SHOWN
    if missing < _SHOWN // 4:
        yield Part("text", span.text)
        return
    end = _SHOWN // 4
    yield Part("text", span.text[: _SHOWN - end])
    yield Part("cut", f"{missing:,} characters left out")
    yield Part("text", span.text[-end:])
