"""The model without its weights: what can be refused or counted before anything large is read."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from yayi_data.errors import YayiError
from yayi_train import attention
from yayi_train.config import ALL_LINEAR, Config, LoraConfig
from yayi_train.lora import check_modules
from yayi_train.loss import check_head
from yayi_train.model import model_folder, read_config
from yayi_train.quiet import in_brief
from yayi_train.vocabulary import Vocabulary, check_tokenizer


def refuse_early(config: Config, packed: Path) -> Vocabulary:
    """Return the model's vocabulary for the packed data; YayiError for what its training would meet later.

    That is another tokenizer, an architecture whose documents cannot be kept apart or whose loss would be
    another, an unknown LoRA module.
    """
    folder = model_folder(config.model.path)
    vocabulary = check_tokenizer(folder, packed)
    model = skeleton(folder)
    check_head(model)
    if config.data.packing:
        attention.isolate(model)
    if config.lora and config.lora.modules != [ALL_LINEAR]:
        check_modules(model, config.lora.modules)
    return vocabulary


def skeleton(folder: Path) -> Any:
    """Return the model of a folder's config.json with no memory behind its parameters."""
    config = read_config(folder)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers computes with whatever stands there
        said = f"{type(error).__name__}: {in_brief(error)}"
        raise YayiError(f"--input-model {folder}: its config.json makes no model: {said}") from error


def parameters(config: Config, vocabulary: Vocabulary) -> tuple[int, int]:
    """Return how many parameters the model has, grown to its vocabulary, and how many of them are trained."""
    model = skeleton(model_folder(config.model.path))
    if vocabulary.size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    total = sum(p.numel() for p in model.parameters())
    if config.lora is None:
        return total, total
    added = sum(config.lora.dim * sum(m.weight.shape) for m in _adapted(model, config.lora))
    tables = {id(t.weight) for t in (model.get_input_embeddings(), model.get_output_embeddings())}
    rows = len(vocabulary.new_ids) * len(tables) * model.get_input_embeddings().weight.shape[1]
    return total + added + rows, added + rows


def _adapted(model: Any, lora: LoraConfig) -> list[nn.Linear]:
    """Return the layers that get an adapter; all-linear spares the head."""
    named = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    if lora.modules == [ALL_LINEAR]:
        return [m for _, m in named if m is not model.get_output_embeddings()]
    return [m for name, m in named if name.rpartition(".")[2] in lora.modules]
