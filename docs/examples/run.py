"""Prepare a tiny model, pack the example data, and run every example on it: `make examples`."""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "data"
FILES = [str(path) for path in sorted(DATA.glob("*.json"))]
YAYI_DATA, YAYI_TRAIN = (["-m", f"{package}.cli"] for package in ("yayi_data", "yayi_train"))


def python(folder: str, *arguments: str | Path) -> None:
    """Run Python in `folder`, as a user would run a command there."""
    subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, check=True)  # noqa: S603 - our own commands


def main() -> None:
    """Run what docs/ecosystem.md shows."""
    with tempfile.TemporaryDirectory() as folder:
        python(folder, *YAYI_TRAIN, "prepare", DATA / "tiny", "--template", "yayi", "--output", "base")
        python(folder, *YAYI_DATA, "pack", *FILES, "--tokenizer", "base", "--output", "packed")
        python(folder, *YAYI_DATA, "export", "packed", "--labels", "--output", "labels")
        python(folder, HERE / "transformers_trainer.py", "labels", "base", "out-transformers")
        python(folder, HERE / "trl_sft.py", "packed", "base", "out-trl")
        python(folder, *YAYI_DATA, "verify", "packed")


if __name__ == "__main__":
    main()
