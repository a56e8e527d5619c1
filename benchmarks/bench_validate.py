"""MB/s of `yayi-data validate`, a plain jsonschema loop and check-jsonschema on the same records, in one run.

    python benchmarks/bench_validate.py [--megabytes 200] [--corpus FILE]

The file is made of the corpus's records, varied so that no two are the same and no tag is lost; without the
corpus, of made-up ones of the same lengths. check-jsonschema reads one JSON document, so it gets the same
records as an array; it and the plain loop take a sample, for they need minutes for the whole.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("YAYI_SHARED", ROOT.parent / "shared"))
SAMPLE_MEGABYTES = 10
FORMAT_RECORDS = 100_000


def records(corpus: Path) -> Iterator[dict[str, str]]:
    """Yield clean records without end, each different from all others in its prompt."""
    base = (
        [json.loads(line) for line in corpus.open(encoding="utf-8")] if corpus.exists() else list(made_up())
    )
    base = [record for record in base if all("\f" not in text for text in record.values())]
    for number in range(1 << 40):
        record = dict(base[number % len(base)])
        record["instruction"] += f"（{number}）"
        yield record


def made_up() -> Iterator[dict[str, str]]:
    pick = random.Random(0)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    for _ in range(20_000):
        asked, answered = ("".join(pick.choices(letters, k=pick.randint(8, n))) for n in (60, 160))
        yield {"instruction": f"【媒宣领域任务】{asked}", "input": "", "output": answered}


def write(corpus: Path, path: Path, size: int) -> None:
    with path.open("wb") as file:
        for record in records(corpus):
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            if file.tell() >= size:
                return


def multi_turn(record: dict[str, str]) -> dict[str, Any]:
    asked, replied = record["instruction"] + record["input"], record["output"]
    return {"conversations": [{"from": "human", "value": asked}, {"from": "yayi", "value": replied}]}


def tool_calls(record: dict[str, str]) -> dict[str, Any]:
    call = json.dumps({"name": "search", "arguments": {"query": record["output"][:50]}}, ensure_ascii=False)
    said = [("human", record["instruction"]), ("function_call", call)]
    said += [("observation", json.dumps([record["output"]], ensure_ascii=False)), ("gpt", record["output"])]
    return {"conversations": [{"from": who, "value": text} for who, text in said], "tools": "[]"}


def lines(found: list[Any], **options: Any) -> str:
    return "".join(json.dumps(record, **options) + "\n" for record in found)


FORMATS: dict[str, Callable[[list[dict[str, str]]], str]] = {
    "lines": lambda found: lines(found, ensure_ascii=False),
    "lines, \\u for every letter": lines,
    "array on one line": lambda found: json.dumps(found, ensure_ascii=False),
    "array, indented": lambda found: json.dumps(found, ensure_ascii=False, indent=2),
    "multi-turn lines": lambda found: lines(list(map(multi_turn, found)), ensure_ascii=False),
    "tool calls, lines": lambda found: lines(list(map(tool_calls, found)), ensure_ascii=False),
}


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - began


def validate(path: Path, workers: int) -> float:
    return timed([sys.executable, "-m", "yayi_data.cli", "validate", str(path), "--workers", str(workers)])


def plain_loop(path: Path) -> float:
    import jsonschema

    began = time.perf_counter()
    schema = json.loads((ROOT / "schemas" / "alpaca.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    with path.open(encoding="utf-8") as file:
        found = sum(1 for line in file for _ in validator.iter_errors(json.loads(line)))
    assert found == 0
    return time.perf_counter() - began


def check_jsonschema(path: Path) -> float:
    array = path.with_suffix(".array.json")
    array.write_bytes(b"[" + path.read_bytes().rstrip().replace(b"\n", b",\n") + b"]")
    schema: dict[str, Any] = json.loads((ROOT / "schemas" / "alpaca.schema.json").read_text(encoding="utf-8"))
    schema_path = path.with_suffix(".schema.json")
    schema_path.write_text(json.dumps({"type": "array", "items": schema}), encoding="utf-8")
    return timed(["check-jsonschema", "--schemafile", str(schema_path), str(array)])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=200)
    options.add_argument("--corpus", type=Path, default=SHARED / "corpus" / "sft50k.jsonl")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        big, sample = Path(folder) / "big.jsonl", Path(folder) / "sample.jsonl"
        write(given.corpus, big, given.megabytes * 1_000_000)
        write(given.corpus, sample, SAMPLE_MEGABYTES * 1_000_000)
        measure(big, sample)
        measure_formats(given.corpus, Path(folder) / "format.json")


def measure(big: Path, sample: Path) -> None:
    runs: list[tuple[str, Path, Callable[[], float]]] = [
        ("validate, 1 worker", big, lambda: validate(big, 1)),
        ("validate, 2 workers", big, lambda: validate(big, 2)),
        ("plain jsonschema loop", sample, lambda: plain_loop(sample)),
    ]
    if shutil.which("check-jsonschema"):
        runs.append(("check-jsonschema", sample, lambda: check_jsonschema(sample)))
    speeds = {}
    for name, path, run in runs:
        run_time = min(run() for _ in range(3 if path is big else 1))
        speeds[name] = path.stat().st_size / run_time / 1e6
    for name, speed in speeds.items():
        ratio = speeds["validate, 1 worker"] / speed
        print(f"{name:24} {speed:8.1f} MB/s   validate is {ratio:5.1f} times as fast")
    if "check-jsonschema" not in speeds:
        print("check-jsonschema is not installed (pip install check-jsonschema): left out")
    empty = big.with_name("one.jsonl")
    empty.write_text('{"instruction": "你好", "output": "你好！"}\n', encoding="utf-8")
    print(f"start-up to first output  {min(validate(empty, 1) for _ in range(5)):8.2f} s")


def measure_formats(corpus: Path, path: Path) -> None:
    found = list(itertools.islice(records(corpus), FORMAT_RECORDS))
    path.write_text('{"instruction": "你好", "output": "你好！"}\n', encoding="utf-8")
    start = min(validate(path, 1) for _ in range(3))
    for name, written in FORMATS.items():
        path.write_text(written(found), encoding="utf-8")
        spent = min(validate(path, 1) for _ in range(3)) - start
        size = path.stat().st_size
        print(f"{name:28} {size / spent / 1e6:6.1f} MB/s {len(found) / spent:9,.0f} records/s")


if __name__ == "__main__":
    main()
