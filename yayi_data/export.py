"""A packed folder for other programs: labels for transformers' Trainer, parquet, or messages again."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from yayi_data.atomic import AtomicFile, fsync_path, write_atomically
from yayi_data.convert import value
from yayi_data.decode import Decoder
from yayi_data.encode import encode
from yayi_data.errors import ConversionError, DataError, YayiError
from yayi_data.finish import TOKENIZER
from yayi_data.manifest import Manifest, load
from yayi_data.outfile import refuse_output, refuse_packed
from yayi_data.progress import Progress
from yayi_data.recordfiles import WRITERS
from yayi_data.render import render
from yayi_data.shard import Shard, open_shard
from yayi_data.shard.columns import LABELS, SCHEMA, Row
from yayi_data.shard.datasets import datasets_files
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer, load_tokenizer
from yayi_data.types import Conversation


@dataclass(slots=True)
class Exported:
    """What was written: `rows` of the folder's; of messages, how many give their ids and mask `again`.

    `dropped` counts the rows that the messages dialect cannot hold, by reason.
    """

    rows: int = 0
    again: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class _Packed:
    """A packed folder, its shards opened one after the other and checked against the manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = load(folder)

    def shards(self) -> Iterator[Shard]:
        with Progress("exporting", self.manifest.rows) as progress:
            for facts in self.manifest.shards:
                yield open_shard(self.folder, facts)
                progress.advance(facts.rows)

    def rows(self) -> Iterator[Row]:
        for shard in self.shards():
            yield from (shard.row(i) for i in range(len(shard)))

    def tokenizer(self) -> Tokenizer:
        template = load_template(str(self.folder / TOKENIZER / "template.toml"))
        return load_tokenizer(str(self.folder / TOKENIZER), template)


def export(folder: Path, form: str, output: Path) -> Exported:
    """Write a packed folder in another form (a key of EXPORTS); the output appears when it is whole.

    Raises YayiError where there is no packed folder or the output is in the way, DataError where a shard is
    not what the manifest says.
    """
    packed = _Packed(folder)
    refuse_packed(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    exported = EXPORTS[form](packed, output)
    fsync_path(output.parent)
    return exported


def _labels(packed: _Packed, output: Path) -> Exported:
    if output.exists():
        raise YayiError(f"{output}: exists already; choose another --output")
    with TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent) as scratch:
        folder = Path(scratch) / output.name
        folder.mkdir()
        written = []
        for shard, facts in zip(packed.shards(), packed.manifest.shards, strict=True):
            with (
                AtomicFile(folder / facts.file) as file,
                pa.ipc.new_stream(cast(Any, file), LABELS) as writer,
            ):
                for batch in shard.labelled():
                    writer.write_batch(batch)
            written.append(replace(facts, bytes=file.bytes, sha256=file.sha256))
        for name, content in datasets_files(written).items():
            write_atomically(folder / name, content)
        folder.replace(output)
    return Exported(packed.manifest.rows, packed.manifest.rows)


def _parquet(packed: _Packed, output: Path) -> Exported:
    _refuse_ending(output, [".parquet"])
    with AtomicFile(output) as file, pq.ParquetWriter(cast(Any, file), SCHEMA) as writer:
        for shard in packed.shards():
            for batch in shard.record_batches():
                writer.write_batch(batch)
    return Exported(packed.manifest.rows, packed.manifest.rows)


def _messages(packed: _Packed, output: Path) -> Exported:
    _refuse_ending(output, list(WRITERS))
    exported = Exported()
    with AtomicFile(output) as file:
        WRITERS[output.suffix](cast(BinaryIO, file), _records(packed, exported), "messages")
        if not exported.rows:
            raise DataError(f"{packed.folder}: no row can be written as messages: {dict(exported.dropped)}")
    return exported


def _refuse_ending(output: Path, endings: list[str]) -> None:
    if output.suffix not in endings:
        raise YayiError(f"{output}: the name of --output must end in {' or '.join(endings)}")
    refuse_output(output)


def _records(packed: _Packed, exported: Exported) -> Iterator[dict[str, Any]]:
    """Yield the rows as records of the messages dialect, and count what becomes of them."""
    tokenizer = packed.tokenizer()
    decoder, rows = Decoder(tokenizer), packed.rows()
    while some := list(islice(rows, _TOGETHER)):
        kept = []
        for row, talk in zip(some, decoder.conversations(some), strict=True):
            record = _record(talk, exported)
            if talk is not None and record is not None:
                kept.append((row, talk))
                yield record
        exported.rows += len(kept)
        exported.again += _come_back(kept, tokenizer) if kept else 0


def _record(talk: Conversation | None, exported: Exported) -> dict[str, Any] | None:
    """Return a conversation as messages; None, and a drop that is counted, where that cannot be."""
    if talk is None:
        exported.dropped["not-the-template"] += 1
        return None
    try:
        return value(talk, "messages")
    except ConversionError as error:
        exported.dropped[error.reason] += 1
        return None


_TOGETHER = 256
"""Rows that are decoded together, and encoded together again."""


def _come_back(kept: Sequence[tuple[Row, Conversation]], tokenizer: Tokenizer) -> int:
    """Return how many conversations give the ids and mask of their row again."""
    try:
        encoded = encode([render(talk, tokenizer.template) for _, talk in kept], tokenizer)
    except DataError:  # a text would yield a control id: find out which
        return sum(_come_back([pair], tokenizer) for pair in kept) if len(kept) > 1 else 0
    borders = pairwise(encoded.offsets.tolist())
    return sum(
        np.array_equal(encoded.ids[start:end], row.ids) and np.array_equal(encoded.mask[start:end], row.mask)
        for (row, _), (start, end) in zip(kept, borders, strict=True)
    )


EXPORTS: dict[str, Callable[[_Packed, Path], Exported]] = {
    "labels": _labels,
    "parquet": _parquet,
    "messages": _messages,
}
"""What a packed folder can be written as."""
