"""LoRA trains the new tokens' rows too; its adapters load in plain peft and merge into the same model."""

import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer
from yayi_train.attention import isolate
from yayi_train.batch import make_batch
from yayi_train.lora import CONFIG, WEIGHTS, inject, load_adapter, load_trained, merge, save_adapter
from yayi_train.loss import supervised_loss
from yayi_train.vocabulary import Vocabulary, grow_vocabulary

ALL = ["all-linear"]
NEW = Vocabulary(204, [200, 201, 202, 203], [200, 201, 202, 203])
IDS = torch.tensor([[200, 5, 6, 201, 7, 202, 8, 203]])


@pytest.fixture(scope="module")
def tokenizer(byte_level, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    load_tokenizer(str(byte_level), load_template("yayi"), "reference").write(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def tied(request):
    return request.param


@pytest.fixture
def base(make_random_model, architecture, tied, tmp_path):
    """The folder of a base whose vocabulary has not been grown."""
    make_random_model(architecture, tie_word_embeddings=tied).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapted(base, modules=ALL, vocabulary=NEW, dtype=torch.float32):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    grow_vocabulary(model, vocabulary)
    return inject(model, str(base), 4, 8, modules, vocabulary.new_ids)


def trained(base, **options):
    """An adapter whose every weight has moved."""
    model = adapted(base, **options)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model.float()(input_ids=IDS, use_cache=False).logits


def rows(model):
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    with torch.no_grad():
        return inner.get_input_embeddings()(torch.arange(204)), inner.get_output_embeddings()(torch.eye(32)).T


def test_one_step_moves_the_new_rows_and_no_old_one(base, make_documents):
    """YaYi's LoRA wraps the model before its embeddings grow, and trains none of the new tokens."""
    model = adapted(base)
    (one,) = make_documents(9)
    one.ids[::2], one.mask[:] = 200, True
    batch = make_batch([[one]], None, 0)
    before = rows(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    supervised_loss(model, batch, isolate(model)(batch)).sum.backward()
    optimizer.step()
    for old, new in zip(before, rows(model), strict=True):
        assert torch.equal(old[:200], new[:200])
        assert not torch.equal(old[200], new[200])


def test_gradients_are_those_of_the_whole_head(base, make_documents):
    model = trained(base)
    documents = make_documents(7, 9)
    documents[0].ids[::3] = 203
    batch = make_batch([documents], None, 0)
    inputs = isolate(model)(batch)
    supervised_loss(model, batch, inputs).sum.backward()
    found = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    whole = model(input_ids=batch.input_ids, **inputs).logits
    torch.nn.functional.cross_entropy(whole[0], batch.labels[0], reduction="sum").backward()
    for one, parameter in zip(found, [p for p in model.parameters() if p.requires_grad], strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-4)


def test_an_adapter_loads_in_plain_peft_once_the_base_is_resized(base, tokenizer, tmp_path):
    model = trained(base)
    save_adapter(model, tmp_path, tokenizer, NEW)
    resized = AutoModelForCausalLM.from_pretrained(base)
    resized.resize_token_embeddings(204)
    plain = PeftModel.from_pretrained(resized, tmp_path).eval()
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-6, rtol=1e-6)


def test_a_merged_model_says_what_the_adapter_says(base, tokenizer, tmp_path):
    model = trained(base)
    save_adapter(model, tmp_path, tokenizer, NEW)
    merge(tmp_path, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-5)
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (
        tokenizer / "tokenizer.json"
    ).read_bytes()


class TestOneLlama:
    """What does not depend on the architecture."""

    @pytest.fixture
    def base(self, make_random_model, tmp_path):
        make_random_model("llama").save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    @pytest.fixture
    def adapter(self, base, tokenizer, tmp_path):
        folder = tmp_path / "adapter"
        folder.mkdir()
        save_adapter(trained(base), folder, tokenizer, NEW)
        return folder

    def test_a_loaded_adapter_grows_its_base_by_itself(self, base, adapter):
        torch.testing.assert_close(logits(load_adapter(adapter, torch.float32).eval()), logits(trained(base)))

    def test_peft_finds_the_base_and_the_tokenizers_size_alone(self, base, tokenizer, tmp_path):
        count = len(AutoTokenizer.from_pretrained(tokenizer))
        vocabulary = Vocabulary(count, list(range(200, count)), list(range(200, count)))
        model = trained(base, vocabulary=vocabulary)
        save_adapter(model, tmp_path, tokenizer, vocabulary)
        found = AutoPeftModelForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(logits(found), logits(model), atol=1e-6, rtol=1e-6)

    def test_a_merge_keeps_the_bases_type_to_its_precision(self, make_random_model, tokenizer, tmp_path):
        half = tmp_path / "half"
        make_random_model("llama").to(torch.bfloat16).save_pretrained(half)
        model = trained(half, dtype=torch.bfloat16)
        save_adapter(model, tmp_path, tokenizer, NEW)
        merge(tmp_path, tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        assert merged.dtype == torch.bfloat16
        expected = logits(model)
        assert (logits(merged) - expected).norm() < 2e-2 * expected.norm()

    def test_a_named_module_is_adapted_alone(self, base):
        names = [
            n for n, p in adapted(base, ["q_proj"]).named_parameters() if p.requires_grad and "lora" in n
        ]
        assert len(names) == 4
        assert all(".q_proj." in name for name in names)

    def test_without_new_ids_only_the_adapters_train(self, base):
        model = adapted(base, vocabulary=Vocabulary(200, [], []))
        assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)

    def test_an_unknown_module_is_refused_with_those_there_are(self, base):
        with pytest.raises(
            YayiError, match=r"query_key_value: this llama model has no linear .*q_proj.*all-linear"
        ):
            adapted(base, ["query_key_value"])

    @pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
    def test_the_head_and_the_embedding_are_refused_with_what_to_do(self, base, name):
        with pytest.raises(
            YayiError, match=rf"{name}: LoRA does not adapt .*leave it out.*, v_proj, or give"
        ):
            adapted(base, ["q_proj", name])

    def test_a_base_that_is_gone_is_named(self, base, adapter):
        shutil.rmtree(base)
        with pytest.raises(YayiError, match=r"its base model is not there .*correct base_model_name_or_path"):
            load_adapter(adapter, torch.float32)

    def test_a_merge_runs_no_code_of_its_base(self, base, adapter, tmp_path, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        config = json.loads((base / "config.json").read_text())
        config |= {"auto_map": {"AutoConfig": "c.C"}, "model_type": "foreign"}
        (base / "config.json").write_text(json.dumps(config))
        (base / "c.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(YayiError, match=r"cannot read its config\.json"):
            merge(adapter, tmp_path / "merged")
        assert not (tmp_path / "ran").exists()

    def test_a_merge_into_a_folder_with_something_in_it_is_refused(self, adapter, tmp_path):
        with pytest.raises(YayiError, match="exists: choose another --output"):
            merge(adapter, adapter)
        assert not list(tmp_path.glob("*.partial*"))

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("{", "not the config of an adapter: "),
            ("[]", "not the config of an adapter"),
            ("{}", "not the config of a"),
            ('{"peft_type": "SHINY"}', "not the config of an adapter"),
            ('{"peft_type": "LORA"}', "not the config of a LoRA adapter with a base_model_name_or_path"),
            ('{"peft_type": "LORA", "base_model_name_or_path": 5}', "not the config of a LoRA adapter with"),
            ('{"peft_type": "IA3", "base_model_name_or_path": "a/b"}', "not the config of a LoRA adapter"),
        ],
    )
    def test_a_config_that_is_no_adapters_is_refused(self, adapter, tmp_path, content, told):
        (adapter / CONFIG).write_text(content)
        with pytest.raises(YayiError, match=f"adapter_config.json: {told}"):
            merge(adapter, tmp_path / "merged")

    def test_a_folder_that_is_no_adapter_is_refused(self, base, tmp_path):
        with pytest.raises(YayiError, match=r"base: found a whole model there; expected an adapter"):
            merge(base, tmp_path / "merged")
        with pytest.raises(YayiError, match=r"found no adapter_config\.json there; expected an adapter"):
            merge(tmp_path, tmp_path / "merged")

    @pytest.mark.parametrize("pickled", [True, False])
    def test_an_adapter_without_safetensors_is_refused_and_no_pickle_is_read(
        self, adapter, tmp_path, pickled
    ):
        weights = load_file(adapter / WEIGHTS)
        (adapter / WEIGHTS).unlink()
        if pickled:
            torch.save(weights, adapter / "adapter_model.bin")
        for use in (load_trained, lambda folder: merge(folder, tmp_path / "merged")):
            with pytest.raises(YayiError, match=r"its adapter_model\.safetensors is missing; .*a pickle"):
                use(adapter)

    def test_an_adapter_of_another_model_or_half_of_one_is_refused(self, adapter):
        weights = load_file(adapter / WEIGHTS)
        name = next(name for name in weights if "lora_A" in name)
        save_file(weights | {name: weights[name][:, :3].contiguous()}, adapter / WEIGHTS)
        with pytest.raises(YayiError, match="the adapter does not fit its base model"):
            load_trained(adapter)
        save_file({n: weight for n, weight in weights.items() if n != name}, adapter / WEIGHTS)
        with pytest.raises(YayiError, match="the adapter does not fit its base model: Found missing"):
            load_trained(adapter)

    def test_a_merge_that_fails_leaves_nothing(self, base, adapter, tmp_path):
        (adapter / "adapter_model.safetensors").write_bytes(b"cut")
        with pytest.raises(YayiError, match="its weights cannot be read"):
            merge(adapter, tmp_path / "merged")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]

    def test_weights_that_are_not_on_the_disk_are_noticed(self, base, tokenizer, tmp_path, monkeypatch):
        model = trained(base)
        save = PeftModel.save_pretrained

        def save_and_damage(self, folder, **options):
            save(self, folder, **options)
            weights = load_file(folder / WEIGHTS)
            save_file(
                {name: weight for name, weight in weights.items() if "q_proj" not in name}, folder / WEIGHTS
            )

        monkeypatch.setattr(PeftModel, "save_pretrained", save_and_damage)
        with pytest.raises(YayiError, match="26 of 30 trained tensors were saved, and 4 differ"):
            save_adapter(model, tmp_path, tokenizer, NEW)
