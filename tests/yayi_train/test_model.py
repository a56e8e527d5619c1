"""Models load from safetensors alone, whole or not at all, and are saved so that anyone loads them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer
from yayi_train.model import fingerprint, load_base, model_folder, read_config, save_final
from yayi_train.skeleton import skeleton

WEIGHTS = "model.safetensors"


@pytest.fixture
def base(make_random_model, tmp_path):
    make_random_model("llama").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


class TestFingerprint:
    """`fingerprint`: what tells a model from another one in the same place."""

    def test_it_is_the_same_for_a_copy(self, base, tmp_path):
        assert fingerprint(base) == fingerprint(shutil.copytree(base, tmp_path / "copy"))

    @pytest.mark.parametrize("file", ["config.json", WEIGHTS])
    def test_any_byte_of_a_small_model_changes_it(self, base, file):
        before = fingerprint(base)
        content = bytearray((base / file).read_bytes())
        for place in (0, len(content) // 2, len(content) - 1):
            content[place] ^= 1
            (base / file).write_bytes(content)
            assert fingerprint(base) != before
            content[place] ^= 1

    def test_of_a_large_file_the_beginning_the_end_and_much_between_count(self, base, tmp_path):
        before = set()
        for start in (0, 2**20, 2**26 - 2**20):
            weights = bytearray(2**26)
            weights[start : start + 2**21] = b"x" * len(weights[start : start + 2**21])
            (base / WEIGHTS).write_bytes(weights)
            before.add(fingerprint(base))
        assert len(before) == 3


class TestFolder:
    """`model_folder` and `read_config`, given what is nearly right."""

    def test_of_a_runs_folder_it_names_the_model_in_it(self, tmp_path):
        (tmp_path / "final").mkdir()
        with pytest.raises(YayiError, match=rf"give a model's folder \({tmp_path}/final is one\)"):
            model_folder(str(tmp_path))

    def test_an_adapter_in_a_models_place_is_told_what_makes_it_one(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(YayiError, match="is an adapter; `yayi-train merge` makes a model"):
            read_config(model_folder(str(tmp_path)))


class TestLoad:
    """`load_base` and the folder it is given."""

    def test_weights_are_those_of_the_file_in_the_type_asked_for(self, base):
        model = load_base(base, torch.bfloat16)
        expected = load_file(base / WEIGHTS)["lm_head.weight"].to(torch.bfloat16)
        assert torch.equal(model.lm_head.weight, expected)

    def test_a_config_without_weights_gives_the_same_random_ones_and_says_so(self, base, capsys):
        (base / WEIGHTS).unlink()
        torch.manual_seed(5)
        first = load_base(base, torch.float32)
        assert "starting from random ones" in capsys.readouterr().err
        assert torch.equal(first.lm_head.weight, load_base(base, torch.float32).lm_head.weight)

    def test_weights_of_which_only_the_list_is_there_are_refused(self, base):
        (base / WEIGHTS).unlink()
        shards = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
        (base / "model.safetensors.index.json").write_text(json.dumps(shards))
        with pytest.raises(YayiError, match=r"its weights cannot be read, .*model-00001-of-00002"):
            load_base(base, torch.float32)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
    def test_pickled_weights_are_refused(self, base, name):
        (base / WEIGHTS).rename(base / name)
        with pytest.raises(
            YayiError, match=rf"its weights are a pickle \({name}\).*convert them to safetensors"
        ):
            load_base(base, torch.float32)

    def test_a_pickle_beside_safetensors_is_not_read(self, base):
        (base / "pytorch_model.bin").write_bytes(b"not a pickle at all")
        load_base(base, torch.float32)

    def test_weights_that_leave_something_out_are_refused(self, base):
        weights = load_file(base / WEIGHTS)
        del weights["model.norm.weight"]
        save_file(weights, base / WEIGHTS, {"format": "pt"})
        with pytest.raises(YayiError, match=r"1 parameters are missing .*model\.norm\.weight"):
            load_base(base, torch.float32)

    def test_cut_weights_are_refused(self, base):
        content = (base / WEIGHTS).read_bytes()
        (base / WEIGHTS).write_bytes(content[: len(content) // 2])
        with pytest.raises(YayiError, match="its weights cannot be read, copy them again"):
            load_base(base, torch.float32)

    @pytest.mark.parametrize("read", [lambda folder: load_base(folder, torch.float32), skeleton])
    def test_code_of_the_folder_does_not_run(self, base, tmp_path, monkeypatch, read):
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        config = json.loads((base / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "c.C", "AutoModelForCausalLM": "c.M"}
        (base / "config.json").write_text(json.dumps(config | {"model_type": "foreign"}))
        (base / "c.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(YayiError, match=r"cannot read its config\.json"):
            read(base)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("place", ["missing", "/nowhere/at/all", "./a/b"])
    def test_a_folder_that_is_not_there_is_named(self, place):
        with pytest.raises(YayiError, match=rf"{place}: no config\.json there"):
            model_folder(place)


class TestSave:
    """`save_final`."""

    @pytest.fixture
    def tokenizer(self, byte_level, tmp_path):
        (tmp_path / "tokenizer").mkdir()
        load_tokenizer(str(byte_level), load_template("yayi"), "reference").write(tmp_path / "tokenizer")
        return tmp_path / "tokenizer"

    @pytest.fixture
    def final(self, make_random_model, tokenizer, tmp_path):
        (tmp_path / "final").mkdir()
        save_final(make_random_model("llama"), tmp_path / "final", tokenizer)
        return tmp_path / "final"

    def test_plain_transformers_loads_it(self, final, tokenizer, make_random_model):
        saved = AutoModelForCausalLM.from_pretrained(final).state_dict()
        for name, weight in make_random_model("llama").state_dict().items():
            assert torch.equal(saved[name], weight)
        assert AutoTokenizer.from_pretrained(final).eos_token == "<|End|>"

    def test_tokenizer_files_are_copied_byte_for_byte(self, final, tokenizer):
        for file in tokenizer.iterdir():
            assert (final / file.name).read_bytes() == file.read_bytes()

    def test_generation_settings_are_the_repositorys(self, final):
        settings = GenerationConfig.from_pretrained(final)
        ids = AutoTokenizer.from_pretrained(final)
        assert settings.pad_token_id == settings.eos_token_id[0] == ids.convert_tokens_to_ids("<|End|>")
        assert settings.do_sample
        assert (settings.temperature, settings.repetition_penalty) == (0.3, 1.1)
        assert settings.max_new_tokens == 100
