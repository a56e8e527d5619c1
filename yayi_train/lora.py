"""LoRA: adapters that also learn the new tokens' rows, saved so that plain peft loads them, and merged."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_train.config import ALL_LINEAR
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

CONFIG = "adapter_config.json"
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


def read_adapter(folder: Path) -> PeftConfig:
    """Return the config of a LoRA adapter's folder; YayiError unless it is one with its weights beside it."""
    path = folder / CONFIG
    if not path.is_file():
        found = "a whole model" if (folder / "config.json").is_file() else f"no {CONFIG}"
        raise YayiError(
            f"{folder}: found {found} there; expected an adapter, as `final` of a --lora-dim run is"
        )
    try:
        config = PeftConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise YayiError(f"{path}: not the config of an adapter: {one_line(str(error))}") from error
    if not isinstance(config, LoraConfig) or not isinstance(config.base_model_name_or_path, str):
        raise YayiError(f"{path}: not the config of a LoRA adapter with a base_model_name_or_path")
    if not (folder / WEIGHTS).is_file():
        raise YayiError(
            f"{folder}: its {WEIGHTS} is missing; copy it there, and convert an adapter_model.bin, a pickle "
            "that can run code when it is read, to safetensors first"
        )
    return config


def load_adapter(folder: Path, dtype: torch.dtype, device: torch.device | str = "cpu") -> PeftModel:
    """Load an adapter on its base, grown to the vocabulary that it was trained with."""
    model = load_base(base_folder(folder), dtype, device)
    vocabulary = written_vocabulary(folder)
    if vocabulary is not None:
        grow_vocabulary(model, vocabulary)
    with whole_files(folder), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
        except (RuntimeError, ValueError, UserWarning) as error:
            raise YayiError(
                f"{folder}: the adapter does not fit its base model: {one_line(str(error))}"
            ) from error


def load_trained(folder: Path) -> PreTrainedModel | PeftModel:
    """Load a model, or an adapter on its base: in bf16 on the GPU where there is one, else in fp32."""
    on_gpu = torch.cuda.is_available()
    load = load_adapter if (folder / CONFIG).is_file() else load_base
    return load(folder, torch.bfloat16 if on_gpu else torch.float32, "cuda" if on_gpu else "cpu")


def base_folder(adapter: Path) -> Path:
    """Return the folder of an adapter's base model; YayiError where it is no longer there."""
    base = read_adapter(adapter).base_model_name_or_path
    try:
        return model_folder(base)
    except YayiError as error:
        raise YayiError(
            f"{adapter}: its base model is not there ({error}); correct base_model_name_or_path "
            f"in its {CONFIG}"
        ) from error


def merge(adapter: Path, output: Path) -> None:
    """Write the model that an adapter makes of its base: added in fp32, then cast to the base's own type."""
    dtype = read_config(base_folder(adapter)).dtype or torch.float32
    with new_folder(output) as folder:
        model = load_adapter(adapter, torch.float32).merge_and_unload(safe_merge=True)
        save_final(model.to(dtype), folder, adapter)
