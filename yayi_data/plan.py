"""Who is trained on when: packed rows, length-grouped batches, splits and mixtures, made from the index.

Everything here is a pure function of its arguments. The order comes from a fixed 64-bit integer hash, the
same on every platform and in every version of numpy; ORDER_VERSION changes when the order does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yayi_data.errors import YayiError
from yayi_data.histogram import Pattern, fill

ORDER_VERSION = 1

Integers = NDArray[np.integer[Any]]

_DRAWS = 1 << 16
_GROUP = 64  # batches that are sorted by length together: enough to pad little, few enough to mix
_PARTS = 1_000_000  # weights count in millionths, so that shares are exact integers


@dataclass(frozen=True, slots=True)
class Plan:
    """Examples in rows: row i holds `examples[offsets[i]:offsets[i + 1]]`, numbers of the given examples."""

    offsets: NDArray[np.int64]
    examples: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> NDArray[np.int64]:
        """Return the examples of one row, as a view."""
        return self.examples[self.offsets[i] : self.offsets[i + 1]]


def pack(lengths: Integers, seq_len: int, seed: int, epoch: int) -> Plan:
    """Put every example into exactly one row of at most `seq_len` tokens, with new companions every epoch.

    `lengths` are the examples' tokens, at least 1 each. The cost depends on the range of lengths more than on
    the number of examples. Raises YayiError where examples are longer than a row.
    """
    n = len(lengths)
    patterns = _patterns(lengths, seq_len, seed, epoch)
    if not patterns:
        return Plan(np.zeros(1, np.int64), np.empty(0, np.int64))
    sizes = np.array([len(row) for row, _ in patterns])
    flat = np.concatenate([row for row, _ in patterns])
    rows = np.repeat(np.arange(len(patterns)), [rows for _, rows in patterns])
    rows = rows[shuffled(len(rows), _key("rows", seed, epoch))]
    offsets = _offsets(sizes[rows])
    slots = np.repeat((np.cumsum(sizes) - sizes)[rows] - offsets[:-1], sizes[rows]) + np.arange(n)
    examples = np.empty(n, np.int64)
    examples[_by_length(flat[slots], None)] = _by_length(lengths, _key("examples", seed, epoch))
    return Plan(offsets, examples)


def count_rows(lengths: Integers, seq_len: int, seed: int, epoch: int) -> int:
    """Return the number of rows that `pack` makes of the same arguments, without dealing the examples out."""
    return sum(rows for _, rows in _patterns(lengths, seq_len, seed, epoch))


def _patterns(lengths: Integers, seq_len: int, seed: int, epoch: int) -> list[Pattern]:
    _refuse_long(lengths, seq_len)
    n = len(lengths)
    if n == 0:
        return []
    draws = lengths[hashed(min(n, _DRAWS), _key("draws", seed, epoch)) % n]
    return fill(np.bincount(lengths).tolist(), seq_len, draws.tolist())


def unpacked(lengths: Integers, rows: int, seed: int, epoch: int) -> Plan:
    """Put every example into exactly one batch of `rows` examples (one batch has the rest), alike in length.

    Batches are cut from groups of 64 batches that were shuffled together and sorted by length, so companions
    change every epoch; then the batches are shuffled.
    """
    n = len(lengths)
    order = shuffled(n, _key("examples", seed, epoch))
    group = np.arange(n) // (_GROUP * rows)
    order = order[np.lexsort((lengths[order], group))]
    starts = np.arange(0, n, rows)
    sizes = np.minimum(rows, n - starts)
    batches = shuffled(len(starts), _key("batches", seed, epoch))
    offsets = _offsets(sizes[batches])
    return Plan(offsets, order[np.repeat(starts[batches] - offsets[:-1], sizes[batches]) + np.arange(n)])


def split(
    content_hash: NDArray[np.uint64], test_size: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the examples to train on and those to test on, each in ascending order.

    `test_size` is a share below 1 and a count from 1 on. Equal contents fall on the same side, and which side
    follows from the seed and the contents, not from their order. The test side is never larger than asked; it
    is smaller only where every group of equal contents that is left is too large for the rest. Raises
    YayiError where nothing would be left on a side.
    """
    n = len(content_hash)
    wanted = _count(test_size, n)
    if not wanted:
        return np.arange(n), np.empty(0, np.int64)
    keys = hashed(content_hash, _key("split", seed))
    for reach in (2 * wanted, n):  # the first keys nearly always hold enough, and are sorted in no time
        last = min(reach, n - 1)
        ordered = np.sort(keys[keys <= np.partition(keys, last)[last]])
        starts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
        sizes = np.diff(starts, append=len(ordered))
        chosen = _first_groups(sizes, wanted)
        if sizes[chosen].sum() == wanted:
            break
    first = int((chosen == np.arange(len(chosen))).sum())  # these begin the order: one comparison finds them
    in_test = keys < ordered[starts[first]]
    if first < len(chosen):
        in_test |= np.isin(keys, ordered[starts[chosen[first:]]])
    if not len(chosen):
        raise YayiError(
            f"--test-size {test_size:g}: equal conversations stay together, and each has at least "
            f"{sizes.min() - 1} equals; ask for {sizes.min()} or more"
        )
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def _first_groups(sizes: Integers, wanted: int) -> NDArray[np.int64]:
    """Return the first groups that hold `wanted` examples together; what is too large is passed over."""
    chosen = []
    groups = np.arange(len(sizes))
    while wanted and len(groups := groups[sizes[groups] <= wanted]):
        taken = groups[np.cumsum(sizes[groups]) <= wanted]
        chosen.append(taken)
        wanted -= int(sizes[taken].sum())
        groups = groups[len(taken) + 1 :]
    return np.concatenate([np.empty(0, np.int64), *chosen])


def repeat(domain: Integers, weights: Sequence[float], seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the examples of an epoch in ascending order, each as often as the weight of its domain says.

    `domain` indexes `weights`. A weight of 2 is twice, 0 never, 0.5 a seeded half: the halves of successive
    epochs follow each other round the domain, so after E epochs every example was there E * weight times,
    rounded down or up. Weights count in millionths. Raises YayiError for one that is negative or no number.
    """
    for weight in weights:
        if not 0 <= weight < _PARTS:
            raise YayiError(f"--mix: a weight is a number from 0 to {_PARTS - 1:,}, not {weight:g}")
    parts = np.array([round(weight * _PARTS) for weight in weights], np.int64)
    times = (parts // _PARTS)[domain]
    for code in np.flatnonzero(parts % _PARTS).tolist():
        members = np.flatnonzero(domain == code)
        if not len(members):
            continue
        turn = int(parts[code] % _PARTS) * len(members)
        start, end = epoch * turn // _PARTS, (epoch + 1) * turn // _PARTS
        keys = _unique(hashed(len(members), _key("mix", seed, code)))
        times[members[_ranked(keys, start % len(members), end - start)]] += 1
    return np.repeat(np.arange(len(domain)), times)


def mix_weights(names: Sequence[str], mix: Mapping[str, float]) -> list[float]:
    """Return the weight of each of the domains `names`, 1 where `mix` names none.

    Raises YayiError where `mix` names a domain that the data lacks.
    """
    unknown = sorted(set(mix) - set(names))
    if unknown:
        raise YayiError(f"--mix: the data has no domain {', '.join(unknown)}; it has {', '.join(names)}")
    return [mix.get(name, 1.0) for name in names]


def hashed(values: int | Integers, key: int) -> NDArray[np.uint64]:
    """Return the splitmix64 hash of each value (of 0 … n - 1 for a number n) under `key`; a bijection."""
    mixed = np.arange(values, dtype=np.uint64) if isinstance(values, int) else values.astype(np.uint64)
    mixed += np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def shuffled(n: int, key: int) -> NDArray[np.int64]:
    """Return the numbers 0 … n - 1 in the order of their hashes under `key`."""
    return _sorted_places(hashed(n, key))


def _ranked(keys: NDArray[np.uint64], start: int, count: int) -> NDArray[np.bool_]:
    """Tell which keys are at `start` … `start + count - 1` of their order, which begins anew at its end."""
    n = len(keys)
    if not count:
        return np.zeros(n, np.bool_)
    last = (start + count - 1) % n
    borders = np.partition(keys, sorted({start, last}))[[start, last]]
    after, before = keys >= borders[0], keys <= borders[1]
    ranked: NDArray[np.bool_] = after & before if start <= last else after | before
    return ranked


def _by_length(lengths: Integers, key: int | None) -> NDArray[np.int64]:
    """Return places by ascending length; equal lengths by their hash under `key`, or by place without one."""
    bits = int(lengths.max()).bit_length()
    keys = np.zeros(len(lengths), np.uint64) if key is None else hashed(len(lengths), key)
    keys >>= np.uint64(bits)
    keys |= lengths.astype(np.uint64) << np.uint64(64 - bits)
    return _sorted_places(keys)


def _sorted_places(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of `keys` in ascending order; overwrites `keys`.

    Sorting plain integers is several times faster than sorting places.
    """
    _unique(keys).sort()
    keys &= _low_bits(len(keys))
    return keys.view(np.int64)


def _unique(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put each key's place into its lowest bits, and return the same array: any sort gives the same order."""
    keys &= ~_low_bits(len(keys))
    keys |= np.arange(len(keys), dtype=np.uint64)
    return keys


def _low_bits(n: int) -> np.uint64:
    return np.uint64((1 << max(n - 1, 0).bit_length()) - 1)


def _key(purpose: str, *numbers: int) -> int:
    """Return a 64-bit key for one purpose of one (seed, epoch): each has an order of its own."""
    key = 0
    for number in (ORDER_VERSION, *purpose.encode(), *numbers):
        key = int(hashed(np.array([(key ^ number) & (2**64 - 1)], np.uint64), 0x9E3779B97F4A7C15)[0])
    return key


def _offsets(sizes: Integers) -> NDArray[np.int64]:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _refuse_long(lengths: Integers, seq_len: int) -> None:
    longest = int(lengths.max(initial=0))
    if longest > seq_len:
        raise YayiError(
            f"--seq-len {seq_len}: {(lengths > seq_len).sum()} of {len(lengths)} conversations are longer, "
            f"up to {longest} tokens; raise --seq-len, or pack again with --max-length {seq_len}"
        )


def _count(test_size: float, n: int) -> int:
    """Return the number of examples to test on."""
    if not (test_size >= 0 and (test_size < 1 or float(test_size).is_integer())):
        raise YayiError(f"--test-size {test_size:g}: is neither a share below 1 nor a whole number")
    count = round(test_size * n) if test_size < 1 else int(test_size)
    if count and count >= n:
        raise YayiError(f"--test-size {test_size:g}: there are {n} conversations; ask for fewer than that")
    return count
