from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yayi_data import manifest
from yayi_data.atomic import write_atomically
from yayi_data.index import domain_counts, merge_index, read_index
from yayi_data.manifest import Ledger, Manifest, SourceFacts, TemplateFacts, TokenizerFacts
from yayi_data.shard.columns import Rows
from yayi_data.shard.datasets import datasets_files
from yayi_data.shard.write import index_part, shard_name, write_shard

FOLDER_FILES = ("index.arrow", "dataset_info.json", "state.json", "dropped.jsonl", "tokenizer/tokenizer.json")


def made_up(n: int, seed: int = 0, source: int = 0) -> Rows:
    """Rows of made-up tokens in two domains; rows 0 and 1 are equal where there are two."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, n)
    if n > 1:
        lengths[1] = lengths[0]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, 1000, offsets[-1]).astype(np.int32)
    if n > 1:
        ids[offsets[1] : offsets[2]] = ids[offsets[0] : offsets[1]]
    return Rows(
        ids=ids,
        mask=rng.random(len(ids)) < 0.5,
        offsets=offsets,
        domains=[("金融", "general")[i % 2] for i in range(n)],
        source=source,
        lines=np.arange(1, n + 1),
        records=np.arange(n),
    )


def write_folder(folder: Path, shards: list[Rows]) -> Manifest:
    """Write a packed folder of made-up content, as pack would."""
    names = [shard_name(i) for i in range(len(shards))]
    facts = [
        write_shard(folder / name, [rows] if len(rows) else [])
        for name, rows in zip(names, shards, strict=True)
    ]
    parts = [index_part(folder / name) for name in names]
    merge_index(parts, folder / "index.arrow")
    for part in parts:
        part.unlink()
    (folder / "tokenizer").mkdir()
    beside = {"dropped.jsonl": b'{"reason": "long"}\n', "tokenizer/tokenizer.json": b'{"model": {}}'}
    for name, data in {**datasets_files(facts), **beside}.items():
        write_atomically(folder / name, data)
    rows = sum(f.rows for f in facts)
    written = Manifest(
        sources=[SourceFacts("a.jsonl", 10, "0" * 64, rows + 1, "alpaca")],
        options={"max_length": 2048, "train_on": "all"},
        template=TemplateFacts("yayi", "1" * 64),
        tokenizer=TokenizerFacts("f" * 16, {"<|End|>": 999}, 1000),
        ledger=Ledger(rows + 1, rows, {"long": 1}),
        domains=domain_counts(read_index(folder / "index.arrow")),
        rows=rows,
        tokens=sum(f.tokens for f in facts),
        supervised_tokens=sum(f.supervised_tokens for f in facts),
        straddling_tokens=0,
        shards=facts,
        files=[manifest.file_facts(folder, name) for name in FOLDER_FILES],
        order_version=1,
    )
    manifest.write(folder, written)
    return written


@pytest.fixture
def rows() -> Callable[..., Rows]:
    return made_up


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A packed folder of three shards with 30, 0 and 20 rows."""
    folder = tmp_path / "packed"
    folder.mkdir()
    write_folder(folder, [made_up(30), made_up(0), made_up(20, seed=1)])
    return folder
