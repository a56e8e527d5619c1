"""What the commands print: JSON that a program reads back, and that no terminal obeys."""

import json
import sys

import pytest

from yayi_train import cli
from yayi_train.generate import Reply
from yayi_train.score import Score

HOSTILE = "a\x1b[2J\x9b\u202eb\x7f😀\U000e0041"


@pytest.fixture
def printed(monkeypatch, capsys):
    """Return what runs a command line in this process and gives what it printed."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["yayi-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def is_harmless(text: str) -> bool:
    return not set("\x1b\x9b\u202e\x7f\U000e0041") & set(text)


def test_evaluate_prints_domains_without_raw_controls(printed, monkeypatch):
    found = Score(0.5, {HOSTILE: 0.5}, 3)
    monkeypatch.setattr("yayi_train.score.score", lambda *_: found)
    said = printed("evaluate", "m", "--data-path", "d", "--json")
    assert is_harmless(said)
    assert json.loads(said) == {
        "eval_loss": 0.5,
        "eval_loss_by_domain": {HOSTILE: 0.5},
        "supervised_tokens": 3,
    }
    assert is_harmless(printed("evaluate", "m", "--data-path", "d"))


def test_trace_prints_paths_without_raw_controls(printed, monkeypatch):
    place = {"path": HOSTILE, "line": 1, "record": 0}
    found = {"step": 1, "epoch": 0, "world_size": 1, "ranks": [{"rank": 0, "passes": [[[place]]]}]}
    monkeypatch.setattr("yayi_train.trace.trace", lambda *_: found)
    said = printed("trace", "out", "--step", 1, "--json")
    assert is_harmless(said)
    assert json.loads(said) == found
    assert is_harmless(printed("trace", "out", "--step", 1))


def test_generate_prints_replies_without_raw_controls(printed, monkeypatch):
    said = Reply(HOSTILE, ended=True, prompt_tokens=2, new_tokens=1)
    monkeypatch.setattr("yayi_train.generate.load_speaker", lambda *_, **__: None)
    monkeypatch.setattr("yayi_train.generate.answer", lambda *_: said)
    line = printed("generate", "m", "--prompt", "q", "--json")
    assert is_harmless(line)
    assert json.loads(line)["reply"] == HOSTILE
    assert line.count("\n") == 1
