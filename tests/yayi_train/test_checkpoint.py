from pathlib import Path

import orjson
import pytest
import torch

from yayi_train import checkpoint as checkpoints
from yayi_train.checkpoint import (
    Checkpoint,
    best,
    last_checkpoint,
    needs_universal,
    prune,
    remove_partial,
    whole_checkpoints,
)


def write(folder: Path, step: int, eval_loss: float | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    partial = folder / f"checkpoint-{step}.partial"
    (partial / "state").mkdir(parents=True)
    (partial / "state" / "model.pt").write_bytes(b"x" * 100)
    checkpoints._publish(partial, Checkpoint(path, step, 2, 2, eval_loss, {"tokens": 0}))
    return path


def write_state(folder: Path, step: int) -> Path:
    """Write a checkpoint whose state is one that torch wrote, and return the state's file."""
    path = write(folder, step)
    file = path / "state" / "model.pt"
    torch.save({"weight": torch.arange(1000.0), "step": step}, file)
    change(path, files={"state/model.pt": file.stat().st_size})
    return file


def change(path: Path, **facts: object) -> None:
    file = path / "checkpoint.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | facts))


def steps(folder: Path) -> list[int]:
    return [checkpoint.step for checkpoint in whole_checkpoints(folder)]


def test_checkpoints_are_found_in_the_order_of_their_steps(tmp_path):
    for step in (100, 20, 3):
        write(tmp_path, step)
    assert steps(tmp_path) == [3, 20, 100]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda path: (path / "state" / "model.pt").write_bytes(b"x" * 99),
            "model.pt has 99 bytes, 100 were written",
        ),
        (lambda path: (path / "state" / "model.pt").unlink(), "model.pt is missing"),
        (lambda path: (path / "checkpoint.json").unlink(), "checkpoint.json is missing"),
        (
            lambda path: (path / "checkpoint.json").write_bytes(b'{"step"'),
            "checkpoint.json is missing or damaged",
        ),
        (
            lambda path: (path / "checkpoint.json").write_bytes(b"[1]"),
            "checkpoint.json is missing or damaged",
        ),
        (lambda path: change(path, extra=1), "checkpoint.json is missing or damaged"),
        (lambda path: change(path, step="2"), "checkpoint.json is missing or damaged"),
        (lambda path: change(path, files=[]), "checkpoint.json is missing or damaged"),
    ],
)
def test_one_that_is_not_whole_is_passed_over_and_named(tmp_path, capsys, damage, said):
    write_state(tmp_path, 1)
    damage(write(tmp_path, 2))
    assert last_checkpoint(tmp_path).step == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
        lambda content: bytes(len(content)),
        lambda content: content[:-2000] + bytes(2000),
        lambda content: content[:2048] + bytes(1024) + content[3072:],
    ],
    ids=["one bit", "all zeros", "zeros at the end", "a block of zeros"],
)
def test_one_that_changed_at_its_size_is_passed_over_and_counts_no_more(tmp_path, capsys, damage):
    write_state(tmp_path, 1)
    file = write_state(tmp_path, 2)
    file.write_bytes(damage(file.read_bytes()))
    assert last_checkpoint(tmp_path).step == 1
    assert "checkpoint-2 is damaged (state/model.pt is not as it was written)" in capsys.readouterr().err
    write_state(tmp_path, 3)
    prune(tmp_path, 2, keep_best=False)
    assert steps(tmp_path) == [1, 3]  # a limit of two would leave the damaged one and the last


def test_where_all_are_damaged_none_is_used(tmp_path, capsys):
    file = write_state(tmp_path, 1)
    file.write_bytes(bytes(file.stat().st_size))
    assert last_checkpoint(tmp_path) is None
    assert "checkpoint-1 is damaged" in capsys.readouterr().err


def test_a_damaged_one_is_pruned_in_its_turn_and_without_a_word(tmp_path, capsys):
    for step in range(1, 5):
        write(tmp_path, step)
    (tmp_path / "checkpoint-2" / "checkpoint.json").unlink()
    prune(tmp_path, 2, keep_best=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-4"]
    assert capsys.readouterr().err == ""


def test_a_half_written_one_is_no_checkpoint_and_is_swept_away(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "checkpoint-2.partial" / "state").mkdir(parents=True)
    (tmp_path / "final.partial").mkdir()
    assert steps(tmp_path) == [1]
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1"]


def test_a_damaged_one_is_replaced_when_its_step_is_saved_again(tmp_path):
    path = write(tmp_path, 2)
    (path / "state" / "model.pt").write_bytes(b"")
    write(tmp_path, 2)
    assert steps(tmp_path) == [2]


def test_only_the_last_ones_are_kept(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step)
    prune(tmp_path, 2, keep_best=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-5"]


def test_the_best_one_is_kept_beside_the_last(tmp_path):
    for step, loss in enumerate((3.0, 1.0, 2.0, None, 1.0), start=1):
        write(tmp_path, step, loss)
    assert best(whole_checkpoints(tmp_path)).step == 2
    prune(tmp_path, 1, keep_best=True)
    assert steps(tmp_path) == [2, 5]


def test_only_zero_at_another_number_of_ranks_needs_conversion():
    made = Checkpoint(Path(), 1, 2, 2, None, {})
    assert needs_universal(made, 1)
    assert not needs_universal(made, 2)
    assert not needs_universal(Checkpoint(Path(), 1, 2, 0, None, {}), 1)


def test_its_facts_are_plain_json(tmp_path):
    facts = orjson.loads((write(tmp_path, 7, 0.5) / "checkpoint.json").read_bytes())
    assert facts == {
        "path": "checkpoint-7", "step": 7, "world_size": 2, "zero_stage": 2, "eval_loss": 0.5,
        "unlogged": {"tokens": 0}, "files": {"state/model.pt": 100},
    }  # fmt: skip
