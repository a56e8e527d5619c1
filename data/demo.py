"""The main job once, on the example data: validate, convert, pack, train, ask. Run by `make demo`."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

DATA = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
RUN = Path("demo-run")
STEPS = 240
QUESTION = "你是谁?"
console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Walk the whole way; the first command that fails ends it with that command's words."""
    started = time.monotonic()
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    single, multi = "data/yayi_train_example.json", "data/yayi_train_example_multi_rounds.json"
    chat = f"{RUN}/instructions_as_chat.json"

    title("1. Is the data sound?")
    command("yayi-data", "validate", single, multi)
    title("2. One dialect for all of it")
    command("yayi-data", "convert", single, "--to", "multi-turn", "--output", chat)
    title("3. A base model: random weights here, YaYi or Llama elsewhere")
    command("yayi-train", "prepare", "data/tiny", "--template", "yayi", "--output", f"{RUN}/base")
    title("4. Tokens and loss masks, once and for all")
    command("yayi-data", "pack", chat, multi, "--tokenizer", f"{RUN}/base", "--output", f"{RUN}/packed")
    command("yayi-data", "inspect", f"{RUN}/packed", "--row", "0")
    title("5. Train until it has learnt them")
    train()
    title(f"6. Ask it: {QUESTION}")
    command("yayi-train", "generate", f"{RUN}/model/final", "--prompt", QUESTION, "--greedy")
    console.print(f"\nEverything is in {RUN}/. Done in {time.monotonic() - started:.0f} s.")
    return 0
