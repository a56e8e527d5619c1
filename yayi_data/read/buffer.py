"""A sliding view of a stream of bytes that knows the line and column of its position."""

from collections.abc import Iterator
from dataclasses import dataclass

from yayi_data.read.locate import Where, advance
from yayi_data.read.scan import skip_space
from yayi_data.read.sources import DamagedStreamError

MAX_RECORD_BYTES = 64 << 20
TOO_LARGE = "a record of over 64 MB: is a quote or a line break missing?"
BOM_FOUND = "the file begins with a byte order mark (U+FEFF): save it as UTF-8 without one"


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a source: byte offset, line and column there, and the number of the next record."""

    offset: int = 0
    line: int = 1
    column: int = 1
    record: int = 0


class Buffer:
    """`data` holds the bytes around `position`; `more` reads on, `trim` forgets what lies behind."""

    def __init__(self, blocks: Iterator[bytes], place: Place) -> None:
        self.blocks = blocks
        self.data = b""
        self.position = 0
        self.ended = False
        self.damage = ""
        self._base = place.offset
        self._marked, self._line, self._column = 0, place.line, place.column

    def more(self) -> bool:
        """Read on, doubling what is held, so that a long record is not scanned again for every block."""
        self.trim()
        read, goal = [self.data], min(2 * len(self.data), MAX_RECORD_BYTES)
        while not self.ended and (len(read) == 1 or sum(map(len, read)) < goal):
            try:
                block = next(self.blocks, b"")
            except DamagedStreamError as error:
                self.damage, block = str(error), b""
            self.ended = not block
            read.append(block)
        grown, self.data = b"".join(read), self.data
        found = len(grown) > len(self.data)
        self.data = grown
        return found

    def trim(self) -> None:
        """Forget the bytes before the position."""
        self.place()
        self.data = self.data[self.position :]
        self._base += self.position
        self.position = self._marked = 0

    def pass_by(self, offset: int) -> None:
        """Move forward to `offset` in `data`, or to the start of the character that it cuts."""
        if offset > self.position:
            begins = (at for at in range(offset, offset - 4, -1) if self.data[at] & 0xC0 != 0x80)
            self.position = max(self.position, next(begins, offset))

    def skip_space(self) -> bool:
        """Move to the next byte that is no white space; False where the stream ends first."""
        while True:
            self.position = skip_space(self.data, self.position)
            if self.position < len(self.data):
                return True
            if not self.more():
                return False

    @property
    def offset(self) -> int:
        """The position's offset in the stream."""
        return self._base + self.position

    def place(self) -> tuple[int, int]:
        """Return the line and column of the position."""
        between = self.data[self._marked : self.position]
        self._line, self._column = advance(self._line, self._column, between)
        self._marked = self.position
        return self._line, self._column

    def where(self, path: str, record: int | None) -> Where:
        """Return the position as a place for problems."""
        return Where(path, record, *self.place())
