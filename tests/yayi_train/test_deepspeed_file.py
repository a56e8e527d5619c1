"""The user's DeepSpeed config: every "auto" resolved, every conflict and every unknown key named."""

import json
from pathlib import Path

import pytest

from yayi_data.errors import YayiError
from yayi_train.deepspeed_file import WORDS
from yayi_train.engine import refuse_unsupported
from yayi_train.flags import Flags
from yayi_train.resolve import resolve

CONFIGS = Path(__file__).parents[2] / "configs"


def config(deepspeed, **flags):
    return resolve(
        Flags(data_path="d", input_model="m", local_output_dir=Path("o"), deepspeed=str(deepspeed), **flags)
    )


@pytest.fixture
def file(tmp_path):
    def write(values: object) -> Path:
        path = tmp_path / "ds.json"
        path.write_text(json.dumps(values))
        return path

    return write


HF_STYLE = {
    "bf16": {"enabled": "auto"},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"},
    },
    "zero_optimization": {
        "stage": 3,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "steps_per_print": 2000,
    "wall_clock_breakdown": False,
}


def test_every_auto_is_resolved_from_the_flags(file):
    found = config(
        file(HF_STYLE), lr=1e-4, bf16=True, warmup_steps=7, weight_decay=0.1, per_device_train_batch_size=3,
        gradient_accumulation_steps=5,
    )  # fmt: skip
    assert (found.optimizer.lr, found.optimizer.weight_decay, found.optimizer.warmup_steps) == (1e-4, 0.1, 7)
    assert (found.optimizer.betas, found.optimizer.eps) == ([0.9, 0.999], 1e-8)
    assert found.optimizer.gradient_clipping == 1.0
    assert found.optimizer.scheduler == "constant"
    assert found.model.precision == "bf16"
    assert (found.batch.train_rows, found.batch.accumulation) == (3, 5)
    assert "auto" not in json.dumps(found.to_dict())
    assert found.deepspeed["zero_optimization"] == {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
    }


def test_a_value_of_the_file_holds_where_no_flag_is_given(file):
    values = {"optimizer": {"type": "AdamW", "params": {"lr": 3e-4}}, "gradient_clipping": 0.5}
    found = config(file(values))
    assert (found.optimizer.lr, found.optimizer.gradient_clipping) == (3e-4, 0.5)


@pytest.mark.parametrize(
    ("values", "flags", "message"),
    [
        (
            {"optimizer": {"params": {"lr": 1e-4}}},
            {"lr": 2e-4},
            "optimizer/params/lr is 0.0001 but --lr is 0.0002",
        ),
        ({"bf16": {"enabled": True}}, {"bf16": False}, "bf16/enabled is True but --bf16 is False"),
        (
            {"scheduler": {"type": "WarmupLR"}},
            {"scheduler": "cosine"},
            "is 'constant' but --scheduler is 'cosine'",
        ),
        (
            {"train_micro_batch_size_per_gpu": 4},
            {"per_device_train_batch_size": 8},
            "_per_gpu is 4 but --per-device",
        ),
        (
            {"gradient_accumulation_steps": 4},
            {"gradient_accumulation_steps": 2},
            "is 4 but --gradient-accumulation",
        ),
        (
            {"train_batch_size": 9},
            {"per_device_train_batch_size": 2},
            "train_batch_size is 9, but 2 rows x 1",
        ),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1}}},
            {},
            "warmup_max_lr is 1; expected",
        ),
        (
            {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 9}}},
            {},
            "total_num_steps is 9",
        ),
    ],
)
def test_a_conflict_is_reported_by_name(file, values, flags, message):
    with pytest.raises(YayiError, match=message):
        config(file(values), **flags)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zero_optimisation": {"stage": 2}}, "no key 'zero_optimisation'"),
        ({"optimizer": {"type": "Lamb"}}, "optimizer/type is 'Lamb'"),
        ({"optimizer": {"type": "AdamW", "params": {"betta": 1}}}, "optimizer/params/betta is not known"),
        ({"prescale_gradients": True}, "prescale_gradients is not supported"),
        ({"scheduler": {"type": "OneCycle"}}, "scheduler/type is 'OneCycle'"),
        ({"curriculum_learning": {"enabled": True}}, "curriculum_learning is not supported"),
        ({"zero_optimization": {"stage": 4}}, "stage is 4"),
        (
            {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
            "offload_param needs stage 3",
        ),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "fp16 and bf16 are both on"),
        ({"steps_per_print": "auto"}, 'steps_per_print is "auto", which no flag decides'),
        ([], "expected a JSON object"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(file, values, message):
    with pytest.raises(YayiError, match=message):
        config(file(values))


def nested(pointer: str, value: object) -> dict:
    for key in reversed(pointer.split("/")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("pointer", "value", "expected"),
    [
        ("optimizer", "AdamW", "an object"),
        ("optimizer", None, "an object"),
        ("scheduler", "cosine", "an object"),
        ("tensorboard", True, "an object"),
        ("fp16", True, "an object"),
        ("bf16", True, "an object"),
        ("zero_optimization", [], "an object"),
        ("zero_optimization", 3, "an object"),
        ("zero_optimization", "auto", "an object"),
        ("zero_optimization/stage", True, "a whole number"),
        ("zero_optimization/stage", 2.0, "a whole number"),
        ("zero_optimization/offload_optimizer", True, "an object or null"),
        ("bf16/enabled", "yes", "true or false"),
        ("fp16/loss_scale", -1, "a number of 0 or more"),
        ("optimizer/params", [], "an object"),
        ("optimizer/params/lr", -1, "a number of 0 or more"),
        ("optimizer/params/lr", "1e-4", "a number of 0 or more"),
        ("optimizer/params/lr", True, "a number of 0 or more"),
        ("optimizer/params/betas", 0.9, "two numbers from 0 to below 1"),
        ("optimizer/params/betas", ["a", "b"], "two numbers from 0 to below 1"),
        ("optimizer/params/betas", [0.9, 1.0], "two numbers from 0 to below 1"),
        ("optimizer/params/adam_w_mode", False, "true"),
        ("train_batch_size", 0, "a whole number of 1 or more"),
        ("train_batch_size", "x", "a whole number of 1 or more"),
        ("train_micro_batch_size_per_gpu", 0, "a whole number of 1 or more"),
        ("train_micro_batch_size_per_gpu", "8", "a whole number of 1 or more"),
        ("gradient_accumulation_steps", 0, "a whole number of 1 or more"),
        ("gradient_accumulation_steps", -2, "a whole number of 1 or more"),
        ("gradient_clipping", "abc", "a number of 0 or more"),
        ("gradient_clipping", -1, "a number of 0 or more"),
        ("scheduler/params/warmup_num_steps", 1.5, "a whole number of 0 or more"),
        ("scheduler/params/warmup_type", "log", "'linear'"),
        ("scheduler/params/warmup_min_ratio", 0.1, "0 or"),
        ("scheduler/params/cos_min_ratio", 0.1, "0 or"),
        ("bf16/enable", True, "enabled"),
        ("fp16/enable", True, "auto_cast, "),
        ("optimizer/parms", {}, "params, type"),
        ("scheduler/params/cycle", 1, "cos_min_ratio"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(file, pointer, value, expected):
    with pytest.raises(YayiError, match=f"{pointer} is .*; expected {expected}"):
        config(file(nested(pointer, value)))


@pytest.mark.parametrize(
    "values",
    [
        {"bf16": {}, "optimizer": {}, "scheduler": {}, "zero_optimization": {}},
        {"gradient_clipping": None, "optimizer": {"params": {"lr": 0, "betas": [0, 0.5]}}},
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "linear", "warmup_min_ratio": 0.0}}},
        {"zero_optimization": {"stage": 1, "offload_optimizer": None}},
    ],
)
def test_a_right_value_is_taken(file, values):
    assert config(file(values)).batch.train_rows == 8


def test_what_is_switched_off_may_stand_in_the_file(file):
    off = {"prescale_gradients": False, "gradient_predivide_factor": 1.0, "amp": {"enabled": False}}
    assert config(file(off)).zero_stage == 0


@pytest.mark.parametrize("key", ["writer", "checkpoint_serialization"])
def test_another_way_of_writing_checkpoints_is_refused(file, key):
    with pytest.raises(YayiError, match=f"checkpoint/{key} is not supported"):
        config(file({"checkpoint": {key: {}, "tag_validation": "Warn"}}))


def test_a_key_of_the_zero_section_that_deepspeed_lacks_is_refused(file):
    found = config(file({"zero_optimization": {"stage": 2, "stagee": 2}}))
    with pytest.raises(YayiError, match="zero_optimization/stagee: Extra inputs are not permitted"):
        refuse_unsupported(found)


def test_a_missing_file_says_what_else_may_be_given():
    with pytest.raises(YayiError, match=r"gone\.json: No such file .* zero0, zero1, zero2, zero3"):
        config("gone.json")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_a_stage(word):
    found = config(word)
    assert found.zero_stage == WORDS[word]
    assert found.model.precision == "fp32"


@pytest.mark.parametrize("stage", [2, 3])
def test_the_configs_that_we_ship_are_fine(stage):
    found = config(CONFIGS / f"deepspeed_zero{stage}_bf16.json", lr=1e-4, scheduler="cosine", warmup_steps=3)
    assert (found.zero_stage, found.model.precision) == (stage, "bf16")
    assert (found.optimizer.lr, found.optimizer.scheduler, found.optimizer.warmup_steps) == (
        1e-4,
        "cosine",
        3,
    )


def test_a_global_batch_of_the_file_decides_the_accumulation(file, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert config(file({"train_batch_size": 24}), per_device_train_batch_size=3).batch.accumulation == 4
