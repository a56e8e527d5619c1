from pathlib import Path

import pytest

from yayi_data.errors import YayiError
from yayi_train.flags import Flags
from yayi_train.resolve import resolve


def config(**flags):
    return resolve(Flags(**{"data_path": "d", "input_model": "m", "local_output_dir": Path("o")} | flags))


@pytest.mark.parametrize(
    "text", ["general", "general=", "general=x", "=1", "general=-1", "general=inf", "a=1,b"]
)
def test_a_mix_that_is_none_is_refused(text):
    with pytest.raises(YayiError, match=r"--mix has .* expected NAME=WEIGHT"):
        config(mix=text)


def test_a_test_size_is_a_count_or_a_ratio():
    assert config(test_size=0.25).data.test_size == 0.25
    assert config(test_size=400).data.test_size == 400
    with pytest.raises(YayiError, match=r"--test-size is 1\.5"):
        config(test_size=1.5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"test_size": float("inf")}, "--test-size is inf"),
        ({"test_size": float("nan")}, "--test-size is nan"),
        ({"seed": 99999999999999999999}, "--seed is 99999999999999999999; expected 0 to 4294967295"),
        ({"data_path": ""}, "--data-path is empty"),
        ({"lr": float("inf")}, "--lr is inf; expected a finite number"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"weight_decay": float("inf")}, "--weight-decay is inf"),
        ({"lora_dim": 4, "lora_alpha": float("inf")}, "--lora-alpha is inf"),
        ({"lora_dim": 4, "lora_module_name": " ,"}, "--lora-module-name names no layer"),
        ({"lora_module_name": "q_proj"}, "--lora-module-name is given without --lora-dim"),
        ({"lora_module_name": "all-linear"}, "--lora-module-name is given without --lora-dim"),
        ({"lora_alpha": 32.0}, "--lora-alpha is given without --lora-dim"),
        ({"keep_best": True}, "--keep-best .* give --test-size"),
        ({"mix": "a=0.5,a=2"}, "--mix gives 'a' two weights"),
        ({"train_on_domains": ","}, "--train-on-domains names no domain"),
    ],
)
def test_a_flag_without_a_meaning_is_refused(flags, message):
    with pytest.raises(YayiError, match=message):
        config(**flags)
