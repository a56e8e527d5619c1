"""What dedup found, on its way into files: kept records as they were, a ledger of the others, the counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Any

import orjson

from yayi_data.atomic import AtomicFile
from yayi_data.dedup.fingerprints import Drop
from yayi_data.dedup.twins import EXACT, NEAR, QUESTION, Twins
from yayi_data.errors import DataError
from yayi_data.places import Records
from yayi_data.unchanged import Stamps, unchanged

DUPLICATE = {EXACT: "exact-duplicate", NEAR: "near-duplicate"}
OVERLAP = {EXACT: "exact-overlap", NEAR: "near-overlap", QUESTION: "question-overlap"}
REASONS = (*DUPLICATE.values(), *OVERLAP.values())
"""Why a record goes: it repeats one that is kept, or overlaps one of an evaluation set."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A record that goes and its twin: places, how alike they are, and both texts as they were compared."""

    reason: str
    place: dict[str, Any]
    twin: dict[str, Any]
    similarity: float
    texts: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Deduped:
    """Where the records went: read = kept + dropped (by reason); `groups` kept records have a twin."""

    read: int
    kept: int
    dropped: Counter[str]
    groups: int
    pairs: list[Pair] = field(default_factory=list)

    @property
    def repeats(self) -> int:
        """The records that have a twin."""
        return sum(self.dropped[reason] for reason in REASONS)

    def summary(self) -> dict[str, Any]:
        """Return the JSON object that scripts rely on."""
        pairs = [
            {"reason": pair.reason, **pair.place, "similarity": pair.similarity, "twin": pair.twin}
            | dict(zip(("text", "twin_text"), pair.texts, strict=True))
            for pair in self.pairs
        ]
        counts = {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}
        return {"records": self.kept, "groups": self.groups, "ledger": counts, "pairs": pairs}

    def nothing_left(self, paths: Sequence[str]) -> DataError:
        """Return the error that says why there is nothing to write."""
        counted = ", ".join(f"{reason} {count}" for reason, count in self.dropped.most_common())
        why = f" (dropped: {counted})" if counted else ""
        return DataError(f"{', '.join(paths)}: no record is left to write{why}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """All records with their twins; the first `held_out` are of evaluation sets, and in no output."""

    records: Records
    twins: Twins
    drops: list[Drop]
    held_out: int
    text_of: Callable[[int], str]

    def counted(self, examples: int) -> Deduped:
        """Count where the records went, and take up to `examples` pairs of each reason."""
        gone = self._gone()
        dropped = Counter(map(self._reason, gone))
        groups = len({int(self.twins.twin[i]) for i in gone})
        dropped.update(drop.reason for drop in self.drops)
        kept = len(self.twins.twin) - self.held_out - len(gone)
        return Deduped(kept + dropped.total(), kept, dropped, groups, list(self._pairs(gone, examples)))

    def write(self, ledger: Path, output: Path | None, stamps: Stamps) -> None:
        """Write the ledger and, where `output` is given, the kept records; each appears when it is whole.

        Neither does where an input is not what `stamps` says: ChangedError.
        """
        with AtomicFile(ledger) as file, ExitStack() as kept, unchanged(stamps):
            for line in self._ledger_lines():
                file.write(line)
            if output is not None:
                WRITERS[output.suffix](kept.enter_context(AtomicFile(output)), self._kept())

    def _gone(self) -> list[int]:
        gone: list[int] = (self.twins.twin >= 0).nonzero()[0].tolist()
        return gone

    def _reason(self, i: int) -> str:
        reasons = OVERLAP if self.twins.twin[i] < self.held_out else DUPLICATE
        return reasons[int(self.twins.why[i])]

    def _similarity(self, i: int) -> float:
        return round(float(self.twins.similarity[i]), 4)

    def _pairs(self, gone: list[int], examples: int) -> Iterator[Pair]:
        shown: Counter[str] = Counter()
        for i in gone:
            reason, twin = self._reason(i), int(self.twins.twin[i])
            shown[reason] += 1
            if shown[reason] <= examples:
                places = self.records.place(i), self.records.place(twin)
                yield Pair(reason, *places, self._similarity(i), (self.text_of(i), self.text_of(twin)))

    def _kept(self) -> Iterator[bytes]:
        for i in range(self.held_out, len(self.twins.twin)):
            if self.twins.twin[i] < 0:
                yield self.records.raw(i)

    def _ledger_lines(self) -> Iterator[bytes]:
        """Yield a line for every record that goes, in the order of the input."""
        for _, _, entry in merge(self._repeats(), self._errors(), key=lambda entry: entry[:2]):
            yield orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)

    def _repeats(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for i in self._gone():
            place, twin = self.records.place(i), self.records.place(int(self.twins.twin[i]))
            likeness = {"similarity": self._similarity(i), "twin": twin}
            source = int(self.records.places.source[i])
            yield source, place["record"], {"reason": self._reason(i), **place, **likeness}

    def _errors(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for drop in self.drops:
            place = {"path": self.records.path(drop.source), "line": drop.line, "record": drop.record}
            yield drop.source, drop.record, {"reason": drop.reason, **place}


def _write_lines(file: AtomicFile, raws: Iterator[bytes]) -> None:
    for raw in raws:
        # A record of an array may span lines; in valid JSON a raw line break is space between tokens.
        file.write(raw.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")


def _write_array(file: AtomicFile, raws: Iterator[bytes]) -> None:
    border = b"[\n"
    for raw in raws:
        file.write(border + raw)
        border = b",\n"
    file.write(b"\n]\n")


WRITERS: dict[str, Callable[[AtomicFile, Iterator[bytes]], None]] = {
    ".jsonl": _write_lines,
    ".json": _write_array,
}
"""How kept records are written, by the ending of the file's name."""
