"""What the machine does to a pack: a full disk, a read-only place, an interruption. One line, and no half dataset."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pack_command(source: Path, tokenizer: Path, output: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "yayi_data.cli", "pack", str(source), "--tokenizer", str(tokenizer)]
    return [*command, "--output", str(output), *more]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def refused(command: list[str], limit: int | None = None) -> str:
    """Run a command that must fail with exit code 2 and return the one line that it says."""

    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = subprocess.run(command, capture_output=True, text=True, env=environment(), preexec_fn=confine)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.jsonl"
    pick = random.Random(0)
    records = (
        {"instruction": f"第{n}题", "output": "".join(pick.choices("甲乙丙丁戊己庚辛", k=300))}
        for n in range(3000)
    )
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
    return path


@pytest.mark.parametrize("limit", [1_000, 200_000])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    limit: int, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    """No file may grow beyond the limit: first the tokenizer's files may not, then the shard may not."""
    before = source.read_bytes()
    told = refused(pack_command(source, byte_level, tmp_path / "out"), limit)
    assert told.startswith(f"error: {tmp_path}/out.partial")
    assert "cannot be written: File too large; free some space or choose another output" in told
    assert list(tmp_path.iterdir()) == []
    assert source.read_bytes() == before


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_is_told_in_one_line(source: Path, byte_level: Path, tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=500k") as disk:
        told = refused(pack_command(source, byte_level, disk / "out"))
        assert "cannot be written: No space left on device" in told
        assert list(disk.iterdir()) == []


def test_a_read_only_file_system_is_told_in_one_line(source: Path, byte_level: Path, tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "ro") as disk:
        told = refused(pack_command(source, byte_level, disk / "out"))
        assert told.startswith(f"error: {disk}/out: cannot be written: Read-only file system")


def test_a_place_that_cannot_be_written_is_told_in_one_line(
    source: Path, byte_level: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    told = refused(pack_command(source, byte_level, tmp_path / "file" / "out"))
    assert "cannot be written" in told
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_an_interruption_is_told_with_what_stays(
    number: signal.Signals, workers: int, source: Path, byte_level: Path, tmp_path: Path
) -> None:
    big = tmp_path / "big.jsonl"
    with big.open("wb") as file:
        for _ in range(60):  # more than one partition
            file.write(source.read_bytes())
    command = pack_command(big, byte_level, tmp_path / "out", "--workers", str(workers))
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "out.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    output, talk = process.communicate(timeout=120)
    stays = f"what is packed stays in {tmp_path}/out.partial: the same command goes on from there"
    assert (process.returncode, output) == (130, "")
    assert talk.splitlines() in (["interrupted"], [stays, "interrupted"])  # none where no partition was done
    assert not (tmp_path / "out").exists()
