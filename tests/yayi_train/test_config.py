from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from yayi_data.errors import YayiError
from yayi_train.config import from_dict, same_run
from yayi_train.flags import Flags
from yayi_train.resolve import resolve


def config(**flags):
    return resolve(Flags(**{"data_path": "d", "input_model": "m", "local_output_dir": Path("o")} | flags))


def test_a_saved_config_reads_back_equal():
    made = config(lora_dim=8, lora_module_name="q_proj, v_proj", mix="general=0.5,媒体宣传=2", bf16=True)
    assert from_dict(orjson.loads(orjson.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("place", [(), ("data",), ("optimizer",)])
def test_an_unknown_key_is_an_error_that_names_it(place):
    values = config().to_dict()
    organ = values
    for name in place:
        organ = organ[name]
    organ["shiny"] = 1
    with pytest.raises(YayiError, match="/".join([*place, "shiny"]) + " is unknown"):
        from_dict(values)


def test_a_missing_key_is_an_error_that_names_it():
    values = config().to_dict()
    del values["run"]["seed"]
    with pytest.raises(YayiError, match="run/seed is missing"):
        from_dict(values)


@pytest.mark.parametrize(
    "changed",
    [{"lr": 1.0}, {"seed": 1}, {"seq_len": 64}, {"bf16": True}, {"lora_dim": 4},
     {"test_size": 3}, {"epochs": 2}, {"train_on_domains": "a"}],
)  # fmt: skip
def test_what_changes_the_numbers_makes_another_run(changed):
    differences = same_run(config(), config(**changed))
    assert differences
    assert all(" was " in line and ", is " in line for line in differences)


@pytest.mark.parametrize(
    "changed",
    [{"save_steps": 5}, {"logging_steps": 9}, {"eval_steps": 2}, {"save_total_limit": 1},
     {"per_device_train_batch_size": 3}, {"gradient_accumulation_steps": 2}],
)  # fmt: skip
def test_what_sets_the_pace_continues_the_run(changed):
    assert same_run(config(), config(**changed)) == []


def test_keeping_the_best_continues_the_run():
    assert same_run(config(test_size=5), config(test_size=5, keep_best=True)) == []


def test_turning_lora_on_or_off_is_another_run():
    assert same_run(config(), config(lora_dim=4))
    assert same_run(config(lora_dim=4), config())
    assert same_run(replace(config(lora_dim=4)), config(lora_dim=4)) == []
