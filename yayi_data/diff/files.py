"""Two sets of source files: records added, removed and changed, whatever their order, dialect and layout."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import orjson
import xxhash

from yayi_data.convert import FROM
from yayi_data.diff.match import Keys, Matches, match
from yayi_data.diff.result import Counts, Difference, Example
from yayi_data.domains import Registry, load_registry
from yayi_data.errors import ConversionError, DataError
from yayi_data.places import Records, joined_places, places_in, size_of, spooled
from yayi_data.progress import Progress
from yayi_data.read import Source, chunks, open_sources
from yayi_data.remote.urls import bare
from yayi_data.types import Chunk, Conversation, Problem
from yayi_data.validate import ERRORS, check, detect

FAULTY = "(records with an error)"
"""Stands among the domains for records that hold no conversation; they are compared byte for byte."""


class _Print(NamedTuple):
    """What is compared of one record."""

    content: int
    prompt: int
    domain: str
    characters: int


@dataclass(frozen=True, slots=True)
class _Listing:
    """The records of one side: where they stand, their hashes, the counts of their domains.

    `uncompared` counts the faults of a file's syntax whose bytes are in no record.
    """

    records: Records
    keys: Keys
    domains: dict[str, Counts]
    uncompared: int


def diff_files(a: str, b: str, domains: str | None, examples: int) -> Difference:
    """Compare the files of two paths record by record.

    Records are the same where their conversations are: turns, what is trained on, system prompt and tools;
    changed where only the last reply differs.
    """
    registry = load_registry(domains)
    with TemporaryDirectory(prefix="yayi-diff-") as spool:
        first, second = (_listing(path, registry, Path(spool) / side) for path, side in ((a, "a"), (b, "b")))
        with closing(first.records), closing(second.records):
            matches = match(first.keys, second.keys)
            names = sorted(first.domains | second.domains)
            nothing = {"records": 0, "characters": 0}
            return Difference(
                unit="records",
                names=(bare(a), bare(b)),
                facts=[],
                counts={name: len(getattr(matches, name)) for name in Matches._fields},
                reordered=matches.reordered,
                domains={n: (first.domains.get(n, nothing), second.domains.get(n, nothing)) for n in names},
                examples=list(_examples(matches, first.records, second.records, examples)),
                uncompared=(first.uncompared, second.uncompared),
            )


def _listing(path: str, registry: Registry, spool: Path) -> _Listing:
    spool.mkdir()
    sources = open_sources([path])
    dialects = [_dialect(source) for source in sources]
    parts = spooled(sources, spool)
    domains: dict[str, Counts] = {}
    uncompared = 0
    places, hashes = [places_in(Chunk(0, 0, [], [], []), [])], [np.zeros((0, 2), np.uint64)]
    with Progress("read", sum(map(size_of, parts))) as bar:
        for part in parts:
            for chunk in chunks(part):
                found = _prints(chunk, part.source, dialects[part.source.index], registry)
                known = [i for i, raw in enumerate(chunk.raws) if raw]
                prints = [found[i] for i in known]
                uncompared += len(chunk) - len(known) + sum(map(_is_between, chunk.problems))
                _count(prints, domains)
                places.append(places_in(chunk, known))
                hashes.append(np.array([p[:2] for p in prints], np.uint64).reshape(-1, 2))
            bar.advance(size_of(part))
    content, prompt = np.concatenate(hashes).T
    return _Listing(
        Records(joined_places(places), parts, dialects), Keys(content, prompt), domains, uncompared
    )


def _is_between(problem: Problem) -> bool:
    """Tell a fault around the records of an array; a byte order mark has nothing to compare."""
    return problem.record is None and problem.rule != "encoding-bom"


def _count(prints: list[_Print], domains: dict[str, Counts]) -> None:
    for found in prints:
        counts = domains.setdefault(found.domain, {"records": 0, "characters": 0})
        counts["records"] += 1
        counts["characters"] += found.characters


def _dialect(source: Source) -> str:
    try:
        return detect(source)
    except DataError:
        return ""  # empty, or another's file, whose records are compared byte for byte


def _prints(chunk: Chunk, source: Source, dialect: str, registry: Registry) -> list[_Print]:
    values = check(chunk, source, dialect, ERRORS).values if dialect else [None] * len(chunk)
    return [_print(value, chunk.raws[i], dialect, registry) for i, value in enumerate(values)]


def _print(value: Any, raw: bytes, dialect: str, registry: Registry) -> _Print:
    try:
        talk = None if value is None else FROM[dialect](value)
    except ConversionError:
        talk = None
    if talk is None:
        digest = xxhash.xxh3_64_intdigest(raw)
        return _Print(digest, digest, FAULTY, 0)
    prompt = talk._replace(turns=talk.turns[:-1])
    characters = sum(len(turn.text) for turn in talk.turns)
    return _Print(_hash(talk), _hash(prompt), registry.domain_of(talk), characters)


def _hash(talk: Conversation) -> int:
    return xxhash.xxh3_64_intdigest(orjson.dumps(talk, default=list, option=orjson.OPT_PASSTHROUGH_SUBCLASS))


def _examples(matches: Matches, a: Records, b: Records, most: int) -> Iterator[Example]:
    for i, j in matches.changed[:most].tolist():
        yield Example("changed", a.place(i), b.place(j), (_text(a, i), _text(b, j)), {})
    for i in matches.removed[:most].tolist():
        yield Example("removed", a.place(i), None, (_text(a, i), None), {})
    for j in matches.added[:most].tolist():
        yield Example("added", None, b.place(j), (None, _text(b, j)), {})


def _text(records: Records, i: int) -> str:
    """Return the turns of a record; its bytes where it holds no conversation."""
    raw = records.raw(i)
    try:
        talk = FROM[records.dialects[int(records.places.source[i])]](orjson.loads(raw))
        return "\n".join(turn.text for turn in talk.turns)
    except (ValueError, LookupError, TypeError, AttributeError, ConversionError):
        return raw.decode(errors="replace")
