"""Raw files of a run become a packed folder, once, and what did not come along is told."""

import json
from pathlib import Path

import pytest

from yayi_data.manifest import load
from yayi_train.flags import Flags
from yayi_train.raw_data import _fingerprint, packed_folder
from yayi_train.resolve import resolve


@pytest.fixture
def packing(make_model, tmp_path):
    """Return what packs two raw records, one long, for a run with some flags, and gives the packed folder."""
    source = tmp_path / "raw.json"
    source.write_text("".join(json.dumps({"instruction": "q", "output": "a" * n}) + "\n" for n in (1, 200)))
    base = make_model(tmp_path / "base")

    def pack(**flags: object) -> Path:
        output = tmp_path / "out"
        given = Flags(data_path=str(source), input_model=str(base), local_output_dir=output, **flags)
        return packed_folder(resolve(given), output)

    return pack


def test_records_that_are_dropped_are_told_with_the_place_of_their_list(packing, capsys):
    folder = packing(seq_len=100)
    assert load(folder).rows == 1
    told = capsys.readouterr().err
    assert f"dropped 1 of 2 records (too-long 1); {folder}/dropped.jsonl has the line of each" in told
    assert "more than 100 tokens" in told


def test_what_else_is_in_the_current_folder_is_no_part_of_it(packing, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first = packing()
    (tmp_path / "log.txt").write_text("another rank, another start")
    (tmp_path / "yayi").mkdir()  # as the template is called
    assert packing() == first
    assert capsys.readouterr().err.count("packing ") == 1


def test_another_model_is_another_packing(make_model, tmp_path):
    source = tmp_path / "raw.json"
    source.touch()
    names = [
        _fingerprint(resolve(Flags(data_path=str(source), input_model=model, local_output_dir=tmp_path)))
        for model in ("hub/one", "hub/two", str(make_model(tmp_path / "base")))
    ]
    assert len(set(names)) == 3


def test_a_changed_file_of_domains_or_of_a_template_is_another_packing(packing, tmp_path):
    domains = tmp_path / "domains.toml"
    domains.write_text("")
    first = packing(domains=domains)
    domains.write_text("\n")
    assert packing(domains=domains) != first


def test_the_same_data_and_options_are_packed_once(packing, capsys):
    first = packing()
    assert capsys.readouterr().err.count("packing ") == 1
    assert packing() == first
    assert packing(train_on="last") != first
    assert capsys.readouterr().err.count("packing ") == 1
