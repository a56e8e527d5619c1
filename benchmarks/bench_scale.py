"""How pack scales with the records, with workers, in parts and on Ray.

    python benchmarks/bench_scale.py [--records 10000 100000] [--workers 1 2] [--tokenizer mistral] [--no-ray]

Whole processes, as in bench_pack, once each; memory is the largest sum over a process and its children. Then
the same in one part: what one process does for all (cut, and merge at the end) and what is done partition by
partition. Last, what Ray costs a partition beside the local pool, with jobs that do nothing and with real
ones, on a cluster of two nodes of one CPU on this machine.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_pack import ROOT, find_tokenizer, measure, write_records

from yayi_data import pipeline
from yayi_data.parts import Part, merge, pack_part
from yayi_data.pipeline import PackOptions, pack
from yayi_data.read import open_sources, partitions
from yayi_data.runner import Ray, run

SMALL_PARTITION = 1 << 20


def whole_processes(source: Path, count: int, tokenizer: Path, workers: int) -> None:
    """Pack in a process of its own and print what it took."""
    output = source.with_name("out")
    command = [sys.executable, "-m", "yayi_data.cli", "pack", str(source), "--tokenizer", str(tokenizer)]
    command += ["--output", str(output), "--workers", str(workers), "--json"]
    cost = measure(command, output, os.environ | {"PYTHONPATH": str(ROOT)})
    rate = count / cost.seconds
    print(
        f"  {count:>9,} {workers:>7} {cost.seconds:8.2f} {rate:12,.0f} {cost.cpu:8.2f} {cost.megabytes:8,} "
        f"{os.getloadavg()[0]:5.1f}",
        flush=True,
    )


def stages(source: Path, tokenizer: Path) -> None:
    """Print what the driver does alone, before and after the partitions, and what a partition takes."""
    output = source.with_name("part")
    options = PackOptions((str(source),), str(tokenizer), output, workers=1)
    with stage() as cut:
        parts, facts = partitions(open_sources([str(source)])[0], 0)
    with stage() as packed:
        pack_part(options, Part(0, 1))
    with stage() as merged:
        whole = merge(output).manifest
    written = sum(shard.bytes for shard in whole.shards)
    shutil.rmtree(output)
    each = (packed[1] - cut[1]) / len(parts)
    print(
        f"  {facts.records:>9,} records, {facts.bytes / 1e6:,.0f} MB, {len(parts)} partitions, "
        f"{written / 1e6:,.0f} MB of shards; seconds and CPU seconds: cut {cut[0]:.2f} {cut[1]:.2f}, "
        f"pack {packed[0] - cut[0]:.2f} {packed[1] - cut[1]:.2f} ({each:.2f} CPU s a partition), "
        f"merge {merged[0]:.2f} {merged[1]:.2f}",
        flush=True,
    )


@contextmanager
def stage() -> Iterator[list[float]]:
    """Yield a list that has the seconds and the CPU seconds of the block when it ends."""
    took: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield took
    took += [time.perf_counter() - wall, time.process_time() - cpu]


# Ray beside the local pool


def nothing(tools: object, job: int) -> int:
    return job


@contextmanager
def two_nodes() -> Iterator[str]:
    """Start a Ray cluster of two nodes of one CPU and yield its address."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ry", dir="/tmp")
    (Path(folder) / "ray").mkdir()
    os.environ |= {
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def no_ops(count: int, ray: Ray | None) -> tuple[float, float]:
    """Return the seconds of a start with one job a worker, and the milliseconds of each further job."""

    def jobs(n: int) -> float:
        return timed(lambda: list(run(nothing, range(n), 2, partial(int, "0"), ray)))

    jobs(2)
    start = min(jobs(2) for _ in range(3))
    return start, (jobs(count) - start) / count * 1000


def real_ones(source: Path, tokenizer: Path, ray: Ray | None) -> float:
    output = source.with_name("ray" if ray else "local")
    where: dict[str, Any] = {"runner": "ray", "address": ray.address} if ray else {}
    options = PackOptions((str(source),), str(tokenizer), output, workers=2, overwrite=True, **where)
    return min(timed(lambda: pack(options)) for _ in range(3))


def ray_overhead(source: Path, tokenizer: Path) -> None:
    pipeline.PARTITION_BYTES = SMALL_PARTITION
    count = len(partitions(open_sources([str(source)])[0], 0, SMALL_PARTITION)[0])
    with two_nodes() as address:
        for name, ray in (("local pool", None), ("Ray", Ray(address))):
            start, each = no_ops(1000, ray)
            seconds = real_ones(source, tokenizer, ray)
            print(
                f"  {name:10} start {start:5.2f} s, a job that does nothing {each:6.2f} ms, "
                f"pack in {count} partitions of 1 MB {seconds:6.2f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokenizer", default="mistral")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    given = parser.parse_args()
    tokenizer = find_tokenizer(given.tokenizer)
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
        source = Path(name) / "records.jsonl"
        print("    records workers   wall s    records/s    CPU s  peak MB  load")
        for count in given.records:
            write_records(source, count)
            for workers in given.workers:
                whole_processes(source, count, tokenizer, workers)
            shutil.rmtree(source.with_name("out"))
            stages(source, tokenizer)
        if given.no_ray or not find_spec("ray"):
            print("  Ray is left out")
            return
        write_records(source, 100_000)
        ray_overhead(source, tokenizer)


if __name__ == "__main__":
    main()
