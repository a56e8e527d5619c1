"""Memory of Bloom's 250,880-row head: ours beside full logits, forward and backward of 2,048 tokens.

Run: python benchmarks/bench_head.py [--positions N] [--precisions fp32 bf16]

One layer of bloomz-560m's width (1,024) with its tied head and random weights; half of the tokens are
supervised. Each measurement is a process of its own; memory is what it held at its peak beyond the model.
bf16 takes very long on a CPU without its instructions.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS, WIDTH = 250_880, 1024


def measure(way: str, precision: str, positions: int) -> None:
    import numpy as np
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    from yayi_train.attention import plain
    from yayi_train.batch import Document, make_batch
    from yayi_train.build import DTYPES
    from yayi_train.loss import supervised_loss

    torch.set_default_dtype(DTYPES[precision])
    model = BloomForCausalLM(BloomConfig(vocab_size=ROWS, hidden_size=WIDTH, n_layer=1, n_head=16))
    ids = np.random.default_rng(0).integers(0, ROWS, positions).astype(np.int32)
    batch = make_batch([[Document(ids, np.arange(positions) % 2 == 1, 0)]], None, 0)
    inputs, before, began = plain(batch), resident_mb(), time.process_time()
    if way == "ours":
        supervised_loss(model, batch, inputs).sum.backward()
    else:
        model(
            input_ids=batch.input_ids, shift_labels=batch.labels, labels=batch.labels, **inputs
        ).loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = time.process_time() - began
    print(f"  {precision}  {way:12} {peak - before:8,.0f} MB beside the model {spent:7.1f} CPU seconds")


def resident_mb() -> float:
    """Return the memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        measure(*given.part, given.positions)
        return
    print(f"{ROWS:,} x {WIDTH:,} head, {given.positions:,} tokens, half of them supervised", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for precision in given.precisions:
        for way in ("ours", "full logits"):
            command = [sys.executable, __file__, "--positions", str(given.positions)]
            subprocess.run([*command, "--part", way, precision], check=True, env=environment)


if __name__ == "__main__":
    main()
