"""The nouns of the data side.

What is made once per record is a NamedTuple, which costs a quarter of a frozen dataclass to create.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

Dialect = Literal["alpaca", "multi-turn", "sharegpt", "messages"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
"""The shapes of records; each has a schema, and a row of two functions in `yayi_data.convert`."""

Role = Literal["user", "assistant", "tool_call", "tool_result"]
"""Who speaks in a turn, in the field's standard terms; each dialect maps its own names to these."""


class Severity(StrEnum):
    """How bad a problem is: an error breaks the record's structure, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Problem(NamedTuple):
    """One finding in the data, at its exact place.

    `line` and `column` are 1-based, columns count code points; `record` is 0-based and counts malformed
    records too (None where the problem belongs to no record); `pointer` is a JSON Pointer into the record.
    """

    path: str
    line: int
    column: int
    record: int | None
    pointer: str
    rule: str
    severity: Severity
    message: str
    snippet: str = ""
    caret: int = 0
    """A piece of the offending line, and how many of its characters stand before the place."""
    content: str = ""
    """What tells this problem from its like in another run, where the snippet does not."""


class Record(NamedTuple):
    """One record as it stands in its source, placed before it is parsed.

    `source` indexes the run's sources, `number` is 0-based, `line` 1-based; `start` is the byte offset of
    the record's first byte in the (decompressed) source.
    """

    source: int
    number: int
    line: int
    start: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one source, read and parsed together: parallel columns, one entry a record.

    `problems` are what reading itself found in, between or around the records (in an array: all syntax
    faults); a record whose `raws` entry is empty is malformed, and its problem is among them. `columns` is
    empty where every record starts in column 1. `values` are the parsed records where reading had to parse.
    `data` is the stretch of the source from the first record's first byte on that holds them all, for
    searching them at once.
    """

    source: int
    number: int
    lines: Sequence[int]
    starts: list[int]
    raws: Sequence[bytes]
    problems: list[Problem] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    values: list[Any] | None = None
    data: bytes = b""

    def __len__(self) -> int:
        return len(self.raws)

    def records(self) -> Iterator[Record]:
        """Yield the records one by one, with their places."""
        for i, raw in enumerate(self.raws):
            yield Record(self.source, self.number + i, self.lines[i], self.starts[i], raw)


class Turn(NamedTuple):
    """One turn of a conversation; `train` is False where the record says not to learn from it."""

    role: Role
    text: str
    train: bool = True


class Conversation(NamedTuple):
    """A record in the one form that every dialect converts to and from.

    `system` is "" where the template's default applies; `tools` is the JSON text of the tool definitions.
    """

    turns: tuple[Turn, ...]
    system: str = ""
    tools: str = ""
