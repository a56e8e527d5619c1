"""Records as ranges of a stretch of bytes, cut out when one is asked for: clean ones are parsed together."""

from collections.abc import Iterator, Sequence
from itertools import starmap
from typing import Any


class Slices(Sequence[bytes]):
    """The pieces of `data` from each of `starts` to each of `ends`."""

    def __init__(self, data: bytes, starts: list[int], ends: list[int]) -> None:
        self.data = data
        self.starts = starts
        self.ends = ends

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(Slices(self.data, self.starts[index], self.ends[index]))
        return self.data[self.starts[index] : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.data.__getitem__, starmap(slice, zip(self.starts, self.ends, strict=True)))
