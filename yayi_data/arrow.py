"""Between numpy and Arrow by their buffers, without a copy.

`pyarrow.array` and `to_numpy` import pandas where it is installed, `dictionary_encode` pyarrow.compute:
each takes a quarter of a second.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def numbers(values: NDArray[Any]) -> Any:
    """Return an Arrow array of the values of a numpy array, without a copy where they are contiguous."""
    flat = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat.data)])


def bits(values: NDArray[np.bool_]) -> Any:
    """Return an Arrow array of booleans, which takes a bit each."""
    packed = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed.data)])


def texts(values: Sequence[str]) -> Any:
    """Return an Arrow array of strings."""
    encoded = [value.encode() for value in values]
    ends = np.fromiter(accumulate(map(len, encoded), initial=0), np.int32, len(encoded) + 1)
    buffers = [None, pa.py_buffer(ends.data), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def coded(names: Sequence[str]) -> Any:
    """Return an Arrow array of few different strings, numbered in the order in which they first appear."""
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    indices = np.fromiter(map(codes.__getitem__, names), np.int32, len(names))
    return pa.DictionaryArray.from_arrays(numbers(indices), texts(list(codes)))


def values(array: Any) -> NDArray[Any]:
    """Return the numbers of an Arrow array that has no nulls, as a view."""
    kind = np.dtype(array.type.to_pandas_dtype())
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(0, kind)
    return np.frombuffer(buffer, kind, len(array), array.offset * kind.itemsize)
