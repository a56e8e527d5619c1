"""Every flag that scripts rely on is there, under its name, in every way a launcher hands it over."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from yayi_train import cli
from yayi_train.flags import Flags
from yayi_train.resolve import resolve

OF_THE_YAYI_REPOSITORY = shlex.split(
    """
    --data-path --input-model --deepspeed --epochs --local-output-dir --per-device-train-batch-size
    --per-device-eval-batch-size --logging-steps --save-steps --save-total-limit --eval-steps
    --warmup-steps --test-size --lr --seed --lora-dim --lora-module-name --gradient-checkpointing
    --no-gradient-checkpointing --bf16 --local_rank
    """
)
OF_OURS = shlex.split(
    """
    --seq-len --no-packing --gradient-accumulation-steps --max-steps --scheduler --weight-decay
    --lora-alpha --resume --no-resume --mix --train-on-domains --keep-best --limit --dry-run
    --template --max-length --on-long --train-on --on-problem --domains
    """
)

README = (
    "--data-path ./data/yayi_train_example.json --input-model ./checkpoints/yayi-7b "
    "--deepspeed ./configs/deepspeed_zero2_bf16.json --epochs 2 --local-output-dir ./checkpoints/out "
    "--per-device-train-batch-size 8 --per-device-eval-batch-size 8 --logging-steps 1 --save-steps 100 "
    "--save-total-limit 10 --eval-steps 100 --warmup-steps 100 --test-size 400 --lr 5e-6 --seed 515"
)
FOUR_RUNS = {
    "instructions, full": README,
    "instructions, LoRA": README + " --lora-dim 16 --lora-module-name query_key_value --bf16",
    "multi-turn, full": README + " --gradient-checkpointing --bf16",
    "multi-turn, LoRA": README
    + " --lora-dim 16 --lora-module-name query_key_value --no-gradient-checkpointing",
}


def option_names() -> set[str]:
    command = typer.main.get_command(cli.app).commands["run"]
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("flag", OF_THE_YAYI_REPOSITORY + OF_OURS)
def test_the_flag_exists(flag):
    assert flag in option_names()


@pytest.fixture
def given(monkeypatch):
    """Return what runs a command line and gives the Flags that reached the run."""
    caught: list[Flags] = []
    monkeypatch.setattr("yayi_train.run.run", caught.append)

    def start(arguments: str) -> Flags:
        monkeypatch.setattr(sys, "argv", ["yayi-train", *arguments.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return caught.pop()

    return start


@pytest.mark.parametrize("name", FOUR_RUNS)
def test_the_four_runs_of_the_readme_mean_what_they_meant(given, name, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    config = resolve(given("--local_rank=0 " + FOUR_RUNS[name]))
    assert config.run.epochs == 2
    assert config.run.seed == 515
    assert (config.run.logging_steps, config.run.save_steps, config.run.eval_steps) == (1, 100, 100)
    assert config.run.save_total_limit == 10
    assert (config.batch.train_rows, config.batch.eval_rows) == (8, 8)
    assert config.data.test_size == 400
    assert (config.optimizer.lr, config.optimizer.warmup_steps) == (5e-6, 100)
    assert config.model.precision == "bf16"
    assert config.zero_stage == 2
    assert config.model.gradient_checkpointing == ("--no-gradient" not in FOUR_RUNS[name])
    if "LoRA" in name:
        assert (config.lora.dim, config.lora.alpha, config.lora.modules) == (16, 32, ["query_key_value"])
    else:
        assert config.lora is None


@pytest.mark.parametrize(
    "before", ["", "run ", "--local_rank=1 ", "--local_rank=1 run ", "run --local_rank=1 "]
)
def test_run_may_be_left_out_and_the_launcher_may_speak_first(given, before):
    flags = given(before + "--data-path d --input-model m --local-output-dir o")
    assert flags.data_path == "d"


def test_help_needs_neither_torch_nor_deepspeed():
    script = (
        "import sys; from yayi_train.cli import app; app(['run', '--help'], standalone_mode=False); "
        "print(sorted({'torch', 'transformers', 'deepspeed', 'pyarrow'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
