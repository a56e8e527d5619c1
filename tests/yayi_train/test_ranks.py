import os
import re

import pytest
import torch

from yayi_data.errors import YayiError
from yayi_train.engine import _choose_device
from yayi_train.ranks import complete_environment, rank

NAMES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
)


@pytest.fixture
def environment(monkeypatch):
    """Return what sets the launcher's variables to these alone."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what a test sets is undone too
        monkeypatch.delenv(name)
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_a_process_alone_is_the_only_rank(environment):
    environment(SLURM_NTASKS="1")
    complete_environment()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "1")


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "WORLD_SIZE"])
def test_one_of_several_without_a_rank_is_refused(environment, name):
    environment(**{name: "4"})
    with pytest.raises(YayiError, match=f"{name} is 4, but RANK or MASTER_ADDR is not set"):
        complete_environment()


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "x"), ("SLURM_NTASKS", "2(x3)")])
def test_what_is_no_number_is_refused_by_its_name(environment, name, value):
    environment(**{name: value})
    with pytest.raises(YayiError, match=rf"{name} is '{re.escape(value)}' in the environment; expected a"):
        complete_environment()


def test_a_rank_is_no_negative_number(environment):
    environment(RANK="-1")
    with pytest.raises(YayiError, match="RANK is '-1' in the environment"):
        rank()


def test_a_launchers_ranks_are_left_as_they_are(environment):
    environment(RANK="3", MASTER_ADDR="node1", WORLD_SIZE="4", SLURM_NTASKS="4")
    complete_environment()
    assert os.environ["RANK"] == "3"


@pytest.mark.parametrize(("count", "expected"), [(1, "0"), (4, "3")])
def test_the_only_gpu_in_sight_is_the_processes_own(environment, monkeypatch, count, expected):
    environment(LOCAL_RANK="3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    _choose_device()
    assert os.environ["LOCAL_RANK"] == expected


@pytest.mark.parametrize(("count", "named"), [(2, "0,1"), (1, "0,1,2,3")])
def test_a_process_without_a_gpu_is_refused(environment, monkeypatch, count, named):
    environment(LOCAL_RANK="3", CUDA_VISIBLE_DEVICES=named)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(YayiError, match=f"process 3 of this node has no GPU, there are {count}"):
        _choose_device()
