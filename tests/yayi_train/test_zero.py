"""Under ZeRO the loss has the gradients of one process, and what is saved is what was trained."""

import multiprocessing
import os
import socket
import traceback

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer
from yayi_train.attention import isolate
from yayi_train.batch import Document, count_supervised, make_batch
from yayi_train.lora import inject, load_adapter, save_adapter
from yayi_train.loss import supervised_loss
from yayi_train.model import save_final
from yayi_train.vocabulary import Vocabulary

LENGTHS = (7, 12, 5, 9)
NEW_IDS = [198, 199]


@pytest.fixture(scope="module")
def tokenizer(byte_level, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    load_tokenizer(str(byte_level), load_template("yayi"), "reference").write(folder)
    return folder


RANKS = multiprocessing.get_context("forkserver")


def on_two_ranks(program, *given):
    """Run program(rank, *given) in two processes; it passes where both end well."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = [RANKS.Process(target=_be_rank, args=(rank, port, program, given)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]


def _be_rank(rank, port, program, given):
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in names.items()}, MASTER_ADDR="127.0.0.1", DS_ACCELERATOR="cpu")
    code = 1
    try:
        program(rank, *given)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def engine_of(model, stage, ranks):
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
    config = {"train_batch_size": ranks, "train_micro_batch_size_per_gpu": 1, "zero_optimization": zero,
              "gradient_clipping": 0, "steps_per_print": 10**9}  # fmt: skip
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def with_adapter(model):
    model = inject(model, "base", 4, 8, ["all-linear"], NEW_IDS)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def reference(model, batch, total):
    """The gradients of one process, by name."""
    (supervised_loss(model, batch, isolate(model)(batch)).sum / total).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    return gradients


def relative_error(engine, expected):
    from deepspeed.utils import safe_get_full_grad

    pairs = [
        (safe_get_full_grad(p), expected[name])
        for name, p in engine.module.named_parameters()
        if p.requires_grad
    ]
    difference = sum(float((found - one).square().sum()) for found, one in pairs)
    return (difference / sum(float(one.square().sum()) for _, one in pairs)) ** 0.5


CASES = [(3, "llama", True), (3, "bloom", False), (2, "bloom", True)]


@pytest.mark.parametrize(("stage", "architecture", "lora"), CASES)
def test_two_ranks_have_the_gradients_of_one_process(
    make_random_model, make_documents, stage, architecture, lora
):
    documents = make_documents(*LENGTHS)
    on_two_ranks(compare_gradients, make_random_model, documents, stage, architecture, lora)


def compare_gradients(rank, make_random_model, documents, stage, architecture, lora):
    total = sum(count_supervised(one.mask) for one in documents)
    model = make_random_model(architecture)
    model = with_adapter(model) if lora else model
    expected = reference(model, make_batch([documents[:2], documents[2:]], 24, 0), total)
    engine = engine_of(model, stage, 2)
    batch = make_batch([documents[:2] if rank == 0 else documents[2:]], 24, 0)
    loss = supervised_loss(engine, batch, isolate(engine)(batch))
    engine.backward(loss.sum * 2 / total, scale_wrt_gas=False)
    assert relative_error(engine, expected) < 1e-5


@pytest.mark.parametrize("stage", [2, 3])
def test_a_rank_without_supervised_tokens_holds_nobody_up(make_random_model, make_documents, stage):
    on_two_ranks(step_with_a_silent_rank, make_random_model, make_documents(*LENGTHS), stage)


def step_with_a_silent_rank(rank, make_random_model, documents, stage):
    silent = Document(documents[0].ids, np.zeros(7, np.bool_), 0)
    engine = engine_of(make_random_model("llama"), stage, 2)
    batch = make_batch([[silent] if rank == 0 else documents], None, 0)
    loss = supervised_loss(engine, batch, isolate(engine)(batch))
    engine.backward(loss.sum, scale_wrt_gas=False)
    engine.step()
    assert (loss.sum.item() == 0) == (rank == 0)


def test_an_adapter_saved_under_zero_3_is_whole(
    make_random_model, make_documents, tokenizer, tmp_path_factory, tmp_path
):
    base = tmp_path_factory.mktemp("base")
    make_random_model("llama").save_pretrained(base)
    on_two_ranks(train_and_save_adapter, make_documents(*LENGTHS), base, tokenizer, tmp_path)


def train_and_save_adapter(rank, documents, base, tokenizer, output):
    model = inject(AutoModelForCausalLM.from_pretrained(base), str(base), 4, 8, ["all-linear"], NEW_IDS)
    engine = engine_of(model, 3, 2)
    batch = make_batch([documents], None, 0)
    inputs = isolate(engine)
    engine.backward(supervised_loss(engine, batch, inputs(batch)).sum, scale_wrt_gas=False)
    engine.step()
    if rank == 0:
        with pytest.raises(YayiError, match="of 30 trained tensors were saved, and 30 differ"):
            save_adapter(engine.module, output, tokenizer, Vocabulary(200, NEW_IDS, []))
    state = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)
    with torch.no_grad():
        expected = supervised_loss(engine, batch, inputs(batch)).sum.item()
    if rank:
        return
    save_adapter(engine.module, output, tokenizer, Vocabulary(200, NEW_IDS, []), state)
    loaded = load_adapter(output, torch.float32)
    found = supervised_loss(loaded, batch, isolate(loaded)(batch)).sum.item()
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "bloom"])
def test_a_model_saved_under_zero_3_is_whole(make_random_model, tokenizer, tmp_path, architecture):
    original = make_random_model(architecture).state_dict()
    on_two_ranks(save_model, make_random_model, architecture, tokenizer, tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert saved.keys() == original.keys()
    for name, weight in original.items():
        assert torch.equal(saved[name], weight), name


def save_model(rank, make_random_model, architecture, tokenizer, output):
    engine = engine_of(make_random_model(architecture), 3, 2)
    state = engine._zero3_consolidated_16bit_state_dict()
    if rank == 0:
        save_final(engine.module, output, tokenizer, state)
