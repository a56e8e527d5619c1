"""Whichever byte of a packed folder changes, verify names the file, and no training step uses it."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from yayi_data.errors import YayiError
from yayi_data.pipeline import PackOptions, pack
from yayi_data.verify import verify
from yayi_train.config import DataConfig
from yayi_train.data import open_corpus
from yayi_train.feed import read_batch

UNUSED = {"dropped.jsonl", "dataset_info.json", "state.json"}
"""Files for people and for `datasets`, which training does not open."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_level: Path) -> Path:
    top = tmp_path_factory.mktemp("packed")
    lines = [{"instruction": f"第{n}题", "output": "答" * (n % 7 + 1)} for n in range(20)] + [
        {"instruction": "x"}
    ]
    (top / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pack(PackOptions((str(top / "a.jsonl"),), str(byte_level), top / "out", on_problem="drop"))
    return top / "out"


def train_on(folder: Path) -> None:
    """Open the folder as a run does, and read every conversation into a batch."""
    data = DataConfig(str(folder), 2048, True, 0, {}, [], None)
    corpus = open_corpus(folder, data, seed=515)
    read_batch(corpus, [np.concatenate([corpus.train, corpus.test])], torch.device("cpu"))


def test_any_changed_byte_is_found_and_never_trained_on(folder: Path) -> None:
    pick = random.Random(515)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    train_on(folder)
    refused = 0
    for number in range(1000):
        path = files[number % len(files)]
        good = path.read_bytes()
        if not good:
            continue
        bad = bytearray(good)
        bad[pick.randrange(len(bad))] ^= pick.randrange(1, 256)
        path.write_bytes(bad)
        assert [finding.file for finding in verify(folder)] == [path.relative_to(folder).as_posix()]
        if path.name not in UNUSED:
            with pytest.raises(YayiError):
                train_on(folder)
            refused += 1
        path.write_bytes(good)
    train_on(folder)
    assert refused > 500
