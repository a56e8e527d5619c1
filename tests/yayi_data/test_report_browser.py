"""The report page in a real browser: Chromium without a window, driven by selenium."""

import base64
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from yayi_data.page.report import report
from yayi_data.pipeline import PackOptions, pack

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium")),
    reason="needs chromium and chromedriver (Debian: chromium, chromium-driver) and selenium",
)

HOSTILE = (
    "<script>document.title = 'ran'</script>",
    "</textarea></script><!-- <img src=//example.invalid/x onerror=\"document.title='ran'\">",
    "<style>body{display:none}</style><iframe src=//example.invalid></iframe>",
    "\u202e反转\u2066 \u200bzero\u0000nul\x1b[31m",
    "<a href=javascript:alert(1)>]]></svg><base href=//example.invalid>",
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
SIZES = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, byte_level: Path) -> dict[str, Path]:
    """The page of a packed folder, whose records are hostile, and that of a run."""
    where = tmp_path_factory.mktemp("report")
    records = [
        {"instruction": f"【金融领域任务】第{n}题", "output": "答案" * (n % 40 + 1)} for n in range(30)
    ]
    records += [{"instruction": text, "output": text, "system": text} for text in HOSTILE]
    records.append({"instruction": "宽" * 300, "output": "x" * 900})
    source = where / f"{'a-long-name-' * 8}.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in [*records, {"instruction": "没有"}]))
    pack(PackOptions((str(source),), str(byte_level), where / "packed", on_problem="drop"))
    report(where / "packed", where / "packed.html")
    _run(where / "run")
    report(where / "run", where / "run.html")
    return {"packed": where / "packed.html", "run": where / "run.html"}


def _run(folder: Path) -> None:
    folder.mkdir()
    run = {"config": {"data": {"path": HOSTILE[0]}}, "versions": {}, "starts": [{"step": 0}], "total_steps": 90,
           "digest": "d" * 64}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    lines = [
        {"step": step, "epoch": 1.0, "loss": 9 / step, "lr": 1e-6, "grad_norm": 1.0, "tokens": 10**9,
         "supervised_tokens": 10**6, "tokens_per_second": 1e5, "loss_by_domain": {"金融": 1.0, HOSTILE[1]: 9 / step},
         "supervised_by_domain": {"金融": 10**6 - step, HOSTILE[1]: step}}
        for step in range(1, 90)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class Browser:
    """A page that is open in Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, theme: str = "light") -> None:
        media = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def search(self, words: str) -> None:
        box = self.driver.find_element("id", "search")
        box.clear()
        box.send_keys(words)

    def visible(self) -> int:
        return int(
            self.run("return [...document.querySelectorAll('.sample')].filter(s => s.offsetHeight).length")
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield Browser(driver)
    driver.quit()


@pytest.mark.parametrize("name", ["packed", "run"])
def test_a_page_runs_nothing_of_the_data_and_asks_for_nothing(
    name: str, pages: dict[str, Path], browser: Browser
) -> None:
    browser.driver.get("about:blank")
    browser.driver.get_log("performance")  # what Chromium's own first page asked for
    browser.open(pages[name])
    messages = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert asked - {"data:,"} == {pages[name].as_uri()}
    assert browser.driver.get_log("browser") == []
    assert browser.driver.title == f"{name} · {'packed data' if name == 'packed' else 'training run'}"
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.run("return document.querySelectorAll('img, iframe, base, textarea').length") == 0


def test_hostile_records_are_shown_as_they_are(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["packed"])
    shown = browser.run("return document.getElementById('samples').textContent")
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4]):
        assert text in shown
    assert "U+202E反转U+2066 U+200Bzero" in shown
    assert "U+0000nulU+001B[31m" in shown
    assert not set("\u202e\u2066\u200b\x1b\x00") & set(shown)


def test_the_policy_stops_a_script_that_got_in(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["packed"])
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    assert browser.run("return window.ran") is None
    browser.driver.get_log("browser")  # the refusals


def test_the_search_box_finds_text_domains_and_places(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["packed"])
    assert browser.visible() == 36
    for words, found in (
        ("第7题", 1),
        ("<SCRIPT>document", 1),
        ("金融风控", 30),
        (".jsonl:3 第2题", 1),
        ("不存在", 0),
    ):
        browser.search(words)
        assert browser.visible() == found, words
        assert browser.run("return document.getElementById('found').textContent") == f"{found} of 36"
    browser.search("第7题")
    assert browser.run("return document.querySelector('.sample:not([hidden])').open")
    assert browser.run("return CSS.highlights.get('found').size") >= 1
    browser.search(" ")
    assert browser.visible() == 36
    assert browser.run("return document.getElementById('found').textContent") == ""


def test_everything_is_reached_by_the_keyboard(pages: dict[str, Path], browser: Browser) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser.open(pages["packed"])
    reached = []
    for _ in range(60):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.append(
            browser.run(
                "const e = document.activeElement, s = getComputedStyle(e);"
                "return [e.id || e.className || e.tagName, s.outlineStyle !== 'none' && s.outlineWidth !== '0px']"
            )
        )
        if reached[-1][0] == "SUMMARY" and any(name == "search" for name, _ in reached):
            break
    names = [name for name, _ in reached]
    assert names[0] == "skip"
    assert {"search", "unfold", "wide", "SUMMARY"} <= set(names)
    assert all(seen for _, seen in reached), reached
    is_open = "return document.activeElement.parentElement.open"
    before = browser.run(is_open)
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert browser.run(is_open) != before


@pytest.mark.parametrize("name", ["packed", "run"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_is_wider_than_its_screen(
    name: str, size: str, pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages[name], width=SIZES[size])
    browser.run("for (const e of document.querySelectorAll('details')) e.open = true")
    page = "document.documentElement"
    assert browser.run(f"return {page}.scrollWidth") == browser.run(f"return {page}.clientWidth")
    assert browser.run(f"return {page}.scrollWidth") <= SIZES[size]


CONTRAST = """
const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => { for (; e; e = e.parentElement) {
  const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const bad = [];
for (const details of document.querySelectorAll("details")) details.open = true;
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !e.getClientRects().length || ["SCRIPT", "STYLE", "title"].includes(e.tagName)) continue;
  const style = getComputedStyle(e);
  const text = e.namespaceURI.endsWith("svg") ? style.fill : style.color;
  const [a, b] = [light(rgb(text)), light(behind(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(e.className + " " + e.textContent.slice(0, 40));
}
return bad;
"""


@pytest.mark.parametrize("name", ["packed", "run"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_in_both_themes(
    name: str, theme: str, pages: dict[str, Path], browser: Browser
) -> None:
    browser.open(pages[name], theme=theme)
    red = int(browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert (red > 128) == (theme == "light")
    assert browser.run(CONTRAST) == []


def test_a_page_can_be_printed_with_every_conversation(pages: dict[str, Path], browser: Browser) -> None:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(pages["packed"])
    # On a busy machine Chromium's printing fails now and then ("Printing failed"), whatever the page is.
    patient = WebDriverWait(browser.driver, 60, ignored_exceptions=[WebDriverException])
    printed = patient.until(lambda driver: driver.execute_cdp_cmd("Page.printToPDF", {}))
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    talks = "return [...document.querySelectorAll('.talk')].every((talk) => talk.getBoundingClientRect().height > 0)"
    assert browser.run(talks)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
