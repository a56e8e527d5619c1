"""Ray's tasks do what this process does, on a real cluster of several nodes on this machine, also when they die."""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from yayi_data import cluster, pipeline
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import load
from yayi_data.partition import Unit, pack_partition
from yayi_data.pipeline import PackOptions, pack
from yayi_data.rows import Job, Tools
from yayi_data.runner import Ray, run

pytest.importorskip("ray", reason="Ray is not installed: pip install 'yayi-tune[ray]'")
pytestmark = pytest.mark.ray

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of three nodes of one CPU each; its sockets need a short path."""
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ry", dir="/tmp"))
    (folder / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        started = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            for _ in range(2):
                started.add_node(**NODE)
            yield started
        finally:
            started.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.jsonl"
    records: list[object] = [
        {"instruction": f"【媒宣领域任务】第{n}题", "output": "答" * (n % 50 + 1)} for n in range(300)
    ]
    records[7::50] = [{"instruction": "x"}] * len(records[7::50])
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return path


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PARTITION_BYTES", 4000)


def packed(source: Path, tokenizer: Path, output: Path, **more: Any) -> dict[str, bytes]:
    """Pack, and return every file's bytes by its path."""
    pack(PackOptions((str(source),), str(tokenizer), output, on_problem="drop", max_length=300, **more))
    assert not list(output.parent.glob(f"{output.name}.*"))
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}


def power(exponent: int, number: int) -> int:
    if number < 0:
        raise DataError(f"{number} is negative")
    return int(number**exponent)


def die(exponent: int, number: int) -> int:
    os._exit(1)


def lack_a_package(exponent: int, number: int) -> int:
    raise ModuleNotFoundError("No module named 'fastokens'")


def note_and_wait(folder: Path, number: int) -> int:
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.2 if number else 60)
    return number


def pack_once_killed(marks: Path, tools: Tools, job: Job) -> Unit:
    """Pack a partition; the first attempt at every third one is killed when its shard is half written."""
    mark = marks / f"{job.partition.index}-{os.getpid()}"
    first = not list(marks.glob(f"{job.partition.index}-*"))
    mark.touch()
    if first and job.partition.index % 3 == 0:
        (job.folder / f"{job.shard.name}.half.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return pack_partition(tools, job)


def pack_except_on(doomed: str, marks: Path, tools: Tools, job: Job) -> Unit:
    """Pack a partition, but on the doomed node begin it and never end."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    (marks / f"{job.partition.index}-{node}").touch()
    time.sleep(60 if node == doomed else 0.2)
    return pack_partition(tools, job)


two = partial(int, "2")


def test_results_come_in_the_order_of_the_jobs(nodes: Any) -> None:
    assert list(run(power, [3, 1, 2], None, two, Ray(nodes.address))) == [9, 1, 4]


def test_a_users_error_comes_back_as_itself_and_is_not_tried_again(nodes: Any, tmp_path: Path) -> None:
    results = run(power, [1, -2, -3], 1, two, Ray(nodes.address))
    assert next(results) == 1
    with pytest.raises(DataError) as caught:
        next(results)
    assert type(caught.value) is DataError
    assert str(caught.value) == "-2 is negative"


def test_a_job_that_kills_every_worker_ends_the_run(nodes: Any) -> None:
    with pytest.raises(YayiError, match=r"lost its Ray worker 5 times.*run the same command again"):
        list(run(die, [1], None, two, Ray(nodes.address)))


def test_a_node_without_a_package_is_told(nodes: Any) -> None:
    with pytest.raises(YayiError, match="a node lacks a package: No module named 'fastokens'"):
        list(run(lack_a_package, [1], None, two, Ray(nodes.address)))


def test_no_more_tasks_run_at_a_time_than_asked_for_and_an_end_cancels_them(
    nodes: Any, tmp_path: Path
) -> None:
    results = run(note_and_wait, [1, 0, 2, 3], 2, partial(Path, str(tmp_path)), Ray(nodes.address))
    assert next(results) == 1
    results.close()  # as an interrupted run does: the sleeping task is killed
    begun = [int(path.name.split("-")[1]) for path in tmp_path.glob("0-*")]
    assert not [pid for pid in begun if Path(f"/proc/{pid}").exists()]
    assert len(list(tmp_path.iterdir())) <= 3


def test_the_folder_is_that_of_a_local_run(
    nodes: Any, source: Path, byte_level: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    local = packed(source, byte_level, tmp_path / "local")
    capfd.readouterr()
    assert packed(source, byte_level, tmp_path / "ray", runner="ray", address=nodes.address) == local
    assert capfd.readouterr() == ("", "")
    assert len([name for name in local if name.startswith("data-")]) > 6


def test_killed_workers_change_no_byte_and_each_drop_counts_once(
    nodes: Any, source: Path, byte_level: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = packed(source, byte_level, tmp_path / "local")
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setattr(pipeline, "pack_partition", partial(pack_once_killed, marks))
    assert packed(source, byte_level, tmp_path / "ray", runner="ray", address=nodes.address) == local
    assert len(list(marks.glob("3-*"))) == 2
    ledger = load(tmp_path / "ray").ledger
    lines = [json.loads(line)["line"] for line in local["dropped.jsonl"].splitlines()]
    assert lines == [8, 58, 108, 158, 208, 258]
    assert (ledger.read, ledger.kept, sum(ledger.dropped.values())) == (300, 294, 6)


def test_a_node_removed_amid_the_run_changes_no_byte_and_says_nothing(
    nodes: Any,
    source: Path,
    byte_level: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    local = packed(source, byte_level, tmp_path / "local")
    capfd.readouterr()
    marks = tmp_path / "marks"
    marks.mkdir()
    extra = nodes.add_node(**NODE)
    monkeypatch.setattr(pipeline, "pack_partition", partial(pack_except_on, extra.node_id, marks))
    removed = threading.Thread(target=remove_when_busy, args=(nodes, extra, marks))
    removed.start()
    options: dict[str, Any] = {"runner": "ray", "address": nodes.address, "workers": 4}
    ray = packed(source, byte_level, tmp_path / "ray", **options)
    removed.join()
    assert list(marks.glob(f"*-{extra.node_id}"))
    assert ray == local
    assert capfd.readouterr() == ("", "")


def remove_when_busy(nodes: Any, extra: Any, marks: Path) -> None:
    """Remove the node as soon as it has begun a partition."""
    deadline = time.monotonic() + 30
    while not list(marks.glob(f"*-{extra.node_id}")) and time.monotonic() < deadline:
        time.sleep(0.02)
    nodes.remove_node(extra, allow_graceful=False)


def drive(source: Path, tokenizer: Path, output: Path, address: str) -> None:
    """Pack as a driver that is about to be killed, a fifth of a second a partition."""
    pipeline.PARTITION_BYTES = 4000
    marks = output.with_name("marks")
    marks.mkdir()
    pipeline.pack_partition = partial(pack_except_on, "nobody", marks)  # type: ignore[assignment]
    packed(source, tokenizer, output, runner="ray", address=address)


def test_a_killed_driver_goes_on_where_it_stopped(
    nodes: Any, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    local = packed(source, byte_level, tmp_path / "local")
    output = tmp_path / "ray"
    driver = get_context("spawn").Process(target=drive, args=(source, byte_level, output, nodes.address))
    driver.start()
    while not list(tmp_path.glob("ray.partial/*.unit")) and driver.is_alive():
        time.sleep(0.02)
    driver.kill()
    driver.join()
    assert not output.exists()
    assert packed(source, byte_level, output, runner="ray", address=nodes.address) == local


def test_a_cluster_that_does_not_answer_is_told_before_anything_is_read(
    source: Path, byte_level: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "open_sources", None)
    with pytest.raises(YayiError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*`ray start --head`"):
        packed(source, byte_level, tmp_path / "out", runner="ray", address="127.0.0.1:1")


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(YayiError, match=r"ray://head:10001: expected HOST:PORT"):
        list(run(power, [1], None, two, Ray("ray://head:10001")))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(YayiError, match=r"pip install 'yayi-tune\[ray\]'"):
        list(run(power, [1], None, two, Ray()))
