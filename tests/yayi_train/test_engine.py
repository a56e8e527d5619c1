import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yayi_data.errors import YayiError
from yayi_train import engine
from yayi_train.config import OptimizerConfig
from yayi_train.engine import rate_factor


def optimizer(scheduler: str, warmup: int) -> OptimizerConfig:
    return OptimizerConfig(1e-3, [0.9, 0.999], 1e-8, 0.0, scheduler, warmup, 1.0)


@given(
    scheduler=st.sampled_from(["linear", "cosine", "constant"]),
    warmup=st.integers(0, 50),
    total=st.integers(1, 100),
)
def test_no_step_of_a_run_is_spent_at_a_rate_of_zero_nor_above_the_highest(scheduler, warmup, total):
    factors = [rate_factor(done, optimizer(scheduler, warmup), total) for done in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    if warmup < total:
        assert max(factors) == 1


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("cosine", [0.5, 1, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_the_rate_warms_up_linearly_and_then_follows_its_scheduler(scheduler, expected):
    factors = [rate_factor(done, optimizer(scheduler, 2), 6) for done in range(6)]
    assert factors == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def starting(monkeypatch):
    """Return what builds an engine of which DeepSpeed raises an error."""

    def build(error: Exception) -> None:
        def initialize(**_: object) -> None:
            raise error

        monkeypatch.setattr(engine, "import_deepspeed", lambda: SimpleNamespace(initialize=initialize))
        monkeypatch.setattr(engine, "_optimizer", lambda *_: None)
        monkeypatch.setattr(engine, "deepspeed_config", lambda *_, **__: {})
        engine.build_engine(torch.nn.Linear(1, 1), SimpleNamespace(), None, 5, universal=False)

    return build


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("unsupported mix"),
        ModuleNotFoundError("No module named 'wandb'"),
        ValueError("1 validation error\n  enabled"),
        RuntimeError("Unable to JIT load the async_io op"),
    ],
)
def test_a_config_that_deepspeed_does_not_start_with_is_one_sentence(starting, error):
    said = re.escape(" ".join(str(error).split()))
    with pytest.raises(YayiError, match=f"^--deepspeed: .*{type(error).__name__}: {said}.*--debug$"):
        starting(error)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no memory"), RuntimeError("gloo: Connection reset by peer")]
)
def test_what_is_no_fault_of_the_config_is_left_as_it_is(starting, error):
    with pytest.raises(type(error), match=str(error)):
        starting(error)
