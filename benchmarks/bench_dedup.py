"""Seconds and memory of `yayi-data dedup` and of plain datasketch on the same records, in one run.

    python benchmarks/bench_dedup.py [--corpus FILE] [--workers 2]

Each contestant is a whole process. datasketch gets what its documentation shows: the character 5-grams of the
same normalised texts into a MinHash of 128 numbers, each queried in a MinHashLSH of threshold 0.8 and
inserted where nothing was found. Both keep the first; datasketch does not verify what it finds, so we count
how much of it is below the threshold. Without the corpus, the records are made up, one in ten a near copy.
At the end the worst case: different records around one long instruction, which are all nearly alike.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("YAYI_SHARED", ROOT.parent / "shared"))
THRESHOLD = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description="dedup against plain datasketch.")
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpus" / "sft50k.jsonl")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--datasketch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.datasketch:
        plain_datasketch(options.datasketch)
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus if options.corpus.exists() else made_up(Path(folder) / "made-up.jsonl")
        texts = normalised_texts(corpus)
        print(f"{len(texts):,} records, {corpus.stat().st_size / 1e6:.1f} MB; load {os.getloadavg()[0]:.1f}")
        dropped = Path(folder) / "kept.dropped.jsonl"
        for workers in sorted({1, options.workers}):
            told(f"yayi-data dedup, {workers} workers", dedup_command(corpus, folder, workers))
            ours = {drop["record"]: drop["twin"]["record"] for drop in map(orjson.loads, dropped.open("rb"))}
            verdict(ours, texts)
        theirs = told("datasketch MinHashLSH", [__file__, "--datasketch", str(corpus)])
        found = {int(i): j for i, j in json.loads(theirs).items()}
        verdict(found, texts)
        gone = ours.keys()
        pairs = [(i, j) for i, j in found.items() if i not in gone and j not in gone]
        missed = sum(jaccard(texts[i], texts[j]) >= THRESHOLD for i, j in pairs)
        print(f"pairs we kept that datasketch found, near enough: {missed}")
        worst = one_instruction(Path(folder) / "worst.jsonl")
        told("yayi-data dedup, worst case", dedup_command(worst, folder, options.workers))


def dedup_command(path: Path, folder: str, workers: int) -> list[str]:
    output = ["--output", str(Path(folder) / "kept.jsonl"), "--json"]
    return ["-m", "yayi_data.cli", "dedup", str(path), *output, "--workers", str(workers)]


def told(name: str, arguments: list[str]) -> str:
    """Run a process, print its seconds, CPU seconds and peak memory, and return its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{name} failed"
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    print(f"{name:28} {wall:7.2f} s  {cpu:7.2f} CPU s  {usage.ru_maxrss / 1024:6.0f} MB", flush=True)
    return output


def verdict(found: dict[int, int], texts: list[str]) -> None:
    wrong = sum(jaccard(texts[i], texts[j]) < THRESHOLD for i, j in found.items())
    print(f"{'':28} {len(found):,} dropped, {wrong:,} of them below {THRESHOLD}", flush=True)


def normalised_texts(corpus: Path) -> list[str]:
    from yayi_data.convert import conversation
    from yayi_data.dedup.fingerprints import compared_text
    from yayi_data.domains import load_registry

    registry = load_registry()
    return [compared_text(conversation(orjson.loads(r), "alpaca"), registry) for r in corpus.open("rb")]


def grams(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def jaccard(a: str, b: str) -> float:
    first, second = grams(a), grams(b)
    return len(first & second) / len(first | second)


def plain_datasketch(corpus: Path) -> None:
    from datasketch import MinHash, MinHashLSH

    lsh, found = MinHashLSH(threshold=THRESHOLD, num_perm=128), {}
    for i, text in enumerate(normalised_texts(corpus)):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([gram.encode() for gram in grams(text)])
        if near := lsh.query(sketch):
            found[i] = min(near)
        else:
            lsh.insert(i, sketch)
    print(json.dumps(found))


def made_up(path: Path) -> Path:
    pick, texts = random.Random(0), []
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    for i in range(50_000):
        copied = list(texts[pick.randrange(i)]) if i and i % 10 == 0 else pick.choices(letters, k=120)
        copied[pick.randrange(len(copied))] = pick.choice(letters)
        texts.append("".join(copied))
    lines = [orjson.dumps({"instruction": text[:20], "output": text[20:]}) for text in texts]
    path.write_bytes(b"\n".join(lines))
    return path


def one_instruction(path: Path) -> Path:
    pick = random.Random(1)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    instruction = "".join(pick.choices(letters, k=435))
    replies = ("".join(pick.choices(letters, k=65)) for _ in range(3000))
    path.write_bytes(b"\n".join(orjson.dumps({"instruction": instruction, "output": r}) for r in replies))
    return path


if __name__ == "__main__":
    main()
