"""A pack that is killed, whenever it is, continues and ends with the bytes of an undisturbed run."""

import gzip
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yayi_data import pipeline
from yayi_data.pipeline import PackOptions

CONTEXT = multiprocessing.get_context("forkserver")
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree"}


def pack_in_many_parts(
    source: Path, tokenizer: Path, output: Path, die_at: int = 0, workers: int = 1
) -> None:
    """Pack; with `die_at`, kill this process just before its nth operation on a file or folder."""
    os.setsid()
    os.fsync = lambda file: None  # what a killed process has written stays, synced or not
    pipeline.PARTITION_BYTES = 6000
    count = 0

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in CHANGES and "partial" in str(arguments) + str(output):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    pipeline.pack(
        PackOptions(
            paths=(str(source),),
            tokenizer=str(tokenizer),
            output=output,
            on_problem="drop",
            max_length=300,
            workers=workers,
            overwrite=True,
        )
    )
    output.with_name(f"{output.name}.count").write_text(str(count))


def start(*arguments: Any) -> multiprocessing.process.BaseProcess:
    process = CONTEXT.Process(target=pack_in_many_parts, args=arguments)
    process.start()
    return process


def run(*arguments: Any) -> int | None:
    process = start(*arguments)
    process.join()
    return process.exitcode


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(output: Path) -> list[str]:
    return [path.name for path in output.parent.glob(f"{output.name}.*") if not path.name.endswith(".count")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.jsonl"
    texts = random.Random(1)
    records: list[object] = [
        {"instruction": f"【媒宣领域任务】第{n}题", "output": "答" * texts.randrange(1, 60)}
        for n in range(200)
    ]
    records[7::50] = [{"instruction": "x"}] * len(records[7::50])
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return path


@pytest.fixture(scope="module")
def compressed(source: Path) -> Path:
    path = source.with_name("a.jsonl.gz")
    path.write_bytes(gzip.compress(source.read_bytes(), mtime=0))
    return path


def replace_another(output: Path, source: Path, tokenizer: Path) -> dict[str, bytes]:
    """Put a packed folder of other data where the output goes."""
    other = source.with_name("other.jsonl")
    other.write_text('{"instruction": "q", "output": "a"}\n')
    assert run(other, tokenizer, output) == 0
    return contents(output)


@pytest.mark.parametrize("kind", ["plain", "compressed", "overwrite"])
def test_a_kill_before_any_file_operation_leaves_no_trace(
    kind: str, source: Path, compressed: Path, byte_level: Path, tmp_path: Path
) -> None:
    data = compressed if kind == "compressed" else source
    assert run(data, byte_level, tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    assert len([name for name in whole if name.startswith("data-")]) > 3
    steps = int((tmp_path / "whole.count").read_text())

    output = tmp_path / "killed"
    before = replace_another(output, source, byte_level) if kind == "overwrite" else None
    publishing = range(steps - 25, steps + 1)
    for step in [*random.Random(2).sample(range(1, steps - 25), 8), *random.Random(3).sample(publishing, 6)]:
        assert run(data, byte_level, output, step) in {-signal.SIGKILL, 0}
        assert not output.exists() or contents(output) in (whole, before)
    assert run(data, byte_level, output) == 0
    assert contents(output) == whole
    assert leftovers(output) == []


def kill_at(moment: float, begin: Callable[[], multiprocessing.process.BaseProcess]) -> None:
    process = begin()
    time.sleep(moment)
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


@pytest.mark.parametrize(("workers", "kills"), [(1, 10), (2, 3)])
def test_kills_at_random_moments_leave_no_trace(
    workers: int, kills: int, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    assert run(source, byte_level, tmp_path / "whole") == 0
    began = time.monotonic()
    assert run(source, byte_level, tmp_path / "timed", 0, workers) == 0
    duration = time.monotonic() - began
    whole = contents(tmp_path / "whole")
    assert contents(tmp_path / "timed") == whole

    output = tmp_path / "killed"
    moments = random.Random(2)
    for _ in range(kills):
        kill_at(moments.uniform(0, duration), lambda: start(source, byte_level, output, 0, workers))
        assert not output.exists() or contents(output) == whole
    assert run(source, byte_level, output) == 0
    assert contents(output) == whole
    assert leftovers(output) == []


@pytest.mark.parametrize("ending", [".arrow", ".part", ".drops", ".unit"])
def test_a_damaged_file_of_an_interrupted_run_is_made_again(
    ending: str, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    assert run(source, byte_level, tmp_path / "whole") == 0
    steps = int((tmp_path / "whole.count").read_text())
    output = tmp_path / "out"
    for step in range(steps * 2 // 3, steps):
        assert run(source, byte_level, output, step) == -signal.SIGKILL
        if damaged := sorted(tmp_path.glob(f"out.partial/*{ending}")):
            break
    damaged[0].write_bytes(damaged[0].read_bytes()[:-9])
    assert run(source, byte_level, output) == 0
    assert contents(output) == contents(tmp_path / "whole")
