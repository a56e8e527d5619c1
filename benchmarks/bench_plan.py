"""The plan: how full the rows get beside other ways to pack, and what planning costs at scale.

Run: python benchmarks/bench_plan.py [--shared FOLDER]

Each timed part runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from yayi_data import manifest
from yayi_data.index import INDEX, INDEX_SCHEMA, open_index, write_table
from yayi_data.manifest import Counts, Ledger, Manifest, ShardFacts, TemplateFacts, TokenizerFacts
from yayi_data.plan import ORDER_VERSION, pack
from yayi_data.shard import Shards
from yayi_data.shard.write import shard_name

SEQ_LEN = 2048
SHARED = Path(os.environ.get("YAYI_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def best_fit_decreasing(lengths: np.ndarray, seq_len: int) -> int:
    """The number of rows when each length, longest first, goes where the fewest slots are left."""
    rows, free, occupied = 0, [0] * (seq_len + 1), 0
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = occupied >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            free[space] -= 1
            occupied ^= (not free[space]) << space
        else:
            rows, space = rows + 1, seq_len
        left = space - length
        occupied |= bool(left) << left
        free[left] += 1
    return rows


def in_chunks(lengths: np.ndarray, seq_len: int) -> int:
    """Best-fit decreasing in chunks of 1,000 examples, as TRL's `packing_strategy="bfd"` maps a dataset."""
    return sum(best_fit_decreasing(lengths[i : i + 1000], seq_len) for i in range(0, len(lengths), 1000))


def in_order(lengths: np.ndarray, seq_len: int) -> int:
    """Rows filled in the order of the data, the next one begun when an example does not fit."""
    rows, free = 0, 0
    for length in lengths.tolist():
        if length > free:
            rows, free = rows + 1, seq_len
        free -= length
    return rows


def padded(lengths: np.ndarray, seq_len: int) -> int:
    """Random batches of 8, each padded to its longest, counted in rows of `seq_len`."""
    order = np.random.default_rng(0).permutation(lengths)
    slots = sum(int(batch.max()) * len(batch) for batch in np.array_split(order, math.ceil(len(order) / 8)))
    return math.ceil(slots / seq_len)


WAYS: dict[str, Callable[[np.ndarray, int], int]] = {
    "ours, from the histogram": lambda lengths, seq_len: len(pack(lengths, seq_len, 515, 0)),
    "best-fit decreasing, all": best_fit_decreasing,
    "the same in chunks of 1,000": in_chunks,
    "in order": in_order,
    "no packing, batches of 8": padded,
}


def corpus_lengths() -> dict[str, np.ndarray]:
    """Tokens of the corpus's conversations, near enough: each control token counts as one."""
    corpus = SHARED / "corpus" / "sft50k.jsonl"
    if not corpus.exists():
        print(f"(no corpus in {SHARED}: lengths of a log-normal distribution instead)")
        return {
            "lognormal": np.clip(np.random.default_rng(0).lognormal(4.6, 0.5, 50_000), 10, 2048).astype(int)
        }
    from fastokens import Tokenizer

    system = (
        "A chat between a human and an AI assistant named YaYi.\nYaYi is a helpful and harmless "
        "language model developed by Beijing Wenge Technology Co.,Ltd."
    )
    records = [json.loads(line) for line in corpus.open(encoding="utf-8")]
    texts = [
        f":\n{system}\n\n:\n{r['instruction']}\n{r.get('input', '')}\n\n:\n{r['output']}\n\n" for r in records
    ]
    lengths = {}
    for name in ("qwen3", "mistral"):
        tokenizer = Tokenizer.from_file(str(SHARED / "tokenizers" / name / "tokenizer.json"))
        offsets = np.frombuffer(tokenizer.encode_batch_flat(texts)[1], np.uint64).astype(np.int64)
        lengths[name] = np.diff(offsets) + 4
    return lengths


def utilisation() -> None:
    rng = np.random.default_rng(0)
    made = {
        "uniform 1-2048": rng.integers(1, 2049, 50_000),
        "heavy tail": np.clip(rng.pareto(1, 50_000) * 50 + 1, 1, 2048).astype(int),
        "600-800": rng.integers(600, 800, 50_000),
    }
    for name, lengths in {**corpus_lengths(), **made}.items():
        print(f"\n{name}: {len(lengths):,} lengths, mean {lengths.mean():.0f}, rows of {SEQ_LEN}")
        for way, rows_of in WAYS.items():
            start = time.perf_counter()
            rows = rows_of(lengths, SEQ_LEN)
            seconds = time.perf_counter() - start
            print(f"  {way:28} {lengths.sum() / (rows * SEQ_LEN):8.2%} {rows:8,} rows {seconds:7.2f} s")


def ten_million(name: str) -> None:
    rng = np.random.default_rng(0)
    lengths = {
        "uniform": lambda: rng.integers(1, SEQ_LEN + 1, 10_000_000, dtype=np.int32),
        "lognormal": lambda: np.clip(rng.lognormal(5, 1, 10_000_000), 1, SEQ_LEN).astype(np.int32),
    }[name]()
    start = time.perf_counter()
    plan = pack(lengths, SEQ_LEN, 515, 0)
    seconds = time.perf_counter() - start
    share = lengths.sum(dtype=np.int64) / (len(plan) * SEQ_LEN)
    print(f"  10 million {name:10} {share:8.2%} {len(plan):10,} rows {seconds:6.2f} s, peak {peak_mb()} MB")


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write_synthetic(folder: Path, shards: int = 10_000, rows: int = 1_000) -> None:
    """A folder of 10,000 shards and 10 million conversations; the shards are holes of the right size."""
    import pyarrow as pa

    n = shards * rows
    tokens = np.random.default_rng(0).integers(1, SEQ_LEN + 1, n, dtype=np.int32)
    columns = [
        np.repeat(np.arange(shards, dtype=np.int32), rows),
        np.tile(np.arange(rows, dtype=np.int32), shards),
        tokens,
        tokens // 2,
        pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array(["general"])),
        np.arange(n, dtype=np.uint64),
    ]
    write_table(folder / INDEX, pa.table(columns, schema=INDEX_SCHEMA))
    counts = Counts(n, int(tokens.sum(dtype=np.int64)), int((tokens // 2).sum(dtype=np.int64)))
    facts = []
    for i in range(shards):
        total = int(tokens[i * rows : (i + 1) * rows].sum())
        facts.append(ShardFacts(shard_name(i), rows, total, total // 2, 4 * total, "0" * 64))
        with (folder / facts[-1].file).open("wb") as file:
            file.truncate(4 * total)
    written = Manifest(
        sources=[],
        options={},
        template=TemplateFacts("yayi", "0" * 64),
        tokenizer=TokenizerFacts("0" * 16, {}, 1),
        ledger=Ledger(n, n, {}),
        domains={"general": counts},
        rows=counts.rows,
        tokens=counts.tokens,
        supervised_tokens=counts.supervised_tokens,
        straddling_tokens=0,
        shards=facts,
        files=[manifest.file_facts(folder, INDEX)],
        order_version=ORDER_VERSION,
    )
    manifest.write(folder, written)


def start_at_scale(folder: Path) -> None:
    begun = time.perf_counter()
    opened = manifest.load(folder)
    loaded = time.perf_counter()
    Shards(folder, opened)
    sized = time.perf_counter()
    index = open_index(folder, opened)
    indexed = time.perf_counter()
    plan = pack(index.tokens, SEQ_LEN, 515, 0)
    planned = time.perf_counter()
    print(
        f"  {len(opened.shards):,} shards, {len(index):,} conversations, {len(plan):,} rows:\n"
        f"  manifest {loaded - begun:.2f} s, sizes {sized - loaded:.2f} s, index with its hash "
        f"{indexed - sized:.2f} s, plan {planned - indexed:.2f} s\n"
        f"  together {planned - begun:.2f} s (goal: 5), peak {peak_mb()} MB with the index (goal: 1,000)"
    )


def alone(*part: str) -> None:
    sys.stdout.flush()
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, __file__, "--part", *part], check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    part = parser.parse_args().part
    if part:
        {"utilisation": utilisation, "ten-million": ten_million, "start": lambda f: start_at_scale(Path(f))}[
            part[0]
        ](*part[1:])
        return
    print("How full the rows are:")
    alone("utilisation")
    print("\nPlanning 10 million examples (goal: 3 s, 1,000 MB):")
    for name in ("uniform", "lognormal"):
        alone("ten-million", name)
    print("\nThe trainer's start at scale:")
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder))
        alone("start", folder)


if __name__ == "__main__":
    main()
