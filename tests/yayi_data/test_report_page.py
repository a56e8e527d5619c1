"""`yayi-data report`: what its page says of packed folders and runs, and what it refuses."""

import hashlib
import json
import re
from base64 import b64encode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yayi_data.cli import app
from yayi_data.command import run as run_command
from yayi_data.errors import DataError, YayiError
from yayi_data.manifest import load, write
from yayi_data.page.html import language, shown, small_percent
from yayi_data.page.metrics import POINTS, spread, thinned
from yayi_data.page.report import report
from yayi_data.page.samples import choose
from yayi_data.pipeline import PackOptions, pack

HOSTILE = "<script>alert(1)</script></textarea><!--<img src=x onerror=alert(1)>\u202e{{ 7 * 7 }}&amp;"


class Words(HTMLParser):
    """The words of a page, without what stands in style and script, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.words.append("" if tag in ("b", "bdi", "code", "span") else " ")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def record(number: int) -> dict[str, str]:
    tag = ("【媒宣领域任务】", "【金融领域任务】", "")[number % 3]
    return {
        "instruction": f"{tag}第{number}题{HOSTILE if number == 1 else ''}",
        "output": "答" * (number + 1),
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    lines = [*(json.dumps(record(n)) for n in range(12)), '{"instruction": "x"}', json.dumps(record(900))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def folder(source: Path, byte_level: Path, tmp_path: Path) -> Path:
    output = tmp_path / "packed"
    pack(PackOptions((str(source),), str(byte_level), output, on_problem="drop"))
    return output


def metrics_line(step: int, **other: Any) -> dict[str, Any]:
    return {
        "step": step, "epoch": step / 4, "loss": 9.0 / step, "lr": 1e-3, "grad_norm": 2.0, "tokens": 200,
        "supervised_tokens": 100, "tokens_per_second": 500.0, "loss_by_domain": {"金融": 9.0 / step, HOSTILE: 1.0},
        "supervised_by_domain": {"金融": 75, HOSTILE: 25},
    } | other  # fmt: skip


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    content = {
        "config": {"data": {"path": HOSTILE, "seq_len": 512}, "lora": None, "deepspeed": {"zero": {"stage": 2}}},
        "versions": {"torch": "2.13.0"}, "starts": [{"step": 0, "world_size": 1}, {"step": 2, "world_size": 2}],
        "total_steps": 8, "digest": "d" * 64, "data": "packed", "global_rows": 4, "epoch_steps": [],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(content))
    lines = [
        *map(metrics_line, range(1, 5)),
        {"step": 4, "eval_loss": 3.5, "eval_loss_by_domain": {"金融": 3.5}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def made(folder: Path, tmp_path: Path, problems: Path | None = None) -> str:
    report(folder, tmp_path / "report.html", problems)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_of_a_folder_says_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    text = Words(made(folder, tmp_path)).text
    assert "12 conversations from 1 source, template yayi" in text
    for words in ("媒体宣传", "金融风控", "general", "schema-missing", "too-long", "a.jsonl:13", "row 3"):
        assert words in text
    assert "12 of 12, drawn from every domain" in text


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert made(folder, tmp_path) == made(folder, tmp_path)


def test_the_page_is_sealed(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    for where in (folder, run_folder):
        page = made(where, tmp_path)
        policy = next(a["content"] for t, a in Words(page).elements if a.get("http-equiv")) or ""
        assert policy.startswith("default-src 'none'; ")
        for name in ("style", "script"):
            (inner,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
            digest = b64encode(hashlib.sha256(inner.encode()).digest()).decode()
            assert f"{name}-src 'sha256-{digest}'" in policy
        urls = [a.get(k) or "" for _, a in Words(page).elements for k in ("src", "href", "action", "data")]
        assert all(url.startswith("#") or url in ("", "data:,") for url in urls)
        assert not any("style" in a or any(k.startswith("on") for k in a) for _, a in Words(page).elements)


def test_record_text_stays_text(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    for where in (folder, run_folder):
        words = Words(made(where, tmp_path))
        assert (
            "<script>alert(1)</script></textarea><!--<img src=x onerror=alert(1)>U+202E{{ 7 * 7 }}&amp;"
            in words.text
        )
        assert [tag for tag, _ in words.elements].count("script") == 1
        assert not [tag for tag, _ in words.elements if tag in ("img", "textarea")]


def test_headings_go_down_in_steps_and_ids_are_unique(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    for where in (folder, run_folder):
        elements = Words(made(where, tmp_path)).elements
        levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        targets = {(a["href"] or "")[1:] for tag, a in elements if tag == "a"}
        assert targets <= set(ids)
        tables = [tag for tag, _ in elements if tag in ("table", "caption")]
        assert tables == ["table", "caption"] * (len(tables) // 2)


def test_problems_come_from_a_report_of_validate(source: Path, folder: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.json"
    run_command(
        lambda: app(
            ["validate", str(source), "--format", "json", "--output", str(problems)], standalone_mode=False
        ),
        debug=True,
    )
    text = Words(made(folder, tmp_path, problems)).text
    assert "schema-missing error · A member is missing 1" in text
    assert "a.jsonl:13:1" in text
    assert "Not the same data" not in text
    source.write_text(source.read_text() + "\n")
    problems.write_text(problems.read_text().replace('"bytes": ', '"bytes": 1'))
    assert "Not the same data" in Words(made(folder, tmp_path, problems)).text


def test_without_that_report_the_page_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    assert (
        "yayi-data validate SOURCES… --format json --output problems.json"
        in Words(made(folder, tmp_path)).text
    )


def test_problems_of_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    problems = tmp_path / "problems.json"
    found = {"records": 1, "counts": {}, "problems": [], "files": [{"path": "b.jsonl", "bytes": 9}]}
    problems.write_text(json.dumps(found))
    with pytest.raises(YayiError, match=r"is about b\.jsonl, but the folder was packed from a\.jsonl"):
        report(folder, tmp_path / "report.html", problems)
    problems.write_text("[]")
    with pytest.raises(YayiError, match="is not a report of validate in JSON; write one with"):
        report(folder, tmp_path / "report.html", problems)


def test_a_long_conversation_is_cut_where_it_says_so(byte_level: Path, tmp_path: Path) -> None:
    source = tmp_path / "long.jsonl"
    turns = [{"from": ("human", "yayi")[n % 2], "value": f"{n}" * 1900} for n in range(8)]
    source.write_text(json.dumps({"system": "", "conversations": turns}) + "\n")
    pack(PackOptions((str(source),), str(byte_level), tmp_path / "packed", max_length=100_000))
    text = Words(made(tmp_path / "packed", tmp_path)).text
    assert re.search("… [0-9]+ characters left out …", text)
    assert "… the rest of the conversation is left out …" in text
    assert "0" * 1500 not in text


def test_many_domains_are_named_up_to_a_point(byte_level: Path, run_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    records = [{"instruction": f"【域{n}】问", "output": "答" * (100 - n)} for n in range(50)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    pack(PackOptions((str(source),), str(byte_level), tmp_path / "packed"))
    assert "10 more" in Words(made(tmp_path / "packed", tmp_path)).text
    losses = {f"域{n}": 1.0 for n in range(50)}
    line = metrics_line(1, loss_by_domain=losses, supervised_by_domain=dict.fromkeys(losses, 2))
    (run_folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    text = Words(made(run_folder, tmp_path)).text
    assert "10 more domains are left out" in text
    assert "the domains most learnt from" in text


def test_many_sources_are_named_up_to_a_point(folder: Path, tmp_path: Path) -> None:
    whole = load(folder)
    more = [replace(whole.sources[0], name=f"more-{i}.jsonl", records=0) for i in range(2000)]
    write(folder, replace(whole, sources=[*whole.sources, *more]))
    words = Words(made(folder, tmp_path)).text
    assert "Sources; 1,901 more are left out" in words
    assert words.count("more-") == 99


def test_samples_come_from_all_domains_alike() -> None:
    domain = np.array([0] * 900 + [1] * 90 + [2] * 10, np.int32)
    chosen = choose(domain, 100)
    assert np.bincount(domain[chosen]).tolist() == [45, 45, 10]
    assert len(set(chosen.tolist())) == 100
    assert sorted(choose(domain[:5], 100).tolist()) == [0, 1, 2, 3, 4]


def test_the_page_of_a_run_says_how_it_went(run_folder: Path, tmp_path: Path) -> None:
    text = Words(made(run_folder, tmp_path)).text
    for words in (
        "4 of 8 steps, in 2 starts",
        "2.250 at step 4",
        "Held out, best 3.500",
        "800",
        "400 supervised",
    ):
        assert words in text
    assert "金融 75.0% 100% 9.000 2.250 3.500" in text
    assert "zero.stage 2" in text
    assert "resumed" in text


def test_a_run_of_before_the_counts_by_domain_has_a_page_too(run_folder: Path, tmp_path: Path) -> None:
    lines = [metrics_line(1, loss=None, loss_by_domain={"金融": None})]
    del lines[0]["supervised_by_domain"]
    (run_folder / "metrics.jsonl").write_text(json.dumps(lines[0]) + '\n{"step": 2, "lo')
    text = Words(made(run_folder, tmp_path)).text
    assert "No step has a finite loss" in text
    assert "1 line of metrics.jsonl could not be read" in text


@pytest.mark.parametrize(
    "line",
    [
        metrics_line(5) | {"step": 0},
        metrics_line(5, loss="low"),
        metrics_line(5, epoch=[]),
        metrics_line(5, loss_by_domain=None),
        {"step": 5, "eval_loss": 1.0, "eval_loss_by_domain": []},
        {"step": "5"},
        [],
    ],
)
def test_a_line_that_no_run_wrote_is_counted_and_left_out(
    line: Any, run_folder: Path, tmp_path: Path
) -> None:
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    text = Words(made(run_folder, tmp_path)).text
    assert "1 line of metrics.jsonl could not be read" in text
    assert "4 of 8 steps" in text


def test_odd_figures_of_a_run_do_not_break_its_page(run_folder: Path, tmp_path: Path) -> None:
    odd = {
        "loss": 1e300,
        "lr": 0,
        "grad_norm": None,
        "supervised_tokens": 0,
        "supervised_by_domain": {"金融": "x"},
    }
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics_line(5, **odd)) + "\n")
        file.write(json.dumps(metrics_line(6, supervised_by_domain=[])) + "\n")
    text = Words(made(run_folder, tmp_path)).text
    assert "6 of 8 steps" in text
    assert "1.00e300" in text


@pytest.mark.parametrize(
    "odd",
    [
        [{"tokens": 1e308}, {"tokens": 1e308}],
        [{"loss": 1e308}, {"loss": -1e308}],
        [{"loss": 1e300}, {"loss": -1e300}],
        [{"loss": 5e-324, "lr": 1e-310, "loss_by_domain": {"a": 5e-324}}],
        [{"supervised_tokens": 0, "supervised_by_domain": {"general": 3}}],
        [{"supervised_tokens": None, "supervised_by_domain": {"general": 3}}],
        [{"supervised_tokens": 1e-300, "supervised_by_domain": {"general": 1e300}}],
        [{"epoch": 1e300, "lr": -1e300, "grad_norm": 1e-305, "tokens_per_second": -5e-324}],
    ],
)
def test_figures_at_the_ends_of_the_range_have_a_page(
    odd: list[dict[str, Any]], run_folder: Path, tmp_path: Path
) -> None:
    losses = {"loss_by_domain": {"general": 1.0}}
    lines = [metrics_line(n, **losses, **one) if "loss_by_domain" not in one else metrics_line(n, **one)
             for n, one in enumerate(odd, 1)]  # fmt: skip
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert f"{len(odd)} of 8 steps" in Words(made(run_folder, tmp_path)).text


def test_the_last_resumptions_are_marked(run_folder: Path, tmp_path: Path) -> None:
    run = json.loads((run_folder / "run.json").read_text())
    run["starts"] = [{"step": step} for step in range(5)]
    (run_folder / "run.json").write_text(json.dumps(run))
    at = re.findall('<line x1="([0-9.]+)%"[^>]*class="mark"', made(run_folder, tmp_path))
    assert at == ["50.00", "75.00", "100.00"]


@pytest.mark.parametrize("changes", [{"sources": []}, {"shards": []}, {"tokens": 0}, {"domains": {}}])
def test_a_manifest_that_does_not_add_up_is_refused(
    changes: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    write(folder, replace(load(folder), **changes))
    with pytest.raises(DataError, match=r"manifest\.json: .* pack the data again"):
        report(folder, tmp_path / "report.html")


def test_a_cut_without_a_length_has_a_page(folder: Path, tmp_path: Path) -> None:
    manifest = load(folder)
    ledger = replace(manifest.ledger, truncated=3)
    options = {name: value for name, value in manifest.options.items() if name != "max_length"}
    write(folder, replace(manifest, ledger=ledger, options=options))
    assert "Cut short 3" in Words(made(folder, tmp_path)).text


def test_unseen_characters_make_no_page_large(byte_level: Path, tmp_path: Path) -> None:
    source = tmp_path / "unseen.jsonl"
    texts = ["\u200b" * 1400, "\u200b\u200c" * 700, "a\u200b" * 700]
    records = [{"instruction": f"{n}{texts[n % 3]}", "output": texts[n % 3]} for n in range(60)]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    pack(PackOptions((str(source),), str(byte_level), tmp_path / "packed", max_length=100_000))
    assert report(tmp_path / "packed", tmp_path / "report.html") < 1_500_000


def test_the_command_of_the_page_quotes_the_folder(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "a $(b)")
    text = Words(made(tmp_path / "a $(b)", tmp_path)).text
    assert "yayi-data report 'a $(b)' --output" in text


def test_long_names_and_messages_are_cut(folder: Path, tmp_path: Path) -> None:
    problem = {"path": f"x/{'n' * 3000}", "line": 3, "column": 1, "rule": "r" * 3000, "severity": "s" * 3000,
               "message": "m" * 3000}  # fmt: skip
    found = {"records": 1, "counts": {"r" * 3000: 1}, "problems": [problem],
             "files": [{"path": "a.jsonl", "bytes": 9}]}  # fmt: skip
    (tmp_path / "problems.json").write_text(json.dumps(found))
    text = Words(made(folder, tmp_path, tmp_path / "problems.json")).text
    for letter in "nrsm":
        assert letter * 200 + "…" in text
        assert letter * 201 not in text
    assert "n…:3:1" in text


def test_a_rare_drop_is_not_written_as_none() -> None:
    assert [small_percent(share) for share in (0, 2 / 52801, 0.0001)] == ["0.00%", "<0.01%", "0.01%"]


def test_a_changed_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer" / "template.toml").write_text("")
    with pytest.raises(DataError, match=r"template\.toml: has 0 bytes, .* verify \S*/packed`"):
        report(folder, tmp_path / "report.html")


def test_a_long_run_is_thinned_to_means_and_their_spread() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 10 * POINTS + 1)]
    assert len(thinned(points)) == POINTS
    assert thinned(points)[-1] == (10.0 * POINTS, 0.5)
    assert spread(points)[0] == (10.0, 0.0, 1.0)
    assert thinned(points[:POINTS]) == points[:POINTS]
    assert thinned([]) == spread(points[:5]) == []


@pytest.mark.slow
def test_the_page_of_fifty_thousand_conversations_is_small(shared: Path, tmp_path: Path) -> None:
    source, tokenizer = shared / "corpus" / "sft50k.jsonl", shared / "tokenizers" / "qwen3"
    pack(PackOptions((str(source),), str(tokenizer), tmp_path / "packed", workers=1))
    assert report(tmp_path / "packed", tmp_path / "report.html") < 3_000_000


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("report.pdf", "must end in .html"),
        ("packed/report.html", "lies in the packed folder"),
        ("there.html", "is a folder"),
        ("nowhere/report.html", "cannot be written: No such file or directory; make its folder first"),
    ],
)
def test_an_output_in_the_way_is_refused(output: str, told: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there.html").mkdir()
    with pytest.raises(YayiError, match=re.escape(told)):
        report(folder, tmp_path / output)


def test_other_folders_are_refused(run_folder: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(YayiError, match=r"holds neither manifest\.json nor run\.json"):
        report(tmp_path, tmp_path / "report.html")
    with pytest.raises(YayiError, match="there is no such folder"):
        report(tmp_path / "none", tmp_path / "report.html")
    with pytest.raises(YayiError, match="--problems belongs to a packed folder"):
        report(run_folder, tmp_path / "report.html", tmp_path / "problems.json")
    (run_folder / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no step yet"):
        report(run_folder, tmp_path / "report.html")
    (run_folder / "run.json").write_text("[]")
    with pytest.raises(DataError, match="is not what yayi-train writes"):
        report(run_folder, tmp_path / "report.html")
    with (folder / "index.arrow").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"index\.arrow: has"):
        report(folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_output_goes_into_a_packed_folder(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    for where in (folder, run_folder):
        with pytest.raises(YayiError, match="lies in the packed folder packed"):
            report(where, folder / "tokenizer" / "x.html")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{}")
    assert report(folder, tmp_path / "web" / "x.html")


def test_unseen_characters_are_spelled_out_and_languages_named() -> None:
    assert shown("\u200b" * 1400) == '<b class="unseen">U+200B × 1,400</b>'
    assert shown("\U000e0049") == '<b class="unseen">U+E0049</b>'
    assert shown("👩\u200d💻❤\ufe0f\u200d🔥") == "👩\u200d💻❤\ufe0f\u200d🔥"
    assert shown("a\u200d💻") == 'a<b class="unseen">U+200D</b>💻'
    assert shown("a\x00\u202eb") == 'a<b class="unseen">U+0000</b><b class="unseen">U+202E</b>b'
    assert shown("a\tb\nc <i>") == "a\tb\nc &lt;i&gt;"
    assert [language(text) for text in ("汉字", "かな漢字", "한국어", "plain")] == ["zh", "ja", "ko", ""]
