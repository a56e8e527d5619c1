"""The loss is a sum over supervised tokens, the same in any layout, and the head sees nothing else."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from yayi_data.errors import YayiError
from yayi_train import loss as losses
from yayi_train.attention import isolate, plain
from yayi_train.batch import Document, make_batch
from yayi_train.loss import supervised_loss

LENGTHS = (7, 12, 5, 9)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Five positions a chunk, so that every test goes through several."""
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 200 * 5)


def one_at_a_time(model, documents):
    """The summed loss by transformers' forward and torch's cross entropy, and the gradients."""
    model.zero_grad()
    total = torch.zeros(())
    for document in documents:
        ids = torch.from_numpy(document.ids.astype(np.int64))
        labels = torch.where(torch.from_numpy(document.mask), ids, -100)
        found = model(input_ids=ids[None], use_cache=False).logits[0].float()
        total = total + cross_entropy(found[:-1], labels[1:], reduction="sum")
    total.backward()
    return total.item(), gradient(model)


def ours(model, batch, inputs):
    model.zero_grad()
    found = supervised_loss(model, batch, inputs(batch))
    found.sum.backward()
    return found.sum.item(), gradient(model)


def gradient(model):
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.requires_grad])


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


class TestOneLoss:
    """Packed, unpacked and one document at a time are one loss with one gradient."""

    def test_in_fp32_to_a_hundred_thousandth(self, make_random_model, make_documents, architecture):
        model, documents = make_random_model(architecture), make_documents(*LENGTHS)
        total, expected = one_at_a_time(model, documents)
        unpacked = ours(model, make_batch([[one] for one in documents], None, 0), plain)
        packed = ours(model, make_batch([documents[:2], documents[2:]], 24, 0), isolate(model))
        for found, slope in (unpacked, packed):
            assert found == pytest.approx(total, rel=1e-6)
            assert relative(slope, expected) < 1e-5

    def test_in_bf16_to_a_twentieth(self, make_random_model, make_documents, architecture):
        model, documents = make_random_model(architecture), make_documents(*LENGTHS)
        total, expected = one_at_a_time(model, documents)
        model.to(torch.bfloat16)
        found, slope = ours(model, make_batch([documents[:2], documents[2:]], 24, 0), isolate(model))
        assert found == pytest.approx(total, rel=2e-3)
        assert relative(slope, expected) < 5e-2

    def test_accumulated_batches_add_up(self, make_random_model, make_documents):
        model, documents = make_random_model("llama"), make_documents(*LENGTHS)
        inputs = isolate(model)
        total, expected = ours(model, make_batch([documents[:2], documents[2:]], 24, 0), inputs)
        model.zero_grad()
        parts = [make_batch([row], 24, 0) for row in (documents[:2], documents[2:])]
        found = 0.0
        for part in parts:
            loss = supervised_loss(model, part, inputs(part))
            loss.sum.backward()
            found += loss.sum.item()
        assert found == pytest.approx(total, rel=1e-6)
        assert relative(gradient(model), expected) < 1e-6

    def test_the_incoming_gradient_scales(self, make_random_model, make_documents):
        model = make_random_model("llama")
        batch = make_batch([make_documents(*LENGTHS)], None, 0)
        inputs = isolate(model)(batch)
        _, expected = ours(model, batch, lambda _: inputs)
        model.zero_grad()
        (supervised_loss(model, batch, inputs).sum / 8).backward()
        assert relative(gradient(model), expected / 8) < 1e-6


def test_token_losses_come_with_their_domains(make_random_model, make_documents):
    model, documents = make_random_model("llama"), make_documents(*LENGTHS)
    batch = make_batch([documents[:2], documents[2:]], 24, 0)
    found = supervised_loss(model, batch, isolate(model)(batch))
    by_domain = torch.bincount(found.domains, found.token_losses)
    for domain in range(3):
        own = [one for one in documents if one.domain == domain]
        assert float(by_domain[domain]) == pytest.approx(one_at_a_time(model, own)[0], rel=1e-5)
    assert float(found.token_losses.sum()) == pytest.approx(found.sum.item(), rel=1e-6)
    assert not found.token_losses.requires_grad


def test_a_batch_without_supervised_tokens_sums_to_zero_and_backpropagates(make_random_model, make_documents):
    model = make_random_model("llama")
    silent = [Document(one.ids, np.zeros(len(one.ids), np.bool_), 0) for one in make_documents(4, 6)]
    total, slope = ours(model, make_batch([silent], None, 0), isolate(model))
    assert total == 0
    assert len(slope) == sum(p.numel() for p in model.parameters())
    assert not slope.any()


def test_evaluation_makes_no_gradient(make_random_model, make_documents):
    model = make_random_model("llama").eval()
    batch = make_batch([make_documents(*LENGTHS)], None, 0)
    inputs = isolate(model)(batch)
    with torch.no_grad(), Sizes() as seen:
        quiet = supervised_loss(model, batch, inputs)
    assert not quiet.sum.requires_grad
    assert float(quiet.sum) == supervised_loss(model, batch, inputs).sum.item()
    assert (200, 32) not in seen.shapes


def test_a_bias_of_the_head_is_learnt(make_random_model, make_documents):
    model = make_random_model("llama")
    model.lm_head.bias = torch.nn.Parameter(torch.randn(200))
    documents = make_documents(*LENGTHS)
    total, expected = one_at_a_time(model, documents)
    found, slope = ours(model, make_batch([documents], None, 0), isolate(model))
    assert found == pytest.approx(total, rel=1e-6)
    assert relative(slope, expected) < 1e-5


def test_the_head_is_itself_again_afterwards(make_random_model, make_documents):
    model = make_random_model("llama")
    batch = make_batch([make_documents(*LENGTHS)], None, 0)
    inputs = isolate(model)(batch)
    expected = model(input_ids=batch.input_ids, **inputs).logits
    supervised_loss(model, batch, inputs)
    assert torch.equal(model(input_ids=batch.input_ids, **inputs).logits, expected)
    model.model.forward = None
    with pytest.raises(TypeError):
        supervised_loss(model, batch, inputs)
    assert model.lm_head(torch.zeros(1, 32)).shape == (1, 200)


def test_a_model_that_alters_its_logits_is_refused(make_random_model, make_documents):
    sizes = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    model = make_random_model("gemma2", **sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    batch = make_batch([make_documents(5)], None, 0)
    with pytest.raises(YayiError, match="'gemma2' model changes its logits after the head"):
        supervised_loss(model, batch, plain(batch))


class Sizes(TorchDispatchMode):
    """The shapes of all tensors that are made while it is active."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and function is not torch.ops.aten.detach.default:
                self.shapes.add(tuple(one.shape))
        return made


def test_logits_exist_for_a_chunk_of_supervised_positions_at_a_time(
    make_random_model, make_documents, architecture
):
    """YaYi's trainer computes the whole vocabulary for every position, 2 GB for 2,048 tokens of Bloom."""
    model = make_random_model(architecture)
    batch = make_batch([make_documents(*LENGTHS)], None, 0)
    with Sizes() as seen:
        supervised_loss(model, batch, isolate(model)(batch)).sum.backward()
    rows = [np.prod(shape[:-1]) for shape in seen.shapes if shape and shape[-1] == 200 and shape != (32, 200)]
    assert max(rows) == 5
