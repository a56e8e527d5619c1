import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yayi_train.metrics import Log, Totals, cut_back


def test_the_total_is_the_domains_mean_weighted_by_their_tokens():
    totals = Totals(np.array([6.0, 1.0, 0.0]), np.array([3.0, 2.0, 0.0]), 9)
    assert totals.loss == pytest.approx(7 / 5)
    assert totals.by_domain(["a", "b", "c"]) == {"a": 2.0, "b": 0.5}


def test_totals_add_up_and_survive_json():
    totals = Totals.zero(2)
    totals.add(Totals(np.array([0.1, 0.2]), np.array([1.0, 2.0]), 5))
    totals.add(Totals(np.array([0.2, 0.1]), np.array([1.0, 0.0]), 2))
    back = Totals.from_dict(json.loads(json.dumps(totals.to_dict())))
    assert (back.losses.tolist(), back.supervised.tolist(), back.tokens) == (
        [0.1 + 0.2, 0.2 + 0.1],
        [2, 2],
        7,
    )


def test_no_supervised_token_is_a_loss_of_zero_not_an_error():
    assert Totals.zero(3).loss == 0.0
    assert Totals.zero(1).by_domain(["a"]) == {}


def test_metrics_are_cut_back_to_a_step_and_a_half_line_falls_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 2, 3)) + '{"step": 4, "lo')
    cut_back(tmp_path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2]


def test_damaged_lines_are_dropped_and_told(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\n\0\0\n[1]\n{"step":"2"}\n{}\n{"step":2}\n')
    cut_back(tmp_path, 2)
    assert path.read_bytes() == b'{"step":1}\n{"step":2}\n'
    assert "metrics.jsonl:2 is no line of a run; dropped, 4 such in all" in capsys.readouterr().err


def line(step: int, loss: float) -> dict:
    return {"step": step, "epoch": 1.0, "loss": loss, "lr": 1e-3, "grad_norm": None, "tokens": 1,
            "supervised_tokens": 1, "tokens_per_second": 1.0, "loss_by_domain": {"媒体": loss}}  # fmt: skip


def test_a_second_log_replaces_what_the_first_wrote_after_its_step(tmp_path, capsys):
    first = Log(tmp_path, 0, 5)
    for step in (1, 2, 3):
        first.line(line(step, 9.0))
    first.close()
    second = Log(tmp_path, 1, 5)
    second.line(line(2, 7.0))
    second.line({"step": 2, "eval_loss": 6.0, "eval_loss_by_domain": {}})
    second.close()
    kept = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry.get("loss")) for entry in kept] == [(1, 9.0), (2, 7.0), (2, None)]
    board = EventAccumulator(str(tmp_path / "runs")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 9.0), (2, 7.0)]
    assert [event.value for event in board.Scalars("loss_by_domain/媒体")] == [9.0, 7.0]
    assert "step 2/5  eval loss 6.0000" in capsys.readouterr().err


def test_a_long_run_into_a_file_says_little(tmp_path, capsys):
    log = Log(tmp_path, 0, 1000)
    for step in range(1, 1001):
        log.line(line(step, 1.0))
    log.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) <= 22
    assert said[0].startswith("step 1/1000")
    assert said[-1].startswith("step 1000/1000")
