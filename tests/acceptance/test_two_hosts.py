"""Two ranks as two hosts, in network namespaces over gloo: the link is cut amid the run, and the run resumes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FLAGS = shlex.split(
    "--data-path data/yayi_train_example.json --seq-len 512 --max-steps 12 --save-steps 2 "
    "--lr 1e-3 --no-gradient-checkpointing --limit 40"
)
NAMES = tuple(f"yayi{os.getpid()}{side}" for side in "ab")


def ip(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, ...]]:
    """Two namespaces joined by a cable; skips where this process may not make them."""
    if not shutil.which("ip"):
        pytest.skip("no `ip` command to make network namespaces with")
    made = [ip("netns", "add", name) for name in NAMES]
    try:
        if any(outcome.returncode for outcome in made):
            pytest.skip(f"may not make network namespaces: {made[0].stderr.strip()}")
        cable = ip(
            "link", "add", "cable", "netns", NAMES[0], "type", "veth", "peer", "cable", "netns", NAMES[1]
        )
        if cable.returncode:
            pytest.skip(f"may not join network namespaces: {cable.stderr.strip()}")
        for number, name in enumerate(NAMES, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield NAMES
    finally:
        for name in NAMES:
            ip("netns", "del", name)


def start(base: Path, folder: Path, hosts: tuple[str, ...]) -> list[subprocess.Popen]:
    """Start a rank on every host, as `deepspeed --hostfile` would."""
    flags = [
        *FLAGS,
        "--input-model",
        base,
        "--per-device-train-batch-size",
        "1",
        "--local-output-dir",
        folder,
    ]
    together = {
        "WORLD_SIZE": str(len(hosts)),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "10.77.0.1",
        "MASTER_PORT": "29400",
    }
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, "-m", "yayi_train", *flags],
            cwd=ROOT,
            env=os.environ
            | together
            | {"RANK": str(r), "GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for r, host in enumerate(hosts)
    ]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_cut_link_loses_no_more_than_the_steps_since_the_checkpoint(base, hosts, tmp_path):
    folder, alone = tmp_path / "together", tmp_path / "alone"
    ranks = start(base, folder, hosts)
    while not (folder / "checkpoint-4").exists():
        assert all(rank.poll() is None for rank in ranks), [rank.stderr.read() for rank in ranks]
        time.sleep(0.005)
    ip("-n", hosts[0], "link", "set", "cable", "down")
    time.sleep(1)
    assert not (folder / "final").exists()
    for rank in ranks:
        rank.kill()
        rank.wait()
    ip("-n", hosts[0], "link", "set", "cable", "up")

    for rank in start(base, folder, hosts):
        _, said = rank.communicate()
        assert rank.returncode == 0, said
    one = [*FLAGS, "--input-model", base, "--per-device-train-batch-size", "2", "--local-output-dir", alone]
    subprocess.run([sys.executable, "-m", "yayi_train", *one], cwd=ROOT, check=True, capture_output=True)
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [s["world_size"] for s in starts] == [2, 2]
    assert starts[1]["step"] >= 4
