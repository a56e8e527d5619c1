"""The trainer's start at scale: from its flags to the first batch's row numbers, as every rank does it.

Run: python benchmarks/bench_start.py

A synthetic folder of 10,000 shards and 10 million conversations (the shards are holes of the right size).
Each start runs the trainer's own code (`yayi_train.start.decide`, the order, a rank's share of the first
batch) in a process of its own, so that its peak memory is its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_plan import SEQ_LEN, write_synthetic

ROOT = Path(__file__).resolve().parents[1]
STARTS = {
    "1 rank": (1, []),
    "rank 0 of 64": (64, []),
    "rank 63 of 64": (64, ["--rank", "63"]),
    "rank 0 of 64, --test-size 0.01 --mix": (64, ["--test-size", "0.01", "--mix", "0.5"]),
    "rank 0 of 64, --no-packing": (64, ["--no-packing"]),
}


def start(folder: str, *options: str) -> None:
    """Start as a rank of WORLD_SIZE would, and print what it took."""
    from yayi_train.data import passes
    from yayi_train.flags import Flags
    from yayi_train.ranks import rank
    from yayi_train.start import decide

    flags = Flags(
        data_path=folder,
        input_model="none",
        local_output_dir=Path(folder).with_name("run"),
        epochs=3,
        seq_len=SEQ_LEN,
        packing="--no-packing" not in options,
        test_size=0.01 if "--test-size" in options else 0,
        mix="general=0.5" if "--mix" in options else None,
    )
    begun, spent, imported = time.perf_counter(), time.process_time(), peak_mb()
    decided = decide(flags)
    opened, decided_mb = time.perf_counter(), peak_mb()
    mine = passes(decided.order.batch(1), decided.layout, rank())
    done = time.perf_counter()
    print(
        f"{opened - begun:5.2f} s + first batch {done - opened:5.2f} s = {done - begun:5.2f} s (goal: 5; "
        f"{time.process_time() - spent:.2f} s of CPU), "
        f"peak {imported} MB imported, {decided_mb} MB decided, {peak_mb()} MB in all (goal: 1,000); "
        f"{decided.file.total_steps:,} steps, {sum(map(len, mine))} rows a rank and step"
    )


def peak_mb() -> int:
    """Peak of this program alone: getrusage would count the parent that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def main() -> None:
    if sys.argv[1:2] == ["--part"]:
        start(*sys.argv[2:])
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "packed"
        folder.mkdir()
        write_synthetic(folder)
        for name, (ranks, options) in STARTS.items():
            print(f"{name:38}", end="", flush=True)
            number = options[1] if options[:1] == ["--rank"] else "0"
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            as_rank = {"RANK": number, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "none", "PYTHONPATH": path}
            subprocess.run(
                [sys.executable, __file__, "--part", str(folder), *options],
                check=True,
                env=os.environ | as_rank,
            )


if __name__ == "__main__":
    main()
