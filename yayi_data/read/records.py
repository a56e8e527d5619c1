"""A stream of bytes -> chunks of records, by the kind of its source."""

from collections.abc import Iterator

from yayi_data.read.arrays import ArrayReader
from yayi_data.read.buffer import Place
from yayi_data.read.lines import LineReader
from yayi_data.read.sources import Source, blocks
from yayi_data.types import Chunk


def record_chunks(source: Source, stream: Iterator[bytes], place: Place, *, whole: bool) -> Iterator[Chunk]:
    """Yield the chunks of a stream that begins at `place`; `whole` as in ArrayReader."""
    if source.kind == "array":
        return ArrayReader(source, stream, place, whole=whole).chunks()
    return LineReader(source, stream, place).chunks()


def first_chunks(source: Source) -> Iterator[Chunk]:
    """Yield chunks for a first look, after which even stdin can be read from its beginning."""
    return record_chunks(source, blocks(source, keep=True), Place(), whole=True)
