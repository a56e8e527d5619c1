"""The four training runs of the YaYi README through the launcher, on two processes; one of them killed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEEPSPEED = Path(sys.executable).with_name("deepspeed")
SINGLE, MULTI = "data/yayi_train_example.json", "data/yayi_train_example_multi_rounds.json"
FLAGS = shlex.split(
    "--epochs 2 --per-device-train-batch-size 2 --per-device-eval-batch-size 8 --logging-steps 1 "
    "--save-steps 2 --save-total-limit 10 --eval-steps 4 "
    "--warmup-steps 2 --test-size 6 --seed 515 --seq-len 512"
)
LORA = ("--lora-dim", "16", "--lora-module-name", "q_proj,v_proj")
BF16 = "configs/deepspeed_zero2_bf16.json"
RUNS = {
    "instructions": (SINGLE, "--deepspeed", BF16, "--lr", "1e-3", "--bf16"),
    "instructions-lora": (SINGLE, "--deepspeed", BF16, "--lr", "5e-2", "--bf16", *LORA),
    "multi-turn": (MULTI, "--deepspeed", "zero2", "--lr", "1e-3", "--gradient-checkpointing"),
    "multi-turn-lora": (MULTI, "--deepspeed", "zero3", "--lr", "5e-2", *LORA),
}


def launch(base: Path, folder: Path, name: str) -> subprocess.Popen:
    data, *flags = RUNS[name]
    port = 20000 + (os.getpid() * 7 + sorted(RUNS).index(name)) % 20000
    return subprocess.Popen(
        [DEEPSPEED, "--num_gpus", "2", "--master_port", str(port), "--module", "yayi_train",
         "--data-path", data, "--input-model", base, "--local-output-dir", folder, *FLAGS, *flags],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{DEEPSPEED.parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )  # fmt: skip


def train(base: Path, folder: Path, name: str) -> list[dict]:
    """Run to the end and return the lines of metrics.jsonl."""
    running = launch(base, folder, name)
    said, _ = running.communicate()
    assert running.returncode == 0, said
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[dict]]]:
    """Return what gives a run's folder and the lines of its metrics, each run made once."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def made(name: str) -> tuple[Path, list[dict]]:
        return folder / name, train(base, folder / name, name)

    return made


@pytest.mark.parametrize("name", RUNS)
def test_the_run_ends_with_a_lower_loss_than_it_began_with(run, name):
    folder, lines = run(name)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.01
    assert [line for line in lines if "eval_loss" in line]
    assert (folder / "final" / ("adapter_config.json" if "lora" in name else "config.json")).is_file()
    assert list((folder / "runs").iterdir())


def test_a_killed_run_continues_with_the_losses_of_an_undisturbed_one(base, run, tmp_path):
    folder = tmp_path / "killed"
    running = launch(base, folder, "instructions")
    while not (folder / "checkpoint-4").exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (folder / "final").exists()
    again = train(base, folder, "instructions")
    _, undisturbed = run("instructions")
    assert [line.get("loss") for line in again] == [line.get("loss") for line in undisturbed]
    starts = [start["step"] for start in json.loads((folder / "run.json").read_text())["starts"]]
    assert starts[0] == 0
    assert starts[1] >= 4


def test_a_run_whose_launcher_is_terminated_saves_its_step_and_ends(base, tmp_path):
    folder = tmp_path / "left"
    running = launch(base, folder, "instructions")
    while not (folder / "checkpoint-2").exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.01)
    running.terminate()
    said, _ = running.communicate()  # until the last rank has closed its end
    assert "the same command continues the run" in said
    assert not (folder / "final").exists()


def test_the_trained_model_answers(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _ = run("instructions")
    tokenizer = AutoTokenizer.from_pretrained(folder / "final")
    model = AutoModelForCausalLM.from_pretrained(folder / "final")
    asked = [{"role": "user", "content": "你是谁?"}]
    ids = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**ids, max_new_tokens=3).shape[1] > ids["input_ids"].shape[1]
