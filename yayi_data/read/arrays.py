"""Reads the records of one JSON array, streamed; a malformed record costs itself only.

A stretch at a time is scanned and parsed at once (`spans`). Where that fails, records are taken one by one
with the strict scanner, which names the fault, and reading goes on at the next plausible record start.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from yayi_data.read.buffer import BOM_FOUND, MAX_RECORD_BYTES, TOO_LARGE, Buffer, Place
from yayi_data.read.locate import SHOWN_BYTES, advance, problem
from yayi_data.read.scan import TOO_DEEP, Fault, Scan, scan, shown, skip_space
from yayi_data.read.slices import Slices
from yayi_data.read.sources import BLOCK_BYTES, BOM, Source
from yayi_data.read.spans import Spans, adjoin, find_spans, parse_all, parses, places
from yayi_data.read.starts import LOOK_BEHIND, REACH, begins_record, next_start
from yayi_data.types import Chunk, Problem

_SMALL = 1 << 14
_MARGIN = 1 << 12
"""A record that is not closed so many bytes after the next one's start is not closed before it."""
_NO_COMMA = "expected , before this record: the comma between two records is missing"


class ArrayReader:
    """Iterates the chunks of an array, or of a part of it.

    `whole` tells that the blocks reach to the end of the file, where the array must be closed; otherwise
    they end where another record begins.
    """

    def __init__(self, source: Source, blocks: Iterator[bytes], place: Place, *, whole: bool) -> None:
        self.source = source
        self.text = Buffer(blocks, place)
        self.whole = whole
        self.record = place.record
        self.window = BLOCK_BYTES
        self.taken = self._nothing()
        self.size = 0
        self.problems: list[Problem] = []
        self.closed = False
        self.unclosed: tuple[int, Problem] | None = None
        self.state: Callable[[], Chunk | None] = self._opening if place.offset == 0 else self._element

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunks until the array, or its part, ends."""
        while self.text.skip_space():
            chunk = self.state()
            if (chunk and (len(self.taken) or self.problems)) or self.size >= BLOCK_BYTES:
                yield self._flushed()
            if chunk:
                yield chunk
        self._at_end()
        if len(self.taken) or self.problems:
            yield self._flushed()

    def _nothing(self) -> Chunk:
        self.raws: list[bytes] = []
        self.lines: list[int] = []
        return Chunk(self.source.index, self.record, self.lines, [], self.raws)

    def _flushed(self) -> Chunk:
        """Give out the records that were taken one by one, and the problems found meanwhile."""
        chunk = self.taken if len(self.taken) else self._nothing()
        self.taken, self.size = self._nothing(), 0
        chunk.problems.extend(self.problems)
        self.problems = []
        return chunk

    def _report(self, rule: str, message: str) -> None:
        """Note a problem at the position that belongs to no record."""
        self._report_faults([Fault(self.text.position, rule, message)], None)

    def _report_faults(self, faults: list[Fault], record: int | None) -> None:
        where, begin = self.text.where(self.source.path, record), self.text.position
        end = max((fault.offset for fault in faults), default=begin)
        raw = self.text.data[begin : end + SHOWN_BYTES]
        self.problems += [
            problem(where, raw, at - begin, rule, message, path) for at, rule, message, path in faults
        ]

    # States: each looks at the byte at the position, which is no space.

    def _head(self) -> bytes:
        return self.text.data[self.text.position : self.text.position + 1]

    def _opening(self) -> None:
        """Expect the array's bracket, perhaps behind a byte order mark."""
        if self.text.data.startswith(BOM):
            self._report("encoding-bom", BOM_FOUND)
            self.text.position = len(BOM)
            self.text.skip_space()
        self.text.position += 1
        self.state = self._first

    def _first(self) -> Chunk | None:
        """Expect a record or the end of an empty array."""
        if self._head() == b"]":
            self._close()
            return None
        self.state = self._element
        return self._element()

    def _element(self) -> Chunk | None:
        """Expect a record."""
        head = self._head()
        if head == b"]":
            self._report("syntax", "expected a record after the comma, found ]: remove the last comma")
            self._close()
            return None
        if head == b",":
            self._report("syntax", "expected a record, found ',': remove one of the two commas")
            self.text.position += 1
            return None
        if head == b"{":
            return self._stretch()
        self._single()
        return None

    def _between(self) -> None:
        """Expect a comma or the array's end; a record that begins here lacks its comma."""
        head = self._head()
        if head == b"]":
            self._close()
            return
        self.state = self._element
        if head == b",":
            self.text.position += 1
        elif not self.closed:
            self._report("syntax", _NO_COMMA)

    def _close(self) -> None:
        self.text.position += 1
        self.closed = True
        self.state = self._after

    def _after(self) -> None:
        """Report what stands behind the array; read on where records begin there."""
        found = shown(self.text.data, self.text.position)
        self._report("syntax", f"{found} after the end of the array: a file holds one array")
        self._resume(self.text.position)

    def _swallow(self) -> None:
        """Skip what follows a malformed record when no other begins."""
        self.text.position = len(self.text.data)

    def _at_end(self) -> None:
        """Report an array that was not closed, or a comma missing before the next part."""
        if self.text.damage:
            self._report("compression", self.text.damage)
        elif self.whole and not self.closed and self.state != self._swallow:
            self._report("syntax", "the file ends inside the array: expected ]; was the file cut?")
        elif not self.whole and self.state == self._between:
            self._report("syntax", _NO_COMMA)

    # Taking records.

    def _stretch(self) -> Chunk | None:
        """Take all whole records of the next window at once."""
        text = self.text
        spans, window = self._spans_ahead()
        if not spans.starts and len(text.data) - text.position < 2 * BLOCK_BYTES and text.more():
            spans, window = self._spans_ahead()
        values = parse_all(window, spans) if spans.starts and spans.starts[0] == 0 else None
        if values is None:
            self._one_by_one(window, spans)
            return None
        self.window = min(self.window * 2, BLOCK_BYTES)
        return self._chunk(window[: spans.ends[-1]], spans, values)

    def _spans_ahead(self) -> tuple[Spans, bytes]:
        ahead = self.text.data[self.text.position : self.text.position + max(self.window, _SMALL)]
        spans = find_spans(ahead)
        count = len(spans.starts)
        while count and not adjoin(ahead, spans, count - 1):
            count -= 1
        return Spans(spans.starts[:count], spans.ends[:count]), ahead

    def _chunk(self, data: bytes, spans: Spans, values: list[Any]) -> Chunk:
        line, column = self.text.place()
        lines, columns = places(data, spans, line, column)
        offset = self.text.offset
        chunk = Chunk(
            self.source.index,
            self.record,
            lines,
            [offset + start for start in spans.starts],
            Slices(data, *spans),
            columns=columns,
            values=values,
            data=data,
        )
        self.record += len(values)
        self.text.position += len(data)
        self.state = self._between
        return chunk

    def _one_by_one(self, window: bytes, spans: Spans) -> None:
        """Take records as long as each parses on its own, then look closely at the one that does not."""
        if not spans.starts or spans.starts[0]:
            self._single()
            return
        self.window = _SMALL
        begin = self.text.position
        for i, (start, end) in enumerate(zip(*spans, strict=True)):
            self.text.position = begin + start
            if not parses(window[start:end]) or not adjoin(window, spans, i):
                self._single()
                return
            self._take(window[start:end])
            self.text.position = begin + end
            self.state = self._between

    def _take(self, raw: bytes) -> None:
        """Take a record that begins at the position; b"" stands for a malformed one."""
        line, column = self.text.place()
        if not len(self.taken):
            self.taken = self._nothing()
        self.raws.append(raw)
        self.lines.append(line)
        self.taken.columns.append(column)
        self.taken.starts.append(self.text.offset)
        self.size += len(raw) + 1
        self.record += 1

    def _single(self) -> None:
        """Take the record at the position with the strict scanner, or report it and move on."""
        if self._is_unclosed():
            return
        found, following = self._scanned()
        data, begin = self.text.data, self.text.position
        fault = found.syntax or self._misplaced(found, following)
        if self.text.damage and found.end >= len(data):
            fault = Fault(begin, "compression", self.text.damage)
            self.text.damage = ""
        if fault is None:
            self._take(data[begin : found.end])
            self.text.position = found.end
            self.state = self._between
            return
        self._lose(fault, found)

    def _lose(self, fault: Fault, found: Scan) -> None:
        """Report the malformed record at the position, and go on at the next one.

        That may begin before the fault, where this one was cut off or lost a quote.
        """
        data, begin = self.text.data, self.text.position
        if (stray := _STRAY.match(data, begin)) and self._begins(stray.end()):
            self._report_faults([fault], self.record)
            self.text.position = stray.end()
            return
        inner = None
        if found.syntax and fault.message != TOO_DEEP:  # each of a thousand levels might be a record
            inner = next_start(data, begin + 1, found.end, self.source.first_key)
        own = [other for other in found.faults if other.offset < (inner or len(data))]
        self._report_faults([*own, fault], self.record)
        if inner and fault.rule != "compression":
            self.unclosed = self.text.offset + found.end - begin, self.problems[-1]
            self._hint(inner)
        self._take(b"")
        self._resume(inner or max(fault.offset, begin + 1))

    def _hint(self, inner: int) -> None:
        """Add to the last problem where the next record begins, which may be far from the fault."""
        line, column = advance(*self.text.place(), self.text.data[self.text.position : inner])
        told = self.problems[-1]
        hint = f"; the next record begins before this one is closed, at {line}:{column}"
        self.problems[-1] = told._replace(message=told.message + hint)

    def _is_unclosed(self) -> bool:
        """Lose a record that is cut off inside another one that is, at little cost.

        The scan of the outer one went through this one too, up to its fault; so where this one is not closed
        before the next begins, its fault is the same. Many such records would take long to scan to there.
        """
        data, begin = self.text.data, self.text.position
        if not self.unclosed or self.text.offset >= self.unclosed[0]:
            return False
        inner = next_start(data, begin + 1, begin + REACH, self.source.first_key)
        if inner is None or inner + _MARGIN > begin + self.unclosed[0] - self.text.offset:
            return False
        found = scan(data[begin : inner + _MARGIN])
        if begin + found.end < inner + _MARGIN:
            return False
        own = [other._replace(offset=begin + other.offset) for other in found.faults]
        faults = [other for other in own if other.offset < inner]
        if self.unclosed[1].rule == "too-large":  # stands where its record begins
            faults.append(Fault(begin, "too-large", TOO_LARGE))
        self._report_faults(faults, self.record)
        if self.unclosed[1].rule != "too-large":
            self.problems.append(self.unclosed[1]._replace(record=self.record))
        self._hint(inner)
        self._take(b"")
        self._resume(inner)
        self.window = _SMALL
        return True

    def _scanned(self) -> tuple[Scan, int]:
        """Scan the record at the position, reading on until its end and what follows are known."""
        text = self.text
        while True:
            found = scan(text.data, text.position)
            following = skip_space(text.data, found.end)
            if following + REACH < len(text.data) or text.ended:
                return found, following
            if following + 4 >= len(text.data) and len(text.data) - text.position > MAX_RECORD_BYTES:
                found.syntax = Fault(text.position, "too-large", TOO_LARGE)
                return found, following
            text.more()

    def _misplaced(self, found: Scan, following: int) -> Fault | None:
        """Find the fault in what follows a whole record: neither a comma, the end, nor another record."""
        data = self.text.data
        if following >= len(data) or data[following : following + 1] in (b",", b"]"):
            return None
        if self._begins(following):
            return None
        return Fault(following, "syntax", f"expected , or ] after the record, found {shown(data, following)}")

    def _begins(self, position: int) -> bool:
        """Tell whether a record plausibly begins at a position, be it that of the next part."""
        if position == len(self.text.data):
            return not self.whole
        return begins_record(self.text.data, position, self.source.first_key)

    def _resume(self, start: int) -> None:
        """Go on at the next plausible record start at or after `start`, or to the end."""
        text = self.text
        while True:
            end = len(text.data) if text.ended else len(text.data) - REACH
            if (found := next_start(text.data, start, end, self.source.first_key)) is not None:
                text.position = found
                self.state = self._element
                return
            if text.ended:
                self.state = self._swallow
                return
            start = max(start, end)
            text.pass_by(start - LOOK_BEHIND)
            start -= text.position
            text.more()


_STRAY = re.compile(rb"(?:[^\s{}\[\],\"]{1,64}\s*|\{)(?=\{|\Z)")
"""What stands before a record and is none itself."""
