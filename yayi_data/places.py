"""Where records stand in their sources, and reading one again by its byte range: 36 bytes a record."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from yayi_data.convert import FROM
from yayi_data.errors import DataError
from yayi_data.read import Partition, Source, partitions
from yayi_data.types import Chunk, Conversation

JOB_BYTES = 4 << 20
_OPEN = 64  # files at a time


@dataclass(frozen=True, slots=True)
class Places:
    """Parallel arrays, one entry a record, which is `length` bytes from `start` of its source."""

    source: NDArray[np.int32]
    record: NDArray[np.int64]
    line: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.line)


def places_in(chunk: Chunk, at: Sequence[int]) -> Places:
    """Return the places of a chunk's records at the indices `at`."""
    return Places(
        source=np.full(len(at), chunk.source, np.int32),
        record=np.array(at, np.int64) + chunk.number,
        line=np.array([chunk.lines[i] for i in at], np.int64),
        start=np.array([chunk.starts[i] for i in at], np.int64),
        length=np.array([len(chunk.raws[i]) for i in at], np.int64),
    )


def joined_places(parts: Sequence[Places]) -> Places:
    """Return the places of all parts, in order; there is at least one part."""
    return Places(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Places)))


def spooled(sources: Sequence[Source], spool: Path) -> list[Partition]:
    """Cut sources into partitions whose records can be read again by their byte range.

    What cannot be entered in the middle is unpacked into the folder `spool`; the partitions' sources say so.
    """
    parts: list[Partition] = []
    for source in sources:
        parts += partitions(source, len(parts), JOB_BYTES, spool)[0]
    return parts


def size_of(part: Partition) -> int:
    """Return the bytes of a partition."""
    return (part.end if part.end >= 0 else part.source.size or part.start) - part.start


class Records:
    """Reads records again; `dialects` has one for each source of the partitions that were read."""

    def __init__(self, places: Places, parts: Sequence[Partition], dialects: Sequence[str]) -> None:
        self.places, self.dialects = places, dialects
        self._sources = {part.source.index: part.source for part in parts}
        self._opened: dict[int, BinaryIO] = {}

    def raw(self, i: int) -> bytes:
        """Return a record's bytes; DataError where its file has another size now."""
        file = self._file(int(self.places.source[i]))
        file.seek(int(self.places.start[i]))
        return file.read(int(self.places.length[i]))

    def _file(self, number: int) -> BinaryIO:
        if number not in self._opened:
            if len(self._opened) == _OPEN:
                self._opened.pop(next(iter(self._opened))).close()
            source = self._sources[number]
            file = self._opened[number] = Path(source.location).open("rb")  # noqa: SIM115 - until `close`
            if os.fstat(file.fileno()).st_size != source.size:
                raise self._changed(number)
        return self._opened[number]

    def talk(self, i: int) -> Conversation:
        """Return the conversation of a record, which was valid when it was read first."""
        number = int(self.places.source[i])
        try:
            return FROM[self.dialects[number]](orjson.loads(self.raw(i)))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._changed(number) from error

    def place(self, i: int) -> dict[str, Any]:
        """Return path, line and record as outputs name them."""
        return {
            "path": self.path(int(self.places.source[i])),
            "line": int(self.places.line[i]),
            "record": int(self.places.record[i]),
        }

    def path(self, source: int) -> str:
        """Return a source's path as the person gave it."""
        return self._sources[source].path

    def close(self) -> None:
        """Close the files."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _changed(self, number: int) -> DataError:
        return DataError(f"{self.path(number)}: changed while it was read; run the same command again")
