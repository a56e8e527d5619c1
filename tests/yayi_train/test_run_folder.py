from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from yayi_data.errors import YayiError
from yayi_train.data import Layout
from yayi_train.flags import Flags
from yayi_train.resolve import resolve
from yayi_train.run_folder import (
    RunFile,
    layout_for,
    lock_of,
    read_run,
    refuse_foreign,
    refuse_other_base,
    refuse_other_run,
    remove_run,
    take,
)

CONFIG = resolve(
    Flags(data_path="d", input_model="m", local_output_dir=Path("o"), per_device_train_batch_size=4)
)


def run(**changes) -> RunFile:
    return replace(RunFile(CONFIG, "/data", "digest", 8, 100, {"torch": "2"}), **changes)


def test_a_run_reads_back_as_it_was_written(tmp_path):
    made = run(epoch_steps=[9, 10])
    made.begin(0, Layout(2, 4, 1))
    made.write(tmp_path)
    assert read_run(tmp_path) == made
    assert read_run(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"config": {}}'])
def test_a_run_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(YayiError, match=r"run\.json|config: "):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"global_rows": "8"}, {"total_steps": None}, {"data": 3}, {"starts": {}}, {"starts": [{}]},
        {"starts": ["x"]}, {"base": None}, {"epoch_steps": ["9"]}, {"config": []},
    ],
)  # fmt: skip
def test_a_run_file_with_other_types_is_refused_in_a_sentence(tmp_path, changes):
    run().write(tmp_path)
    file = tmp_path / "run.json"
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | changes))
    with pytest.raises(YayiError, match=r"run\.json|config: "):
        read_run(tmp_path)


def test_every_step_knows_the_layout_it_ran_under():
    made = run()
    made.begin(0, Layout(2, 4, 1))
    made.begin(40, Layout(1, 4, 2))
    assert made.layout(40) == Layout(2, 4, 1)
    assert made.layout(41) == Layout(1, 4, 2)
    made.begin(20, Layout(4, 2, 1))
    assert made.layout(20) == Layout(2, 4, 1)
    assert made.layout(41) == Layout(4, 2, 1)
    assert len(made.starts) == 2


@pytest.mark.parametrize(
    ("world", "expected"),
    [(1, Layout(1, 4, 2)), (2, Layout(2, 4, 1)), (4, Layout(4, 2, 1)), (8, Layout(8, 1, 1))],
)
def test_the_global_batch_stays_whatever_the_number_of_ranks(world, expected):
    assert layout_for(Path("o"), run(), CONFIG, world) == expected


def test_ranks_that_cannot_share_it_are_refused_with_the_numbers():
    with pytest.raises(YayiError, match="have 8 rows, which 3 processes cannot share"):
        layout_for(Path("o"), run(), CONFIG, 3)


def test_another_configuration_or_other_data_is_another_run():
    refuse_other_run(Path("o"), run(), CONFIG, "digest")
    other = replace(CONFIG, run=replace(CONFIG.run, seed=1))
    with pytest.raises(YayiError, match="holds another run: run/seed was 515, is 1; choose another"):
        refuse_other_run(Path("o"), run(), other, "digest")
    with pytest.raises(YayiError, match=r"the data was digest \(/data\), is other"):
        refuse_other_run(Path("o"), run(), CONFIG, "other")


def test_another_base_model_in_the_same_place_is_refused():
    refuse_other_base(Path("o"), run(), "first")
    refuse_other_base(Path("o"), run(base="first"), "first")
    with pytest.raises(YayiError, match=r"the model in m is another .*it was first, is second.*--no-resume"):
        refuse_other_base(Path("o"), run(base="first"), "second")


def test_a_folder_with_other_things_in_it_is_not_written_into(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(YayiError, match=r"holds thesis\.tex and no run\.json"):
        refuse_foreign(tmp_path)
    with pytest.raises(YayiError, match="is a file"):
        refuse_foreign(tmp_path / "thesis.tex")
    refuse_foreign(tmp_path / "new")


def test_what_a_killed_start_left_before_run_json_is_not_foreign(tmp_path):
    for name in ("data", "run.lock", "run.json.12-ab.tmp"):
        (tmp_path / name).touch()
    refuse_foreign(tmp_path)


def test_a_folder_has_one_start_at_a_time(tmp_path):
    first = lock_of(tmp_path)
    take(first, tmp_path)
    with pytest.raises(YayiError, match="another start of this run is at work"):
        take(lock_of(tmp_path), tmp_path)
    first.release()
    take(lock_of(tmp_path), tmp_path)


def test_replacing_a_run_leaves_what_is_not_its_own(tmp_path):
    run().write(tmp_path)
    for name in ("checkpoint-2/state", "runs", "final", "data/abc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    remove_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "notes.txt"]
