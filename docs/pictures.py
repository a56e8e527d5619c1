"""Take the pictures of docs/pictures/ again: pack and train on the example data, photograph the pages.

Needs Chromium and its driver (Debian: chromium, chromium-driver, fonts-noto-cjk). Run by `make pictures`;
takes three minutes of CPU time. What it makes is in demo-run/pictures/.
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "demo-run" / "pictures"
PICTURES = ROOT / "docs" / "pictures"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
)


class Picture(NamedTuple):
    """A part of a page: from the element `start` to before the element `end`, at a width and in a theme."""

    name: str
    page: str
    theme: str
    width: int = 1080
    start: str = "body"
    end: str = "footer"
    most: int = 1200


TAKEN = [
    Picture(f"{name}-{theme}", page, theme, width, start, end, most)
    for theme in ("light", "dark")
    for name, page, width, start, end, most in (
        ("data", "packed", 1080, "body", "section:has(#packing)", 1200),
        ("problems", "packed", 1080, "section:has(#drops)", "section:has(#conversations)", 1300),
        ("conversations", "packed", 1080, "section:has(#conversations)", "section:has(#origin)", 960),
        ("run", "run", 1080, "body", "section:has(#course)", 1300),
        ("phone", "packed", 390, "section:has(#conversations)", "section:has(#origin)", 844),
    )
]


def main() -> int:
    """Make the pages and photograph them."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    PICTURES.mkdir(exist_ok=True)
    data_page()
    run_page()
    with browser() as driver:
        for picture in TAKEN:
            path = PICTURES / f"{picture.name}.png"
            path.write_bytes(photograph(driver, picture))
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB")
    return 0


def command(module: str, *arguments: str, wrong: bool = False) -> None:
    """Run one of our commands in demo-run/pictures; `wrong` where it is expected to find problems."""
    outcome = subprocess.run([sys.executable, "-m", module, *arguments], cwd=WORK, check=False)  # noqa: S603
    if outcome.returncode != int(wrong):
        sys.exit(f"{module} {' '.join(arguments)} exited with {outcome.returncode}")


def data_page() -> None:
    """Pack the examples, and some records that have something wrong with them."""
    for name in ("yayi_train_example.json", "yayi_train_example_multi_rounds.json"):
        shutil.copy(ROOT / "data" / name, WORK)
    (WORK / "collected.jsonl").write_text("".join(faulty()), encoding="utf-8")
    sources = ("yayi_train_example.json", "yayi_train_example_multi_rounds.json", "collected.jsonl")
    command(
        "yayi_data.cli", "validate", *sources, "--format", "json", "--output", "problems.json", wrong=True
    )
    command(
        "yayi_data.cli", "pack", *sources, "--tokenizer", str(ROOT / "data" / "tiny"), "--output", "packed",
        "--on-problem", "drop", "--max-length", "512",
    )  # fmt: skip
    command("yayi_data.cli", "report", "packed", "--problems", "problems.json", "--output", "packed.html")


def faulty() -> Iterator[str]:
    """Yield lines as they come from many hands: some sound, some cut off, empty, repeated or far too long."""
    with (ROOT / "data" / "yayi_train_example.json").open(encoding="utf-8") as file:
        sound = [json.loads(line) for line in file][:12]
    for number, record in enumerate(sound):
        text = json.dumps(
            record | {"instruction": record["instruction"] + "（请简要说明）"}, ensure_ascii=False
        )
        yield text[: len(text) // 2] + "\n" if number == 5 else text + "\n"
    for record in (
        {"instruction": "【金融领域任务】总结这份年报", "output": ""},
        {"instruction": "【医疗领域任务】解释化验单", "output": "请以医生的解读为准。\u202e"},
        {"instruction": "没有回答的问题"},
        {"instruction": "写一部很长的连载小说", "output": "从前有座山，山里有座庙。" * 200},
        sound[0] | {"output": "重复的问题，另一个回答。"},
    ):
        yield json.dumps(record, ensure_ascii=False) + "\n"


def run_page() -> None:
    """Train the tiny model, and hold some conversations out."""
    command("yayi_train", "prepare", str(ROOT / "data" / "tiny"), "--template", "yayi", "--output", "base")
    command(
        "yayi_train", "run", "--data-path", "packed", "--input-model", "base", "--local-output-dir", "run",
        "--deepspeed", "zero0", "--seq-len", "512", "--per-device-train-batch-size", "4",
        "--max-steps", "120",
        "--lr", "1e-3", "--warmup-steps", "10", "--scheduler", "cosine", "--no-gradient-checkpointing",
        "--save-steps", "1000", "--eval-steps", "20", "--test-size", "16",
    )  # fmt: skip
    command("yayi_data.cli", "report", "run", "--output", "run.html")


@contextmanager
def browser() -> Iterator[Any]:
    """Yield Chromium without a window, with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def photograph(driver: Any, picture: Picture) -> bytes:
    """Return a PNG of a part of a page."""
    media = [{"name": "prefers-color-scheme", "value": picture.theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    size = {"width": picture.width, "height": 900, "deviceScaleFactor": 1, "mobile": picture.width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get((WORK / f"{picture.page}.html").as_uri())
    top, end = (_top(driver, selector) for selector in (picture.start, picture.end))
    top = max(0, top - 28)
    height = min(picture.most, end - 28 - top)
    clip = {"x": 0, "y": top, "width": picture.width, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(taken["data"])


def _top(driver: Any, selector: str) -> float:
    find = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    return float(driver.execute_script(find, selector))


if __name__ == "__main__":
    sys.exit(main())
