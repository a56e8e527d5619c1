from pathlib import Path
from types import SimpleNamespace

import pytest

from yayi_data.errors import YayiError
from yayi_train import agreement
from yayi_train.data import Layout
from yayi_train.flags import Flags
from yayi_train.resolve import resolve
from yayi_train.run_folder import RunFile


@pytest.fixture
def second_rank(monkeypatch):
    """Make this process rank 1 of two, whose rank 0 has left its token."""
    monkeypatch.setattr(agreement, "rank", lambda: 1)
    monkeypatch.setattr(agreement, "first_decides", lambda decide: "run.0.tmp")
    monkeypatch.setattr(agreement, "agree", lambda value: ["sees", value])
    monkeypatch.setattr(agreement.dist, "barrier", lambda: None)


@pytest.mark.usefixtures("second_rank")
def test_a_rank_that_misses_what_rank_0_left_has_another_folder(tmp_path):
    with pytest.raises(YayiError, match="rank 1 sees another folder there than rank 0"):
        agreement.refuse_unshared(tmp_path)
    (tmp_path / "run.0.tmp").touch()
    agreement.refuse_unshared(tmp_path)


def start(model: str = "m", digest: str = "d", base: str = "b", rows: int = 8, **flags: object):
    given = Flags(data_path="p", input_model=model, local_output_dir=Path("o"), **flags)
    file = RunFile(resolve(given), "p", digest, 16, 100, {}, base)
    return SimpleNamespace(file=file, config=file.config, layout=Layout(2, rows, 1))


@pytest.fixture
def joined_by(monkeypatch):
    """Return what lets a start as rank 0 meet another as rank 1."""

    def join(other) -> None:
        theirs = agreement._facts(other)
        monkeypatch.setattr(agreement, "agree", lambda ours: [ours, theirs])
        agreement.refuse_differences(start())

    return join


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "other"}, "rank 1 has data 'other'; rank 0 has 'd'"),
        ({"base": "other"}, "rank 1 has base model 'other'; rank 0 has 'b'"),
        ({"rows": 4}, "rank 1 has rows 4; rank 0 has 8"),
        ({"lr": 1e-3}, "rank 1 has optimizer/lr 0.001; rank 0 has 5e-06"),
        ({"seed": 1}, "rank 1 has run/seed 1; rank 0 has 515"),
        ({"lora_dim": 4}, "rank 1 has lora/alpha 32.*; rank 0 has None"),
        ({"mix": "general=2"}, "rank 1 has data/mix/general 2.0; rank 0 has None"),
        ({"bf16": True}, "rank 1 has model/precision 'bf16'; rank 0 has 'fp32'"),
    ],
)
def test_ranks_that_differ_in_what_decides_the_numbers_are_refused(joined_by, change, said):
    with pytest.raises(YayiError, match=said):
        joined_by(start(**change))


def test_a_node_may_keep_the_model_elsewhere_and_go_at_its_own_pace(joined_by):
    joined_by(start(model="/local/m", save_steps=7))
