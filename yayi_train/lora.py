"""LoRA: adapters that also learn the new tokens' rows, saved so that plain peft loads them, and merged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from yayi_data.errors import YayiError
from yayi_train.folders import new_folder
from yayi_train.model import (
    copy_tokenizer,
    generation_config,
    load_base,
    model_folder,
    read_config,
    save_final,
    whole_files,
)
from yayi_train.vocabulary import Vocabulary, grow_vocabulary, written_vocabulary

ALL_LINEAR = "all-linear"
WEIGHTS = "adapter_model.safetensors"


def inject(
    model: PreTrainedModel, base: str, rank: int, alpha: float, modules: list[str], new_ids: list[int]
) -> PeftModel:
    """Freeze the model and add adapters to its linear layers named `modules` (or ALL_LINEAR).

    The rows of `new_ids`, which nothing has taught yet, train too: in the embedding, and in the head where
    that is another matrix. The model is already grown to its vocabulary. `base` is its folder or hub ID,
    which the adapter remembers.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=ALL_LINEAR if modules == [ALL_LINEAR] else check_modules(model, modules),
        trainable_token_indices=_token_tables(model, new_ids),
        task_type="CAUSAL_LM",
    )
    adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=False)
    config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).exists() else base
    return adapted


def check_modules(model: PreTrainedModel, modules: list[str]) -> list[str]:
    """Return the names of LoRA's layers; YayiError where the model has no linear layer of such a name.

    The head is none of them: the loss takes its weight past any adapter on it.
    """
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    spared = {name.rpartition(".")[2] for name, m in model.named_modules() if any(m is t for t in tables)}
    linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    linear -= spared
    choice = f"{', '.join(sorted(linear))}, or give {ALL_LINEAR}"
    for name in modules:
        if name in spared:
            raise YayiError(
                f"--lora-module-name {name}: LoRA does not adapt the embedding or the head, of which only "
                f"the new tokens' rows are trained; leave it out, and choose among {choice}"
            )
        if name not in linear:
            raise YayiError(
                f"--lora-module-name {name}: this {model.config.model_type} model has no linear layer of "
                f"that name; it has {choice}"
            )
    return modules


def _token_tables(model: PreTrainedModel, new_ids: list[int]) -> dict[str, list[int]] | None:
    """Return what peft wants to know: the tables whose rows train, by the last part of their names.

    A tied head is left out: peft follows the embedding there.
    """
    if not new_ids:
        return None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [embedding] if head is None or head.weight is embedding.weight else [embedding, head]
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    return {names[id(table)]: new_ids for table in tables}


def save_adapter(
    model: PeftModel,
    output: Path,
    tokenizer: Path,
    vocabulary: Vocabulary,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an adapter folder with the tokenizer's files; YayiError unless it reads back whole.

    `state` holds the trained weights where the model's own are partitioned (ZeRO-3). `output` exists; writing
    it whole under a temporary name is the caller's.
    """
    given = None if state is None else dict(state)
    model.save_pretrained(output, state_dict=given, save_embedding_layers=False)
    expected = get_peft_model_state_dict(model, state_dict=given, save_embedding_layers=False)
    _check_saved(model, output, expected)
    copy_tokenizer(tokenizer, output)
    generation_config(tokenizer).save_pretrained(output)
    vocabulary.write(output)


def _check_saved(model: nn.Module, output: Path, expected: Mapping[str, Tensor]) -> None:
    saved = load_file(output / WEIGHTS)
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    differing = [
        name
        for name in expected.keys() | saved.keys()
        if name not in saved or not saved[name].numel() or not _equal(saved[name], expected.get(name))
    ]
    if differing or len(saved) != trained:
        raise YayiError(
            f"{output}: {len(saved)} of {trained} trained tensors were saved, and {len(differing)} differ "
            "from the model's: the adapter is not whole; the last checkpoint is"
        )


def _equal(saved: Tensor, expected: Tensor | None) -> bool:
    return expected is not None and torch.equal(saved, expected.detach().cpu())


def load_adapter(folder: Path, dtype: torch.dtype, device: torch.device | str = "cpu") -> PeftModel:
    """Load an adapter on its base, grown to the vocabulary that it was trained with."""
    model = load_base(base_folder(folder), dtype, device)
    vocabulary = written_vocabulary(folder)
    if vocabulary is not None:
        grow_vocabulary(model, vocabulary)
    with whole_files(folder):
        return PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)


def base_folder(adapter: Path) -> Path:
    """Return the folder of an adapter's base model; YayiError where it is no longer there."""
    base: Any = PeftConfig.from_pretrained(adapter).base_model_name_or_path
    try:
        return model_folder(base or "")
    except YayiError as error:
        raise YayiError(
            f"{adapter}: its base model is not there ({error}); correct base_model_name_or_path in its "
            "adapter_config.json"
        ) from error


def merge(adapter: Path, output: Path) -> None:
    """Write the model that an adapter makes of its base: added in fp32, then cast to the base's own type."""
    with new_folder(output) as folder:
        dtype = read_config(base_folder(adapter)).dtype or torch.float32
        model = load_adapter(adapter, torch.float32).merge_and_unload(safe_merge=True)
        save_final(model.to(dtype), folder, adapter)
