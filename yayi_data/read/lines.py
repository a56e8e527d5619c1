"""Reads JSON Lines, streamed: every line that is not blank is a record, whatever it holds."""

from collections.abc import Iterator

import numpy as np

from yayi_data.read.buffer import BOM_FOUND, MAX_RECORD_BYTES, TOO_LARGE, Place
from yayi_data.read.locate import Where, problem
from yayi_data.read.slices import Slices
from yayi_data.read.sources import BOM, DamagedStreamError, Source
from yayi_data.types import Chunk

_SPACE = b" \t\r"


class LineReader:
    """Iterates the chunks of the lines of `blocks`, which begin at a line's start."""

    def __init__(self, source: Source, blocks: Iterator[bytes], place: Place) -> None:
        self.source = source
        self.blocks = blocks
        self.offset, self.line, self.record = place.offset, place.line, place.record
        self.skipping = False
        self.damage = ""

    def chunks(self) -> Iterator[Chunk]:
        """Yield a chunk for the whole lines of each block."""
        held: list[bytes] = []
        for block in self._undamaged():
            data = self._skipped(block) if self.skipping else block
            cut = data.rfind(b"\n") + 1
            if cut:
                yield self._chunk(b"".join([*held, memoryview(data)[:cut]]))
                held = []
            held.append(data[cut:])
            if sum(map(len, held)) > MAX_RECORD_BYTES:
                yield self._oversized(held)
                held = []
        if any(held) or self.damage:
            yield self._last(b"".join(held))

    def _undamaged(self) -> Iterator[bytes]:
        try:
            yield from self.blocks
        except DamagedStreamError as error:
            self.damage = str(error)

    def _chunk(self, data: bytes) -> Chunk:
        """Cut whole lines into records and step behind them."""
        text = np.frombuffer(data, np.uint8)
        breaks = np.flatnonzero(text == 0x0A)
        starts = np.concatenate(([0], breaks + 1))
        starts = starts[starts < len(data)]
        lines = range(self.line, self.line + len(starts))
        odd = b"\r" in data or (self.offset == 0 and data.startswith(BOM)) or (text[starts] <= 0x20).any()
        ends = [*breaks.tolist(), len(data)][: len(starts)]
        take = self._careful if odd else self._plain
        chunk = take(Slices(data, starts.tolist(), ends), (starts + self.offset).tolist(), lines)
        self.offset += len(data)
        self.line += len(starts)
        self.record += len(chunk)
        return chunk

    def _plain(self, raws: Slices, begins: list[int], lines: range) -> Chunk:
        return Chunk(self.source.index, self.record, lines, begins, raws, data=raws.data)

    def _careful(self, cut: Slices, begins: list[int], lines: range) -> Chunk:
        """Leave out a byte order mark, blank lines, and the CR of CRLF."""
        data, raws = cut.data, [raw.removesuffix(b"\r") for raw in cut]
        columns, problems = [1] * len(raws), []
        if self.offset == 0 and data.startswith(BOM):
            problems = [problem(Where(self.source.path, None, 1, 1), raws[0], 0, "encoding-bom", BOM_FOUND)]
            raws[0], begins[0], columns[0] = raws[0].removeprefix(BOM), len(BOM), 2
        kept = [i for i, raw in enumerate(raws) if raw.strip(_SPACE)]
        return Chunk(
            self.source.index,
            self.record,
            [lines[i] for i in kept],
            [begins[i] for i in kept],
            [raws[i] for i in kept],
            problems,
            [columns[i] for i in kept],
            data=data[begins[kept[0]] - self.offset :] if kept else b"",
        )

    def _last(self, data: bytes) -> Chunk:
        """Cut the last line, which no line break ends.

        Where the stream broke off, that line is lost; where it broke off between lines, what would have
        followed counts as one lost record, so that the ledger shows it.
        """
        line, start = self.line, self.offset
        chunk = self._chunk(data)
        if not self.damage:
            return chunk
        where = Where(self.source.path, chunk.number, line, 1)
        found = problem(where, data, 0, "compression", self.damage)
        problems = [*chunk.problems, found]
        return Chunk(self.source.index, chunk.number, [line], [start], [b""], problems)

    def _oversized(self, held: list[bytes]) -> Chunk:
        """Report a line that is too long to hold; the rest of it will be skipped."""
        where = Where(self.source.path, self.record, self.line, 1)
        found = problem(where, held[0], 0, "too-large", TOO_LARGE)
        chunk = Chunk(self.source.index, self.record, [self.line], [self.offset], [b""], [found])
        self.offset += sum(map(len, held))
        self.record += 1
        self.skipping = True
        return chunk

    def _skipped(self, block: bytes) -> bytes:
        end = block.find(b"\n") + 1
        self.skipping = not end
        self.offset += end or len(block)
        self.line += bool(end)
        return block[end:] if end else b""
