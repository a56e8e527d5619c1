"""A base becomes a model that knows a template, in one new folder or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from yayi_data.errors import YayiError
from yayi_train.prepare import prepare
from yayi_train.vocabulary import Vocabulary, written_vocabulary

CONTROL = ["<|System|>", "<|Human|>", "<|YaYi|>", "<|End|>"]


@pytest.fixture
def base(make_random_model, byte_level, tmp_path):
    """A base with weights and a tokenizer, without control tokens."""
    folder = tmp_path / "base"
    size = len(json.loads((byte_level / "tokenizer.json").read_text())["model"]["vocab"])
    make_random_model("llama", vocab_size=size).to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((byte_level / "tokenizer.json").read_bytes())
    return folder


def test_the_folder_one_is_in_may_be_the_output(make_model, tmp_path, monkeypatch):
    base = make_model(tmp_path / "base")
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    prepare(str(base), "yayi", Path())
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_control_tokens_come_last_and_in_order(base, tmp_path):
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    found = prepare(str(base), "yayi", tmp_path / "out")
    new = [size, size + 1, size + 2, size + 3]
    assert found == Vocabulary(size + 4, new, new)
    assert written_vocabulary(tmp_path / "out") == Vocabulary(size + 4, new, [])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(CONTROL) == found.new_ids
    assert tokenizer.chat_template


def test_old_weights_stay_as_they_were(base, tmp_path):
    prepare(str(base), "yayi", tmp_path / "out")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert after[name].dtype == torch.bfloat16
        assert torch.equal(after[name][: len(weight)], weight)


def test_a_prepared_model_is_prepared_already(base, tmp_path):
    first = prepare(str(base), "yayi", tmp_path / "one")
    again = prepare(str(tmp_path / "one"), "yayi", tmp_path / "two")
    assert again == replace(first, missing=[])
    one, two = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert written_vocabulary(tmp_path / "two").new_ids == first.new_ids


def test_a_config_without_weights_starts_from_random_ones(base, tmp_path, capsys):
    (base / "model.safetensors").unlink()
    prepare(str(base), "yayi", tmp_path / "out")
    assert "starting from random ones" in capsys.readouterr().err
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


class TestVocab:
    """`--vocab FILE`."""

    def test_its_tokens_come_before_the_control_tokens_and_are_found_in_text(self, base, tmp_path):
        (tmp_path / "words").write_text("雅意大模型\n\n中科闻歌\r\n雅意大模型\n", encoding="utf-8")
        found = prepare(str(base), "yayi", tmp_path / "out", tmp_path / "words")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
        assert tokenizer.convert_tokens_to_ids(["雅意大模型", "中科闻歌", *CONTROL]) == found.new_ids
        assert (
            tokenizer("我是雅意大模型。", add_special_tokens=False)["input_ids"].count(found.new_ids[0]) == 1
        )
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight.shape[0] == found.size

    def test_a_token_that_is_there_already_is_not_added(self, base, tmp_path):
        (tmp_path / "words").write_text("a\n</s>\n")
        assert len(prepare(str(base), "yayi", tmp_path / "out", tmp_path / "words").new_ids) == 4

    @pytest.mark.parametrize(
        ("content", "told"),
        [(b"\n \n", "no tokens there; write one a line"), (b"\xff", "cannot read it as UTF-8")],
    )
    def test_a_useless_file_is_refused(self, base, tmp_path, content, told):
        (tmp_path / "words").write_bytes(content)
        with pytest.raises(YayiError, match=told):
            prepare(str(base), "yayi", tmp_path / "out", tmp_path / "words")


class TestRefusals:
    """What is wrong is told in one sentence, and nothing half-written stays."""

    def test_an_output_with_something_in_it(self, base, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").touch()
        with pytest.raises(YayiError, match="out exists: choose another --output"):
            prepare(str(base), "yayi", tmp_path / "out")

    def test_the_base_itself_as_output(self, base):
        with pytest.raises(YayiError, match="base exists"):
            prepare(str(base), "yayi", base)

    def test_a_base_without_tokenizer(self, base, tmp_path):
        (base / "tokenizer.json").unlink()
        with pytest.raises(YayiError, match=r"no tokenizer\.json there"):
            prepare(str(base), "yayi", tmp_path / "out")

    def test_a_failure_leaves_nothing(self, base, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("yayi_train.prepare.save_final", fail)
        with pytest.raises(YayiError, match="cannot write it: No space left on device"):
            prepare(str(base), "yayi", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["base"]
