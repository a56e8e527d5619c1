"""All benchmarks, one after the other: `make bench`.

python benchmarks/run.py [--quick]
"""

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every benchmarks/bench_*.py.")
    parser.add_argument(
        "--quick", action="store_true", help="minutes instead of an hour, where a benchmark can"
    )
    quick = parser.parse_args().quick
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load}")
    failed = []
    for script in sorted(HERE.glob("bench_*.py")):
        print(f"\n== {script.stem}", flush=True)
        knows = "--quick" in script.read_text(encoding="utf-8")
        command = [sys.executable, str(script), *(["--quick"] if quick and knows else [])]
        environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
        if subprocess.run(command, cwd=HERE.parent, env=environment).returncode:
            failed.append(script.stem)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
