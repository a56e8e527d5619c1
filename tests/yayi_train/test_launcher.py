import os

import psutil
import pytest

from yayi_train.launcher import Launcher, find_launcher, has_gone, is_launcher

LAUNCHER = Launcher(parent=20, runner=10)


@pytest.mark.parametrize(
    ("parents", "gone"),
    [
        ({os.getpid(): 20, 20: 10}, False),
        ({os.getpid(): 20, 20: 1}, True),
        ({os.getpid(): 1, 20: 10}, True),
        ({os.getpid(): 1}, True),
    ],
    ids=["all there", "no runner", "no launcher", "neither"],
)
def test_a_launcher_has_gone_when_it_or_its_runner_has(parents, gone):
    assert has_gone(LAUNCHER, parents.get) is gone


def test_this_process_sees_its_own_parents():
    mine = Launcher(os.getppid(), psutil.Process(os.getppid()).ppid())
    assert not has_gone(mine)
    assert has_gone(mine._replace(runner=mine.runner + 1))


def test_only_deepspeeds_launcher_is_one():
    assert is_launcher(["/usr/bin/python", "-u", "-m", "deepspeed.launcher.launch", "--world_info=e30="])
    assert not is_launcher(["/usr/bin/python", "-m", "torch.distributed.run"])
    assert find_launcher() is None
