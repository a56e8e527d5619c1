"""Bytes -> records with their places: JSON Lines or one array, plain or compressed, streamed.

A record's byte range, line and number are known before it is parsed. What cannot be read as records comes
out as problems of the chunk it was found in.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from yayi_data.atomic import writing
from yayi_data.errors import YayiError
from yayi_data.read.buffer import Place
from yayi_data.read.records import record_chunks
from yayi_data.read.sources import DamagedStreamError, Source, blocks, open_sources, stored_blocks, unpacked
from yayi_data.remote.urls import is_url
from yayi_data.types import Chunk

__all__ = ["Partition", "Source", "SourceFacts", "chunks", "chunks_of", "open_sources", "partitions"]

PARTITION_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Partition:
    """A byte range [start, end) of a source that begins and ends at record borders; end < 0 is the file's.

    `index` counts over the whole run; `line`, `column` and `record` are those of the first byte.
    """

    index: int
    source: Source
    start: int
    end: int
    line: int
    record: int
    column: int = 1


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What identifies an input: stored bytes and their hash; and how many records it holds."""

    bytes: int
    sha256: str
    records: int


def chunks_of(source: Source, limit: int | None = None) -> Iterator[Chunk]:
    """Yield all records of a source in chunks of about 1 MB, in one pass; at most `limit` records."""
    return chunks(Partition(0, source, 0, -1, 1, 0), limit)


def chunks(partition: Partition, limit: int | None = None) -> Iterator[Chunk]:
    """Yield the records of a partition in chunks of about 1 MB; at most `limit` records.

    Depends on nothing but the partition, so any process can do it.
    """
    found = _chunks(partition, blocks(partition.source, partition.start, partition.end))
    return found if limit is None else _limited(found, limit)


def _chunks(partition: Partition, stream: Iterator[bytes]) -> Iterator[Chunk]:
    place = Place(partition.start, partition.line, partition.column, partition.record)
    return record_chunks(partition.source, stream, place, whole=partition.end < 0)


def _limited(found: Iterator[Chunk], limit: int) -> Iterator[Chunk]:
    left = limit
    for chunk in found:
        if len(chunk) >= left:
            yield _cut(chunk, left)
            return
        left -= len(chunk)
        yield chunk


def _cut(chunk: Chunk, count: int) -> Chunk:
    """Return a chunk's first records, and the problems that stand before the next one."""
    border = (chunk.lines[count], (chunk.columns or [1] * len(chunk))[count]) if count < len(chunk) else None
    return replace(
        chunk,
        lines=chunk.lines[:count],
        starts=chunk.starts[:count],
        raws=chunk.raws[:count],
        columns=chunk.columns[:count],
        values=chunk.values[:count] if chunk.values is not None else None,
        problems=[p for p in chunk.problems if border is None or (p.line, p.column) < border],
        data=b"",
    )


# The first pass: where partitions begin


def partitions(
    source: Source, first_index: int, size: int = PARTITION_BYTES, spool: Path | None = None
) -> tuple[list[Partition], SourceFacts]:
    """Cut a source into partitions of about `size` bytes of records, in one pass over its bytes.

    Cuts depend on the input only. What cannot be entered in the middle (compressed, stdin, URLs) is unpacked
    into the folder `spool` on the way, and the partitions read that copy; without one they read the source
    again from its start. `bytes` and `sha256` are of the file as it is stored.
    """
    taps = _Taps()
    stream = taps.stored(stored_blocks(source))
    if source.layout:
        taps.finish(stream)  # a table is not read from its first byte to its last: hash it before
        stream = blocks(source)
    elif source.compression:
        stream = unpacked(stream, source.compression)
    if spool is not None and not source.seekable:
        copy = spool / f"source-{source.index:05d}"
        stream = taps.damaged(_copied(stream, copy))
        kind = "jsonl" if source.layout else source.kind
        source = replace(source, location=str(copy), compression=None, kind=kind)
    elif source.size is None and not is_url(source.location):
        raise YayiError(f"{source.path}: can be read once only: save it to a file first")
    parts, records = _cut_up(source, stream, first_index, size)
    taps.finish(stream)
    if source.location != source.path:
        source = replace(source, size=Path(source.location).stat().st_size, damage=taps.damage)
        parts = [replace(part, source=source) for part in parts]
    return parts, SourceFacts(taps.bytes, taps.digest.hexdigest(), records)


class _Taps:
    """Counts and hashes the stored bytes that flow by."""

    def __init__(self) -> None:
        self.bytes = 0
        self.digest = hashlib.sha256()
        self.damage = ""

    def stored(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        for block in stream:
            self.bytes += len(block)
            self.digest.update(block)
            yield block

    def damaged(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """Let a stream through, and keep what breaks it off, which a copy of it would not tell."""
        try:
            yield from stream
        except DamagedStreamError as error:
            self.damage = str(error)
            raise

    def finish(self, stream: Iterator[bytes]) -> None:
        """Let what the reader left unread flow by too."""
        with suppress(DamagedStreamError):
            for _ in stream:
                pass


def _copied(stream: Iterator[bytes], path: Path) -> Iterator[bytes]:
    with writing(path):
        file = path.open("wb")
    with file:
        for block in stream:
            with writing(path):
                file.write(block)
                file.flush()
            yield block


def _cut_up(source: Source, stream: Iterator[bytes], first: int, size: int) -> tuple[list[Partition], int]:
    """Begin a partition at the first record after every `size` bytes; return them, and how many records."""
    begins, records = [Partition(first, source, 0, -1, 1, 0)], 0
    for chunk in _chunks(begins[0], stream):
        for i in _borders(chunk, begins[-1].start, size):
            column = chunk.columns[i] if chunk.columns else 1
            begins.append(
                Partition(
                    first + len(begins), source, chunk.starts[i], -1, chunk.lines[i], chunk.number + i, column
                )
            )
        records = chunk.number + len(chunk)
    ends = [part.start for part in begins[1:]]
    return [replace(part, end=end) for part, end in zip(begins, [*ends, -1], strict=True)], records


def _borders(chunk: Chunk, begin: int, size: int) -> Iterator[int]:
    """Yield the indices of the chunk's records that begin a partition."""
    while (i := bisect_left(chunk.starts, begin + size)) < len(chunk):
        yield i
        begin = chunk.starts[i]
