"""Runs that are killed, signalled or damaged continue as if nothing had been."""

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import orjson
import pytest
import torch
from filelock import FileLock

from yayi_train.flags import Flags
from yayi_train.start import decide


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run) if "loss" in line]


def kill_after(folder: Path, step: int, number: int = signal.SIGKILL):
    """Return what sends every rank a signal as soon as a checkpoint is there."""

    def send(pids: list[int]) -> None:
        while not (folder / f"checkpoint-{step}").exists():
            time.sleep(0.002)
        for pid in pids:
            os.kill(pid, number)

    return send


FLAGS = ("--per-device-train-batch-size", 1, "--max-steps", 14, "--save-steps", 4, "--eval-steps", 4,
         "--test-size", 5, "--logging-steps", 3)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(train):
    return train(*FLAGS, ranks=2)


@pytest.fixture(scope="module")
def killed(train, tmp_path_factory):
    """Return the folder of a run whose ranks were all killed after its second checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "out"
    train(*FLAGS, ranks=2, folder=folder, signals=kill_after(folder, 8))
    assert not (folder / "final").exists()
    return folder


def test_a_killed_run_continues_with_the_same_numbers(train, undisturbed, killed, tmp_path):
    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    train(*FLAGS, ranks=2, folder=folder)
    times = {"tokens_per_second": 0}
    assert [line | times for line in lines(folder)] == [line | times for line in lines(undisturbed)]
    weights = "final/model.safetensors"
    assert (folder / weights).read_bytes() == (undisturbed / weights).read_bytes()


def test_it_continues_on_one_rank(train, undisturbed, killed, tmp_path):
    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    train(*FLAGS, ranks=1, folder=folder)
    assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-5)
    starts = orjson.loads((folder / "run.json").read_bytes())["starts"]
    assert [(s["step"], s["world_size"], s["accumulation"]) for s in starts] == [(0, 2, 1), (8, 1, 2)]


def test_a_run_of_one_rank_continues_on_two(train, undisturbed, tmp_path):
    folder = tmp_path / "out"
    layout = ("--per-device-train-batch-size", 2)
    train(*FLAGS, *layout, folder=folder, signals=kill_after(folder, 8))
    train(*FLAGS, *layout, folder=folder, ranks=2)
    assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-5)


def test_a_number_of_ranks_that_cannot_share_the_step_is_refused_with_the_numbers(attempt, killed):
    ended = attempt(*FLAGS, ranks=3, folder=killed)
    assert ended.codes == [2, 2, 2]
    assert "its steps have 2 rows, which 3 processes cannot share" in ended.err[0]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(train, undisturbed, killed, tmp_path):
    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    state = next((folder / "checkpoint-8" / "state").glob("zero_pp_rank_0*"))
    state.write_bytes(state.read_bytes()[:-10])
    train(*FLAGS, ranks=2, folder=folder)
    assert losses(folder) == losses(undisturbed)
    assert [s["step"] for s in orjson.loads((folder / "run.json").read_bytes())["starts"]] == [0, 4]


def test_a_checkpoint_that_changed_at_its_size_is_named_and_the_one_before_is_used(
    attempt, undisturbed, killed, tmp_path
):
    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    state = next((folder / "checkpoint-8" / "state").glob("mp_rank_00*"))
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    ended = attempt(*FLAGS, ranks=2, folder=folder)
    assert ended.codes == [0, 0], ended.err
    assert "checkpoint-8 is damaged (state/mp_rank_00_model_states.pt is not as it" in ended.err[0]
    assert losses(folder) == losses(undisturbed)


def test_a_checkpoint_of_another_version_is_named_with_the_way_on(attempt, killed, tmp_path):
    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    state = next((folder / "checkpoint-8" / "state").glob("mp_rank_00*"))
    torch.save({"other": "things" * 50}, state)
    facts = folder / "checkpoint-8" / "checkpoint.json"
    content = orjson.loads(facts.read_bytes())
    content["files"][f"state/{state.name}"] = state.stat().st_size
    facts.write_bytes(orjson.dumps(content))
    ended = attempt(*FLAGS, ranks=2, folder=folder)
    assert ended.codes == [2, 2]
    assert "checkpoint-8: cannot be loaded" in ended.err[0]
    assert "remove it to use the one before" in ended.err[0]
    assert "Traceback" not in "".join(ended.err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_step_and_saves(train, undisturbed, number, tmp_path):
    folder = tmp_path / "out"
    train(*FLAGS, ranks=2, folder=folder, signals=kill_after(folder, 4, number))
    steps = [int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")]
    assert max(steps) > 4
    assert not (folder / "final").exists()
    train(*FLAGS, ranks=2, folder=folder)
    assert losses(folder) == losses(undisturbed)


def test_a_signal_ends_a_rank_that_still_waits_for_the_others(attempt, tmp_path):
    def ask(pids):
        os.kill(pids[1], signal.SIGSTOP)
        time.sleep(3)
        os.kill(pids[0], signal.SIGTERM)
        time.sleep(0.5)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it has ended, as it should
                os.kill(pid, signal.SIGKILL)

    ended = attempt(*FLAGS, ranks=2, folder=tmp_path / "out", signals=ask)
    assert ended.codes == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_second_start_in_a_folder_at_work_is_refused_on_every_rank(attempt, killed):
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != "run.lock"}
    with FileLock(killed / "run.lock"):
        ended = attempt(*FLAGS, ranks=2, folder=killed)
    assert ended.codes == [2, 2]
    assert "another start of this run is at work in it" in ended.err[0]
    assert {path: path.stat().st_mtime_ns for path in killed.rglob("*") if path.name != "run.lock"} == before


def test_a_start_keeps_the_steps_of_the_epochs_that_were_counted(packed, model, killed):
    flags = Flags(
        data_path=str(packed), input_model=str(model), local_output_dir=killed, per_device_train_batch_size=2,
        max_steps=14, test_size=5, seq_len=512, lr=1e-3, scheduler="constant", gradient_checkpointing=False,
    )  # fmt: skip
    start = decide(flags)
    assert start.file.epoch_steps == orjson.loads((killed / "run.json").read_bytes())["epoch_steps"] != []


def test_a_finished_run_is_left_alone(attempt, undisturbed):
    before = (undisturbed / "metrics.jsonl").read_bytes()
    ended = attempt(*FLAGS, ranks=2, folder=undisturbed)
    assert ended.codes == [0, 0]
    assert "the run is finished" in ended.err[0]
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_tensorboard_is_cut_back_too(train, killed, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = Path(shutil.copytree(killed, tmp_path / "out"))
    train(*FLAGS, ranks=2, folder=folder)
    board = EventAccumulator(str(folder / "runs")).Reload()
    steps = [event.step for event in board.Scalars("loss")]
    assert steps == [3, 6, 9, 12, 14]


def test_the_final_model_loads_as_any_other(undisturbed):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    final = undisturbed / "final"
    model = AutoModelForCausalLM.from_pretrained(final)
    tokenizer = AutoTokenizer.from_pretrained(final)
    end = tokenizer.convert_tokens_to_ids("<|End|>")
    assert model.get_input_embeddings().weight.shape[0] > end
    assert end in GenerationConfig.from_pretrained(final).eos_token_id
