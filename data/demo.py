"""The main job once, on the example data: validate, convert, pack, train, ask. Run by `make demo`."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RUN = Path("demo-run")
SINGLE, MULTI = "data/yayi_train_example.json", "data/yayi_train_example_multi_rounds.json"
QUESTIONS = ("你是谁?", "谁开发了你？")
STEPS = 110
console = Console(highlight=False)


def main() -> int:
    """Walk the whole way; the first command that fails ends the demo, in that command's own words."""
    started = time.monotonic()
    shutil.rmtree(ROOT / RUN, ignore_errors=True)
    (ROOT / RUN).mkdir()
    title("Is the data sound?")
    run("yayi-data", "validate", SINGLE, MULTI)
    title("Instructions become conversations, so that all data are one dialect")
    run("yayi-data", "convert", SINGLE, "--to", "multi-turn", "--output", f"{RUN}/chat.json")
    title("A base model with YaYi's control tokens (random weights here; YaYi or Llama in earnest)")
    run("yayi-train", "prepare", "data/tiny", "--template", "yayi", "--output", f"{RUN}/base")
    title("Tokens and loss masks, computed once")
    run(
        "yayi-data",
        "pack",
        f"{RUN}/chat.json",
        MULTI,
        "--tokenizer",
        f"{RUN}/base",
        "--output",
        f"{RUN}/packed",
    )
    run("yayi-data", "verify", f"{RUN}/packed")
    title("One conversation as the model sees it: what stands in brackets or colour is learnt")
    run("yayi-data", "inspect", f"{RUN}/packed", "--row", "0")
    title("Training: the loss falls until the examples are learnt")
    train()
    title("Ask the model")
    for question in QUESTIONS:
        run("yayi-train", "generate", f"{RUN}/model/final", "--prompt", question, "--greedy")
    console.print(f"\nDone in {time.monotonic() - started:.0f} seconds. Everything made is in {RUN}/.")
    return 0


def title(text: str) -> None:
    """Begin a part of the demo."""
    console.print(Text(f"\n{text}", style="bold"), soft_wrap=True)


def run(*command: str) -> None:
    """Show a command and run it."""
    console.print(Text(f"$ {' '.join(command)}", style="cyan"), soft_wrap=True)
    sys.stdout.flush()
    outcome = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT)  # noqa: S603 - our own commands
    if outcome.returncode:
        sys.exit(outcome.returncode)


def train() -> None:
    """Train the base model on the packed folder and show how the loss fell."""
    run(
        *("yayi-train", "run", "--data-path", f"{RUN}/packed", "--input-model", f"{RUN}/base"),
        *("--local-output-dir", f"{RUN}/model", "--deepspeed", "zero0", "--seq-len", "512"),
        *("--per-device-train-batch-size", "4", "--max-steps", str(STEPS), "--lr", "2e-3"),
        *(
            "--warmup-steps",
            "10",
            "--scheduler",
            "cosine",
            "--no-gradient-checkpointing",
            "--save-steps",
            "1000",
        ),
    )
    lines = (ROOT / RUN / "model" / "metrics.jsonl").read_text().splitlines()
    losses = {entry["step"]: entry["loss"] for entry in map(json.loads, lines) if "loss" in entry}
    shown = sorted({1, *range(STEPS // 8, STEPS + 1, STEPS // 8)} & losses.keys())
    highest = max(losses[step] for step in shown)
    for step in shown:
        console.print(
            f"  step {step:>4}  loss {losses[step]:6.3f}  {'█' * max(1, round(40 * losses[step] / highest))}"
        )


if __name__ == "__main__":
    sys.exit(main())
