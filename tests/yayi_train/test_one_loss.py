"""The numbers of a step are those of its global batch, however it is laid out."""

import json
from pathlib import Path

import orjson
import pytest


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run) if "loss" in line]


def norms(run: Path) -> list[float]:
    return [line["grad_norm"] for line in lines(run) if "loss" in line]


@pytest.fixture(scope="module")
def whole(train):
    """Three steps of four rows, each one forward pass."""
    return train("--deepspeed", "zero0", "--per-device-train-batch-size", 4, "--max-steps", 3)


@pytest.mark.parametrize(
    ("zero", "ranks", "rows", "accumulation"),
    [("zero1", 2, 2, 1), ("zero2", 2, 1, 2), ("zero3", 2, 1, 2), ("zero2", 1, 1, 4), ("zero2", 4, 1, 1)],
)
def test_it_does_not_depend_on_ranks_accumulation_or_zero(train, whole, zero, ranks, rows, accumulation):
    layout = ("--per-device-train-batch-size", rows, "--gradient-accumulation-steps", accumulation)
    run = train("--deepspeed", zero, *layout, "--max-steps", 3, ranks=ranks)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    assert norms(run) == pytest.approx(norms(whole), rel=1e-5)


def test_it_is_the_same_packed_and_unpacked(train):
    packed = train("--per-device-train-batch-size", 40, "--deepspeed", "zero0")
    unpacked = train("--per-device-train-batch-size", 40, "--deepspeed", "zero0", "--no-packing")
    assert losses(packed) == pytest.approx(losses(unpacked), rel=1e-5)
    assert norms(packed) == pytest.approx(norms(unpacked), rel=1e-5)


def test_bfloat16_stays_within_a_hundredth(train, whole):
    run = train("--bf16", "--per-device-train-batch-size", 4, "--max-steps", 3)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-2)


def test_the_domains_mean_weighted_by_tokens_is_the_total(whole, packed):
    domains = orjson.loads((packed / "manifest.json").read_bytes())["domains"]
    epoch = lines(whole)
    assert set(epoch[0]["loss_by_domain"]) <= set(domains)
    assert all(
        min(e["loss_by_domain"].values()) <= e["loss"] <= max(e["loss_by_domain"].values()) for e in epoch
    )
