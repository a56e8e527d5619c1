"""The loss of a model on packed data."""

import json

import pytest

from yayi_train.config import DataConfig
from yayi_train.score import score


def test_a_base_without_control_tokens_scores_what_its_training_begins_with(train, packed, model, tmp_path):
    flags = ("--limit", 6, "--per-device-train-batch-size", 6, "--max-steps", 1)
    first = json.loads((train(*flags, folder=tmp_path / "out") / "metrics.jsonl").read_text().splitlines()[0])
    data = DataConfig(str(packed), seq_len=512, packing=True, test_size=0, mix={}, domains=[], limit=6)
    assert score(str(model), data, 6).eval_loss == pytest.approx(first["loss"], rel=1e-6)


def test_it_is_the_same_where_a_launcher_started_several(packed, model, monkeypatch):
    data = DataConfig(str(packed), seq_len=512, packing=True, test_size=0, mix={}, domains=[], limit=6)
    alone = score(str(model), data, 1)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert score(str(model), data, 1) == alone
