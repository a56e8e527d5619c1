"""Whole runs, of one and of several ranks: the same numbers however they are laid out, killed or resumed."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import orjson
import pytest

RUN = ("--seq-len", 512, "--lr", "1e-3", "--scheduler", "constant", "--no-gradient-checkpointing")


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run) if "loss" in line]


def norms(run: Path) -> list[float]:
    return [line["grad_norm"] for line in lines(run) if "loss" in line]


@pytest.fixture(scope="module")
def train(command, packed, model, tmp_path_factory):
    """Train into a new folder, or the one given, and return it; the command must end well."""

    def start(*flags, ranks=1, folder=None, data=packed, base=model, **options):
        folder = folder or tmp_path_factory.mktemp("run") / "out"
        ended = command(
            "run", "--data-path", data, "--input-model", base, "--local-output-dir", folder, *RUN, *flags,
            ranks=ranks, **options,
        )  # fmt: skip
        if not options:
            assert ended.codes == [0] * ranks, ended.err
        return folder

    return start


@pytest.fixture(scope="module")
def whole(train):
    """Three steps of four rows, each one forward pass."""
    return train("--deepspeed", "zero0", "--per-device-train-batch-size", 4, "--max-steps", 3)


class TestOneLoss:
    """The numbers of a step are those of its global batch, whatever makes it up."""

    @pytest.mark.parametrize(
        ("zero", "ranks", "rows", "accumulation"),
        [("zero1", 2, 2, 1), ("zero2", 2, 1, 2), ("zero3", 2, 1, 2), ("zero2", 1, 1, 4), ("zero2", 4, 1, 1)],
    )
    def test_it_does_not_depend_on_ranks_accumulation_or_zero(
        self, train, whole, zero, ranks, rows, accumulation
    ):
        layout = ("--per-device-train-batch-size", rows, "--gradient-accumulation-steps", accumulation)
        run = train("--deepspeed", zero, *layout, "--max-steps", 3, ranks=ranks)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
        assert norms(run) == pytest.approx(norms(whole), rel=1e-5)

    def test_it_is_the_same_packed_and_unpacked(self, train):
        packed = train("--per-device-train-batch-size", 40, "--deepspeed", "zero0")
        unpacked = train("--per-device-train-batch-size", 40, "--deepspeed", "zero0", "--no-packing")
        assert losses(packed) == pytest.approx(losses(unpacked), rel=1e-5)
        assert norms(packed) == pytest.approx(norms(unpacked), rel=1e-5)

    def test_bfloat16_stays_within_a_hundredth(self, train, whole):
        run = train("--bf16", "--per-device-train-batch-size", 4, "--max-steps", 3)
        assert losses(run) == pytest.approx(losses(whole), rel=1e-2)

    def test_the_domains_mean_weighted_by_tokens_is_the_total(self, whole, packed):
        domains = orjson.loads((packed / "manifest.json").read_bytes())["domains"]
        epoch = lines(whole)
        assert set(epoch[0]["loss_by_domain"]) <= set(domains)
        assert all(
            min(e["loss_by_domain"].values()) <= e["loss"] <= max(e["loss_by_domain"].values()) for e in epoch
        )


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


class TestResume:
    def test_a_killed_run_continues_with_the_same_numbers(self, train, undisturbed, killed, tmp_path):
        folder = Path(shutil.copytree(killed, tmp_path / "out"))
        train(*FLAGS, ranks=2, folder=folder)
        times = {"tokens_per_second": 0}
        assert [line | times for line in lines(folder)] == [line | times for line in lines(undisturbed)]
        weights = "final/model.safetensors"
        assert (folder / weights).read_bytes() == (undisturbed / weights).read_bytes()

    def test_it_continues_on_one_rank(self, train, undisturbed, killed, tmp_path):
        folder = Path(shutil.copytree(killed, tmp_path / "out"))
        train(*FLAGS, ranks=1, folder=folder)
        assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-5)
        starts = orjson.loads((folder / "run.json").read_bytes())["starts"]
        assert [(s["step"], s["world_size"], s["accumulation"]) for s in starts] == [(0, 2, 1), (8, 1, 2)]

    def test_a_run_of_one_rank_continues_on_two(self, train, undisturbed, tmp_path):
        folder = tmp_path / "out"
        layout = ("--per-device-train-batch-size", 2)
        train(*FLAGS, *layout, folder=folder, signals=kill_after(folder, 8))
        train(*FLAGS, *layout, folder=folder, ranks=2)
        assert losses(folder) == pytest.approx(losses(undisturbed), rel=1e-5)

    def test_a_number_of_ranks_that_cannot_share_the_step_is_refused_with_the_numbers(
        self, command, packed, model, killed
    ):
        ended = command(
            "run", "--data-path", packed, "--input-model", model, "--local-output-dir", killed, *RUN, *FLAGS,
            ranks=3,
        )  # fmt: skip
        assert ended.codes == [2, 2, 2]
        assert "its steps have 2 rows, which 3 processes cannot share" in ended.err[0]

    def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
        self, train, undisturbed, killed, tmp_path
    ):
        folder = Path(shutil.copytree(killed, tmp_path / "out"))
        state = next((folder / "checkpoint-8" / "state").glob("zero_pp_rank_0*"))
        state.write_bytes(state.read_bytes()[:-10])
        train(*FLAGS, ranks=2, folder=folder)
        assert losses(folder) == losses(undisturbed)
        assert [s["step"] for s in orjson.loads((folder / "run.json").read_bytes())["starts"]] == [0, 4]

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_a_signal_ends_the_step_and_saves(self, train, command, undisturbed, number, tmp_path):
        folder = tmp_path / "out"
        train(*FLAGS, ranks=2, folder=folder, signals=kill_after(folder, 4, number))
        steps = [int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")]
        assert max(steps) > 4
        assert not (folder / "final").exists()
        train(*FLAGS, ranks=2, folder=folder)
        assert losses(folder) == losses(undisturbed)

    def test_a_finished_run_is_left_alone(self, command, packed, model, undisturbed):
        before = (undisturbed / "metrics.jsonl").read_bytes()
        ended = command(
            "run", "--data-path", packed, "--input-model", model, "--local-output-dir", undisturbed, *RUN,
            *FLAGS, ranks=2,
        )  # fmt: skip
        assert ended.codes == [0, 0]
        assert "the run is finished" in ended.err[0]
        assert (undisturbed / "metrics.jsonl").read_bytes() == before

    def test_tensorboard_is_cut_back_too(self, train, killed, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        folder = Path(shutil.copytree(killed, tmp_path / "out"))
        train(*FLAGS, ranks=2, folder=folder)
        board = EventAccumulator(str(folder / "runs")).Reload()
        steps = [event.step for event in board.Scalars("loss")]
        assert steps == [3, 6, 9, 12, 14]

    def test_the_final_model_loads_as_any_other(self, undisturbed):
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        final = undisturbed / "final"
        model = AutoModelForCausalLM.from_pretrained(final)
        tokenizer = AutoTokenizer.from_pretrained(final)
        end = tokenizer.convert_tokens_to_ids("<|End|>")
        assert model.get_input_embeddings().weight.shape[0] > end
        assert end in GenerationConfig.from_pretrained(final).eos_token_id
