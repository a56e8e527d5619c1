"""Documents packed into a row compute what each would alone, whatever its neighbours are."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from yayi_train.attention import NotIsolated, attention_choice, isolate, plain
from yayi_train.batch import make_batch
from yayi_train.model import load_base

LENGTHS = (7, 12, 5, 9)


def logits(model, batch, inputs):
    with torch.no_grad():
        return model(input_ids=batch.input_ids, **inputs(batch)).logits


def alone(model, document):
    """The logits of one document by itself, with transformers' own attention."""
    ids = torch.from_numpy(document.ids.astype(np.int64))[None]
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_packed_logits_are_those_of_each_document_alone(
    make_random_model, make_documents, architecture, dtype, tolerance
):
    model = make_random_model(architecture).to(dtype).eval()
    documents = make_documents(*LENGTHS)
    expected = [alone(model, document) for document in documents]
    scale = max(float(one.abs().max()) for one in expected)
    batch = make_batch([documents[:2], documents[2:]], 24, pad_id=0)
    found = logits(model, batch, isolate(model))
    for row, start, one in ((0, 0, 0), (0, 7, 1), (1, 0, 2), (1, 5, 3)):
        difference = (found[row, start : start + LENGTHS[one]] - expected[one]).abs().max()
        assert difference <= tolerance * scale


def test_another_document_of_the_same_length_changes_no_bit_of_its_neighbours(
    make_random_model, make_documents, architecture
):
    model = make_random_model(architecture).eval()
    inputs = isolate(model)
    first, second, third, other = make_documents(7, 12, 5, 12)
    before = logits(model, make_batch([[first, second, third]], 30, pad_id=0), inputs)[0]
    after = logits(model, make_batch([[first, other, third]], 30, pad_id=0), inputs)[0]
    assert torch.equal(before[:7], after[:7])
    assert torch.equal(before[19:], after[19:])
    assert not torch.equal(before[7:19], after[7:19])


def test_one_document_a_row_needs_only_a_padding_mask(make_random_model, make_documents, architecture):
    model = make_random_model(architecture).eval()
    documents = make_documents(*LENGTHS)
    found = logits(model, make_batch([[one] for one in documents], None, pad_id=0), plain)
    for row, document in enumerate(documents):
        torch.testing.assert_close(
            found[row, : len(document.ids)], alone(model, document), atol=1e-5, rtol=1e-5
        )


def test_any_other_architecture_runs_one_document_a_row(make_random_model, make_documents, tmp_path):
    sizes = {"vocab_size": 200, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, "rotary_dim": 8}
    make_random_model("gptj", **sizes, bos_token_id=0, eos_token_id=0).save_pretrained(tmp_path)
    model = load_base(tmp_path, torch.float32).eval()
    documents = make_documents(*LENGTHS)
    found = logits(model, make_batch([[one] for one in documents], None, pad_id=0), plain)
    for row, document in enumerate(documents):
        torch.testing.assert_close(found[row, : len(document.ids)], alone(model, document))


def test_plain_refuses_a_row_of_two_documents(make_documents):
    with pytest.raises(ValueError, match="several documents"):
        plain(make_batch([make_documents(3, 4)], None, pad_id=0))


def test_isolation_is_refused_where_it_is_not_known_to_hold(make_random_model):
    model = make_random_model("gpt2", vocab_size=200, n_embd=32, n_layer=1, n_head=2)
    with pytest.raises(NotIsolated, match=r"'gpt2' model .*llama.*--no-packing"):
        isolate(model)


def test_isolation_is_refused_where_rotations_depend_on_the_whole_row(make_random_model):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = make_random_model("llama", rope_parameters=rope, max_position_embeddings=64)
    with pytest.raises(NotIsolated, match=r"'dynamic' rotary embeddings.*--no-packing"):
        isolate(model)


def test_code_that_only_calls_itself_llama_is_refused(make_random_model):
    class Foreign(type(make_random_model("llama"))):
        pass

    Foreign.__module__ = "modeling_foreign"
    with pytest.raises(NotIsolated, match="--no-packing"):
        isolate(Foreign(make_random_model("llama").config))


def test_gradient_checkpointing_recomputes_the_same_isolation(
    make_random_model, make_documents, architecture
):
    documents = make_documents(*LENGTHS)
    batch = make_batch([documents[:2], documents[2:]], 24, pad_id=0)
    gradients = []
    for checkpointed in (False, True):
        model = make_random_model(architecture).train()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        inputs = isolate(model)
        model(input_ids=batch.input_ids, **inputs(batch)).logits.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_generation_still_works_on_an_isolated_model(make_random_model, architecture):
    model = make_random_model(architecture).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    before = model.generate(ids, **settings)
    isolate(model)
    assert torch.equal(model.generate(ids, **settings), before)


def test_a_saved_config_does_not_name_our_attention(make_random_model, tmp_path):
    model = make_random_model("llama")
    isolate(model)
    model.save_pretrained(tmp_path)
    assert "by_document" not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


class TestChoice:
    """Which attention a model is loaded with."""

    def test_it_is_sdpa_on_a_cpu(self):
        assert attention_choice("llama", "cpu", torch.bfloat16) == "sdpa"

    def test_it_is_flash_on_a_gpu_where_it_is_installed(self, monkeypatch):
        monkeypatch.setattr("yayi_train.attention.find_spec", lambda name: object())
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (8, 0))
        assert attention_choice("llama", "cuda", torch.bfloat16) == "flash_attention_2"
        assert attention_choice("llama", "cuda", torch.float32) == "sdpa"

    def test_it_is_sdpa_on_a_gpu_too_old_for_flash(self, monkeypatch):
        monkeypatch.setattr("yayi_train.attention.find_spec", lambda name: object())
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
        assert attention_choice("llama", "cuda", torch.float16) == "sdpa"

    @pytest.mark.parametrize("name", ["bloom", "gptj"])
    def test_it_is_transformers_own_where_sdpa_is_not_known(self, name):
        assert attention_choice(name, "cuda", torch.bfloat16) is None


def test_flash_attention_is_told_the_bounds(make_random_model, make_documents):
    batch = make_batch([make_documents(3, 4), make_documents(2, 5)], None, pad_id=0)
    inputs = isolate(make_random_model("llama"))(batch)
    assert inputs["cu_seq_lens_q"].tolist() == inputs["cu_seq_lens_k"].tolist() == [0, 3, 7, 9, 14]
    assert inputs["max_length_q"] == inputs["max_length_k"] == 5
    assert "attention_mask" not in inputs
    assert inputs["use_cache"] is False
