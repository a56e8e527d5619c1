import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yayi_data.atomic import AtomicFile, write_atomically, writing
from yayi_data.errors import YayiError


def test_a_file_has_its_name_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with AtomicFile(path) as file:
        file.write(b"one")
        assert not path.exists()
        file.write(memoryview(b"two"))
    assert path.read_bytes() == b"onetwo"
    assert (file.bytes, file.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())


def test_a_failed_block_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def fail() -> None:
        with AtomicFile(path) as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(YayiError, match=r"gone/a: cannot be written: No such file or directory; "):
        write_atomically(tmp_path / "gone" / "a", b"x")


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.EACCES, "make its folder writable or choose another output"),
        (errno.EROFS, "choose an output that is not on a read-only filesystem"),
        (errno.ENOSPC, "free some space or choose another output"),
    ],
)
def test_the_next_step_fits_what_went_wrong(number: int, step: str) -> None:
    with pytest.raises(YayiError, match=f"a: cannot be written: .*; {step}, then run"), writing(Path("a")):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails as a full disk does: in write or in flush, with an OSError.
    program = f"""
import resource, signal
from pathlib import Path
from yayi_data.atomic import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path({str(tmp_path / "a")!r}), b"x" * 2000)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("YayiError ")
    assert "cannot be written: File too large; free some space" in done.stdout
    assert list(tmp_path.iterdir()) == []
