"""Reads JSON Lines, streamed: every line that is not blank is a record, whatever it holds."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from yayi_data.buffer import BOM_FOUND, MAX_RECORD_BYTES, TOO_LARGE, Place
from yayi_data.locate import Where, problem
from yayi_data.sources import BOM, DamagedStreamError, Source
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
                yield self._chunk(b"".join([*held, data[:cut]]))
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
        raws = data.split(b"\n")
        if not raws[-1]:
            raws.pop()
        end = self.line + len(raws)
        chunk = Chunk(self.source.index, self.record, list(range(self.line, end)), self._starts(raws), raws)
        if self.offset == 0 and data.startswith(BOM):
            self._without_bom(chunk)
        if b"\r" in data:
            raws[:] = [raw.removesuffix(b"\r") for raw in raws]
        if b"" in raws or any(map(bytes.isspace, raws)):
            _drop_blank(chunk)
        if raws:
            chunk = replace(chunk, data=data[chunk.starts[0] - self.offset :])
        self.offset += len(data)
        self.line = end
        self.record += len(chunk)
        return chunk

    def _starts(self, raws: list[bytes]) -> list[int]:
        sizes = np.fromiter(map(len, raws), np.int64, len(raws)) + 1
        starts: list[int] = (np.cumsum(sizes) - sizes + self.offset).tolist()
        return starts

    def _without_bom(self, chunk: Chunk) -> None:
        where = Where(self.source.path, None, 1, 1)
        chunk.problems.append(problem(where, chunk.raws[0], 0, "encoding-bom", BOM_FOUND))
        chunk.raws[0] = chunk.raws[0].removeprefix(BOM)
        chunk.starts[0] += len(BOM)
        chunk.columns[:] = [2] + [1] * (len(chunk) - 1)

    def _last(self, data: bytes) -> Chunk:
        """Cut the last line, which no line break ends; where the stream broke off, the line is lost."""
        line = self.line
        chunk = self._chunk(data)
        if self.damage:
            where = Where(self.source.path, chunk.number if len(chunk) else None, line, 1)
            chunk.problems.append(problem(where, data, 0, "compression", self.damage))
            chunk.raws[:] = [b""] * len(chunk)
        return chunk

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


def _drop_blank(chunk: Chunk) -> None:
    """Remove blank lines from a chunk's columns."""
    kept = [i for i, raw in enumerate(chunk.raws) if raw.strip(_SPACE)]
    columns: tuple[list[int], ...] = (chunk.lines, chunk.starts, chunk.columns)
    for column in columns:
        column[:] = [column[i] for i in kept] if column else []
    chunk.raws[:] = [chunk.raws[i] for i in kept]
