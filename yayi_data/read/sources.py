"""What a run reads: files, folders, globs, stdin and URLs, plain or compressed, as streams of bytes."""

import os
import re
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

from yayi_data.errors import YayiError
from yayi_data.read.columnar import MAGIC, DamagedTableError, Layout, json_lines
from yayi_data.read.inputs import expand
from yayi_data.remote.files import RemoteFile
from yayi_data.remote.urls import bare, is_url

BLOCK_BYTES = 1 << 19
"""Bytes read at a time; parsing is fastest while a block and what it becomes stay in the CPU's cache."""

_HEAD_BYTES = 1 << 16
_COMPRESSED: dict[bytes, Literal["gz", "zst"]] = {
    b"\x1f\x8b": "gz",
    b"\x28\xb5\x2f\xfd": "zst",
    **{bytes([0x50 + i]) + b"\x2a\x4d\x18": "zst" for i in range(16)},  # skippable frames (RFC 8878, 3.1.2)
}
_FIRST_KEY = re.compile(rb'^\s*\[\s*\{\s*"([^"\\]{1,64})"\s*:')
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Source:
    """One input as the user named it (`path`) and as outputs may (`name`, relative), both without secrets.

    `kind` follows from the first bytes; `first_key` is the first record's first key, a hint for finding the
    next record after a malformed one. `location` is where the bytes are now: the path itself, or an unpacked
    copy. `size` is in stored bytes, None where nobody knows. `damage` is what broke off the making of the
    copy, "" where it is whole.
    """

    index: int
    path: str
    name: str
    kind: Literal["jsonl", "array", "parquet", "arrow"]
    compression: Literal["gz", "zst"] | None = None
    size: int | None = None
    location: str = ""
    first_key: bytes = b""
    damage: str = ""

    @property
    def seekable(self) -> bool:
        """Tell whether byte ranges of the records can be read on their own."""
        return self.compression is None and self.size is not None and self.layout is None

    @property
    def layout(self) -> Layout | None:
        """The layout of a table, which is read as lines of JSON; None for a file of text."""
        return self.kind if self.kind in ("parquet", "arrow") else None

    @property
    def one_shot(self) -> bool:
        """Tell whether the bytes come through a pipe, once, and to this process only."""
        return self.size is None and not is_url(self.location)


class DamagedStreamError(Exception):
    """A compressed stream that ends early or does not decompress."""


def open_sources(paths: Sequence[str]) -> list[Source]:
    """Find and sniff the inputs that `paths` name, in order; folders and globs are sorted.

    Raises YayiError where one is missing, unreadable, or named twice.
    """
    found = [path for given in paths for path in expand(given)]
    if not found:
        raise YayiError("no input given: name a file, a folder, a glob, a URL, or - for stdin")
    places = Counter(path if path == "-" or "://" in path else os.path.realpath(path) for path in found)
    for place, times in places.items():
        if times > 1:
            what = "stdin (-)" if place == "-" else bare(place) if "://" in place else place
            raise YayiError(f"{what} is given {times} times: name it once")
    names = _names(found)
    return [_sniff(i, path, name) for i, (path, name) in enumerate(zip(found, names, strict=True))]


def _names(paths: Sequence[str]) -> list[str]:
    """Name the inputs for outputs: relative to the folder that holds them all, URLs by their path alone."""
    local = [os.path.abspath(p) for p in paths if p != "-" and not is_url(p)]  # noqa: PTH100 - links stay
    top = os.path.commonpath([os.path.dirname(p) for p in local]) if local else ""  # noqa: PTH120
    return [_name(path, top) for path in paths]


def _name(path: str, top: str) -> str:
    if path == "-":
        return "stdin"
    if is_url(path):
        return bare(path)
    return Path(os.path.relpath(path, top)).as_posix()


def _sniff(index: int, path: str, name: str) -> Source:
    size = _size(path)
    head = _head(path, size)
    shown = bare(path)
    if layout := next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None):
        if size is None and not is_url(path):
            raise YayiError(f"{shown}: a {layout} file cannot be read from a pipe: save it to a file first")
        return Source(index, shown, name, layout, None, size, path)
    compression = next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None)
    if compression:
        head = _unpacked_head(head, compression)
    head = head.removeprefix(BOM)
    kind: Literal["jsonl", "array"] = "array" if head.lstrip(b" \t\r\n").startswith(b"[") else "jsonl"
    key = _FIRST_KEY.match(head)
    return Source(index, shown, name, kind, compression, size, path, key[1] if key else b"")


def _size(path: str) -> int | None:
    """Return the bytes of a regular file, None for what can be read once only or is elsewhere."""
    if path == "-" or is_url(path):
        return None
    try:
        status = Path(path).stat()
    except OSError as error:
        raise YayiError(f"{path}: cannot be read: {error.strerror}") from error
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _head(path: str, size: int | None) -> bytes:
    if size is None and not is_url(path):
        return next(_one_shot(path, path).blocks(keep=True), b"")[:_HEAD_BYTES]
    with RemoteFile(path, _HEAD_BYTES) if is_url(path) else _open(path, path) as file:
        return file.read(_HEAD_BYTES)


def _unpacked_head(head: bytes, compression: Literal["gz", "zst"]) -> bytes:
    try:
        return next(unpacked(iter([head]), compression), b"")
    except DamagedStreamError:
        return b""


class _OneShot:
    """A pipe, which gives its bytes once: what a first look read is held, and given again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.held: list[bytes] = []

    def blocks(self, *, keep: bool) -> Iterator[bytes]:
        """Yield the bytes from the beginning; they can be read again only where `keep` is set."""
        held, self.held = self.held, list(self.held) if keep else []
        yield from held
        while block := self.file.read(BLOCK_BYTES):
            if keep:
                self.held.append(block)
            yield block


_one_shots: dict[str, _OneShot] = {}


def _one_shot(location: str, path: str) -> _OneShot:
    known = _one_shots.get(location)
    if location == "-" and (known is None or known.file is not sys.stdin.buffer):
        known = _one_shots[location] = _OneShot(sys.stdin.buffer)
    return known or _one_shots.setdefault(location, _OneShot(_open(location, path)))


def _open(location: str, path: str) -> BinaryIO:
    if is_url(location):
        return cast(BinaryIO, RemoteFile(location))
    try:
        return Path(location).open("rb")
    except OSError as error:
        raise YayiError(f"{path}: cannot be opened: {error.strerror}") from error


def stored_blocks(source: Source, start: int = 0, end: int = -1, *, keep: bool = False) -> Iterator[bytes]:
    """Yield the bytes of [start, end) as they are stored, a block at a time; a negative end is the file's.

    `keep` is for a first look: a pipe can then be read from its beginning once more.
    """
    if source.one_shot:
        yield from _between(_one_shot(source.location, source.path).blocks(keep=keep), start, end)
        return
    with _open(source.location, source.path) as file:
        if start:
            file.seek(start)
        left = end - start if end >= 0 else sys.maxsize
        while left > 0 and (block := _read(file, min(BLOCK_BYTES, left), source)):
            left -= len(block)
            yield block


def _read(file: BinaryIO, size: int, source: Source) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise YayiError(f"{source.path}: reading stopped: {error.strerror or error}") from error


def blocks(source: Source, start: int = 0, end: int = -1, *, keep: bool = False) -> Iterator[bytes]:
    """Yield the decompressed bytes of [start, end), a block at a time; `keep` as in `stored_blocks`.

    Where a compressed stream is entered in the middle, what comes before `start` is read and left out.
    Raises DamagedStreamError after the last byte that could be decompressed. A table's bytes are its rows as
    lines of JSON.
    """
    if source.layout is not None:
        yield from _between(_table_lines(source, source.layout), start, end)
        return
    if source.compression is None:
        yield from stored_blocks(source, start, end, keep=keep)
        if source.damage and end < 0:
            raise DamagedStreamError(source.damage)
        return
    yield from _between(unpacked(stored_blocks(source, keep=keep), source.compression), start, end)


def _table_lines(source: Source, layout: Layout) -> Iterator[bytes]:
    try:
        with _open(source.location, source.path) as file:
            yield from json_lines(file, layout)
    except DamagedTableError as error:
        raise DamagedStreamError(str(error)) from error


def line_starts(source: Source, offsets: Iterable[int]) -> list[int]:
    """Return the start of the first line at or after each byte offset, once each, up to the file's end."""
    found: list[int] = []
    with _open(source.location, source.path) as file:
        for offset in offsets:
            file.seek(max(0, offset - 1))
            if offset:
                file.readline()
            start = file.tell()
            if start < (source.size or 0) and start not in found:
                found.append(start)
    return found


def _between(stream: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    position = 0
    for block in stream:
        piece = block[max(0, start - position) : max(0, end - position) if end >= 0 else None]
        position += len(block)
        if piece:
            yield piece
        if 0 <= end <= position:
            return


class _Unpacker(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes) -> bytes: ...


def unpacked(stored: Iterator[bytes], compression: Literal["gz", "zst"]) -> Iterator[bytes]:
    """Decompress a stream of one or more members or frames; raise DamagedStreamError where it breaks.

    Zeros behind a gzip member are padding, as gzip itself takes them.
    """
    unpacker: _Unpacker | None = None
    padding = b""
    for data in stored:
        for piece in _pieces(data):
            rest = piece if unpacker else piece.lstrip(padding)
            while rest:
                unpacker = unpacker or _unpacker(compression)
                try:
                    if out := unpacker.decompress(rest):
                        yield out
                except Exception as error:  # zlib and zstandard each have their own
                    raise DamagedStreamError(f"the {compression} stream is damaged: {error}") from error
                padding = b"\0" if compression == "gz" else b""
                rest = unpacker.unused_data.lstrip(padding) if unpacker.eof else b""
                unpacker = None if unpacker.eof else unpacker
    if unpacker is not None:
        raise DamagedStreamError(f"the {compression} stream ends early: the file was cut")


def _pieces(data: bytes) -> Iterator[bytes]:
    # Small bites bound what a block of zeros, a thousandfold smaller when stored, becomes in memory.
    for i in range(0, len(data), 1 << 15):
        yield data[i : i + (1 << 15)]


def _unpacker(compression: Literal["gz", "zst"]) -> _Unpacker:
    if compression == "gz":
        return cast(_Unpacker, zlib.decompressobj(wbits=31))
    import zstandard

    return cast(_Unpacker, zstandard.ZstdDecompressor().decompressobj())
