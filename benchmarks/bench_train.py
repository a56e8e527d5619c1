"""Training: ours beside transformers' Trainer with the YaYi collator, and beside TRL's packing.

Run: python benchmarks/bench_train.py [--rounds N] [--threads N] [--vocabularies 32 152] [--shared FOLDER]

A 4-layer, 256-wide Llama with random weights, in fp32, no gradient checkpointing. Every contestant trains on
the same conversations, with as many an optimizer step (packed rows hold more or fewer, so times are per
conversation). Each is a process that waits for its turn; they take turns step by step, so that other load on
the machine hits them alike. Times are of whole steps of the contestant's own loop, data and metrics included;
the first step of each is not counted.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("YAYI_SHARED", ROOT.parent / "shared"))
SEQ_LEN = 1024
PADDED_BATCH = 8
EPOCH_STEPS = 8
TOKENIZERS = {32: "mistral", 152: "qwen3"}
GOALS = {(32, "Trainer"): 3.5, (152, "Trainer"): 4.0, (32, "TRL"): 3.0, (152, "TRL"): 3.0}
FOREVER = 10**6


class Turn:
    """A contestant's side of the taking of turns: a step runs from a line on stdin to `done`."""

    def __init__(self) -> None:
        self._began = self._busy = 0.0

    def wait(self) -> None:
        if not sys.stdin.readline():
            sys.stdout.flush()
            os._exit(0)
        self._began, self._busy = time.perf_counter(), time.process_time()

    def done(self, conversations: float, **more: float) -> None:
        seconds, busy = time.perf_counter() - self._began, time.process_time() - self._busy
        told = {"seconds": seconds, "cpu_seconds": busy, "conversations": conversations, **more}
        print(f"step {json.dumps(told)}", flush=True)


def ours(base: Path, packed: Path, folder: Path) -> None:
    """The loop of `yayi-train run`, its log and its engine's three calls watched."""
    import torch

    from yayi_train import engine, loop
    from yayi_train.build import build
    from yayi_train.flags import Flags
    from yayi_train.skeleton import refuse_early
    from yayi_train.start import decide

    _, tokens, _ = counts(packed)
    flags = Flags(
        data_path=str(packed),
        input_model=str(base),
        local_output_dir=folder / "run",
        deepspeed="zero0",
        seq_len=SEQ_LEN,
        per_device_train_batch_size=max(1, round(tokens / SEQ_LEN / EPOCH_STEPS)),
        gradient_checkpointing=False,
        max_steps=FOREVER,
        save_steps=FOREVER,
    )
    start = decide(flags)
    start.folder.mkdir()
    vocabulary = refuse_early(start.config, start.corpus.folder)
    trainee, progress = build(start, vocabulary, engine.start_processes(), None)
    spent = dict.fromkeys(("forward", "backward", "step"), 0.0)
    for name in spent:
        setattr(trainee.engine, name, watched(getattr(trainee.engine, name), name, spent))
    turn, log = Turn(), progress.log
    assert log is not None
    line = log.line

    def line_and_turn(values: dict[str, Any]) -> None:
        line(values)
        turn.done(sum(map(len, start.order.batch(values["step"]))), **spent)
        spent.update(dict.fromkeys(spent, 0.0))
        turn.wait()

    log.line = line_and_turn  # type: ignore[method-assign]
    torch.manual_seed(0)
    turn.wait()
    loop.train(trainee, progress)


def watched(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began

    return call


def padding_trainer(base: Path, packed: Path, folder: Path) -> None:
    """transformers' Trainer as the YaYi repository uses it: padded, masks searched for, full logits."""
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = "<|End|>"
    reply = tokenizer.convert_tokens_to_ids("<|YaYi|>")

    class YaYiCollator(DataCollatorForLanguageModeling):
        def torch_call(self, examples: list[Any]) -> dict[str, Any]:
            batch = super().torch_call(examples)
            labels = batch["input_ids"].clone()
            for row in range(len(examples)):
                first = int((labels[row] == reply).nonzero()[0])
                labels[row, : first + 1] = -100
            batch["labels"] = labels.masked_fill(batch["attention_mask"] == 0, -100)
            return dict(batch)

    data = dataset(packed).select_columns(["input_ids"])
    arguments = TrainingArguments(
        per_device_train_batch_size=PADDED_BATCH,
        gradient_accumulation_steps=(passes := -(-len(data) // EPOCH_STEPS // PADDED_BATCH)),
        **peers_settings(folder),
    )
    Trainer(
        model=model(base),
        args=arguments,
        train_dataset=data,
        data_collator=YaYiCollator(tokenizer, mlm=False),
        callbacks=[waiting_callback(passes * PADDED_BATCH)],
    ).train()


def packing_trl(base: Path, packed: Path, folder: Path) -> None:
    """TRL's SFTTrainer with packed rows, one a pass (a pass of several would mask a longer row)."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token = "<|End|>"
    data = dataset(packed).select_columns(["input_ids", "assistant_masks"]).with_format(None)
    data = Dataset.from_list(list(data))
    rows = len(pack_dataset(data.select_columns(["input_ids"]), SEQ_LEN, "bfd"))
    arguments = SFTConfig(
        packing=True,
        max_length=SEQ_LEN,
        gradient_checkpointing=False,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=(passes := round(rows / EPOCH_STEPS)),
        **peers_settings(folder),
    )
    SFTTrainer(
        model=model(base),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[waiting_callback(len(data) / rows * passes)],
    ).train()


def peers_settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "peer"),
        "max_steps": FOREVER,
        "learning_rate": 5e-6,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }


def waiting_callback(conversations: float) -> Any:
    from transformers import TrainerCallback

    turn = Turn()

    class Waiting(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turn.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn.done(conversations)
            turn.wait()

    return Waiting()


def model(base: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="sdpa")


def dataset(packed: Path) -> Any:
    from datasets import load_from_disk

    return load_from_disk(str(packed))


def counts(packed: Path) -> tuple[int, int, int]:
    """Return a packed folder's conversations, tokens and supervised tokens."""
    from yayi_data.manifest import load

    manifest = load(packed)
    return manifest.rows, manifest.tokens, manifest.supervised_tokens


CONTESTANTS = {"ours": ours, "Trainer": padding_trainer, "TRL": packing_trl}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--examples", type=int, default=64, help="conversations an optimizer step")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32, 152], choices=[32, 152])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 32 conversations")
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.examples = 2, 32
    if given.contestant:
        name, *folders = given.contestant
        CONTESTANTS[name](*map(Path, folders))
        return
    names = [name for name in CONTESTANTS if name != "TRL" or importlib.util.find_spec("trl")]
    if "TRL" not in names:
        print("TRL is not installed (pip install trl): left out")
    for vocabulary in given.vocabularies:
        with tempfile.TemporaryDirectory() as folder:
            compare(vocabulary, names, Path(folder), given)


def compare(vocabulary: int, names: list[str], folder: Path, given: argparse.Namespace) -> None:
    packed = make(vocabulary, folder, given)
    conversations, tokens, supervised = counts(packed)
    print(
        f"\n{vocabulary}k vocabulary, {conversations // EPOCH_STEPS} conversations a step (about "
        f"{tokens // EPOCH_STEPS:,} tokens, {supervised // EPOCH_STEPS:,} supervised), "
        f"{given.threads} threads, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    running = {name: started(name, folder, given.threads) for name in names}
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(given.rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            step = one_step(running[name])
            if number:
                steps[name].append(step)
    for process in running.values():
        assert process.stdin
        process.stdin.close()
        process.wait()
    tell(vocabulary, steps, supervised / conversations)


def make(vocabulary: int, folder: Path, given: argparse.Namespace) -> Path:
    """Write the model to `folder`/base and return the packed folder of the conversations."""
    from yayi_data.pipeline import PackOptions, pack
    from yayi_train.prepare import prepare

    tokenizer = given.shared / "tokenizers" / TOKENIZERS[vocabulary]
    tokenizer = tokenizer if tokenizer.exists() else ROOT / "data" / "tiny"
    config = json.loads((ROOT / "data" / "tiny" / "config.json").read_text()) | {
        "vocab_size": vocabulary * 1000,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "max_position_embeddings": 2048,
    }
    raw = folder / "raw"
    raw.mkdir()
    (raw / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (raw / name).write_bytes((tokenizer / name).read_bytes())
    prepare(str(raw), "yayi", folder / "base")
    records = folder / "records.jsonl"
    records.write_bytes(b"".join(chosen(given)))
    pack(
        PackOptions(
            paths=(str(records),), tokenizer=str(folder / "base"), output=folder / "packed", workers=1,
            max_length=SEQ_LEN,
        )
    )  # fmt: skip
    return folder / "packed"


def chosen(given: argparse.Namespace) -> list[bytes]:
    """Return records spread evenly over the corpus, or over the example data where it is absent."""
    corpus = given.shared / "corpus" / "sft50k.jsonl"
    path = corpus if corpus.exists() else ROOT / "data" / "yayi_train_example.json"
    lines = path.read_bytes().splitlines(keepends=True)
    wanted = given.examples * EPOCH_STEPS
    stride = max(1, len(lines) // wanted)
    return lines[stride // 2 :: stride][:wanted]


def started(name: str, folder: Path, threads: int) -> "subprocess.Popen[str]":
    own = folder / name
    own.mkdir()
    command = [sys.executable, __file__, "--contestant", name, str(folder / "base"), str(folder / "packed")]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    with (own / "stderr").open("w") as errors:
        return subprocess.Popen(
            [*command, str(own)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, bufsize=1,
        )  # fmt: skip


def one_step(process: "subprocess.Popen[str]") -> dict[str, float]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("step "):
            told: dict[str, float] = json.loads(line.removeprefix("step "))
            return told
    errors = Path(process.args[-1], "stderr").read_text()  # type: ignore[index, arg-type]
    sys.exit(f"{errors}\n{process.args} ended early")


def tell(vocabulary: int, steps: dict[str, list[dict[str, float]]], supervised: float) -> None:
    """Print speeds; `supervised` is the supervised tokens a conversation has on average."""
    print(
        f"  {'':8} {'examples/s':>10} {'supervised tokens/s':>20} "
        f"{'ours is faster by':>18} {'in CPU time':>12}"
    )
    for name, taken in steps.items():
        speed = statistics.median(step["conversations"] / step["seconds"] for step in taken)
        ratios = [
            statistics.median(
                peer[kind] / peer["conversations"] * own["conversations"] / own[kind]
                for peer, own in zip(taken, steps["ours"], strict=True)
            )
            for kind in ("seconds", "cpu_seconds")
        ]
        goal = f"  (goal {GOALS[vocabulary, name]})" if (vocabulary, name) in GOALS else ""
        speeds = f"{speed:10.2f} {speed * supervised:20,.0f}"
        print(f"  {name:8} {speeds} {ratios[0]:17.2f}x {ratios[1]:11.2f}x{goal}")
    shares = {
        part: statistics.median(step[part] / step["seconds"] for step in steps["ours"])
        for part in ("forward", "backward", "step")
    }
    outside = statistics.median(
        1 - (step["forward"] + step["backward"] + step["step"]) / step["seconds"] for step in steps["ours"]
    )
    parts = ", ".join(f"{part} {share:.1%}" for part, share in shares.items())
    print(f"  of our step: {parts}; outside these {outside:.2%} (goal: under 1%)", flush=True)


if __name__ == "__main__":
    main()
