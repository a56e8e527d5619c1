"""A pack that is killed, whenever it is, continues and ends with the bytes of an undisturbed run."""

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest

from yayi_data import pipeline
from yayi_data.pipeline import PackOptions

KILLS = 50
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["yayi_data.pipeline"])


def pack_in_many_parts(source: Path, tokenizer: Path, output: Path, workers: int = 1) -> None:
    pipeline.PARTITION_BYTES = 4000
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


def run(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = CONTEXT.Process(target=pack_in_many_parts, args=arguments)
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


def test_kills_at_random_moments_leave_no_trace(source: Path, byte_level: Path, tmp_path: Path) -> None:
    process = run(source, byte_level, tmp_path / "whole")
    process.join()
    started = time.monotonic()
    process = run(source, byte_level, tmp_path / "timed")
    process.join()
    duration = time.monotonic() - started
    whole = contents(tmp_path / "whole")
    assert len([name for name in whole if name.startswith("data-")]) > 4

    moments = random.Random(2)
    kills = 0
    output = tmp_path / "killed"
    while kills < KILLS:
        process = run(source, byte_level, output)
        time.sleep(moments.uniform(0, 0.9 * duration))
        process.kill()
        process.join()
        kills += process.exitcode != 0
        assert not output.exists() or contents(output) == whole
    process = run(source, byte_level, output)
    process.join()
    assert process.exitcode == 0
    assert contents(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "timed", "whole"]


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_writes_the_same_bytes(
    workers: int, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    for name, number in (("one", 1), ("many", workers)):
        process = run(source, byte_level, tmp_path / name, number)
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
