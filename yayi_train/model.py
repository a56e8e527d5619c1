"""The model: loaded without pickles, saved so that plain `from_pretrained` loads it, tokenizer and all."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from yayi_data.console import one_line, say
from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_train.attention import attention_choice
from yayi_train.quiet import in_brief
from yayi_train.vocabulary import control_names, read_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "template.toml")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.toml"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SAMPLES, _SAMPLE = 64, 2**16
_MAX_NEW_TOKENS = {"yayi-llama2": 256}


def model_folder(path_or_id: str) -> Path:
    """Return the folder of a model or adapter: a local one, or a snapshot of a hub ID without its pickles."""
    path = Path(path_or_id)
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return path
    if path.exists() or path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
        of_run = f" ({path / 'final'} is one)" if (path / "final").is_dir() else ""
        raise YayiError(
            f"{one_line(path_or_id)}: no config.json there; give a model's folder{of_run} or a hub ID"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path_or_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise YayiError(
            f"{one_line(path_or_id)} is no local folder, and the hub did not give it: {one_line(str(error))}"
        ) from error


def load_base(folder: Path, dtype: torch.dtype, device: torch.device | str = "cpu") -> PreTrainedModel:
    """Load a causal language model from safetensors; a folder with a config and no weights gives random ones.

    Pickled weights are refused, and so are weights that leave out a parameter of the model. Code that comes
    with a model never runs.
    """
    config = read_config(folder)
    options = {
        "config": config,
        "dtype": dtype,
        "attn_implementation": attention_choice(config.model_type, device, dtype),
        "trust_remote_code": False,
    }
    if not any(folder.glob("*.safetensors*")):
        return _random(folder, options).to(device)
    with whole_files(folder):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    left_out = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
    if left_out:
        raise YayiError(
            f"{folder}: its weights do not fit its config: {len(left_out)} parameters are missing or of "
            f"another shape ({left_out[0]} first); is a file missing?"
        )
    base: PreTrainedModel = model.to(device)
    return base


def fingerprint(folder: Path) -> str:
    """Return a name for a model's config and weights, in a moment however large they are.

    Of a large file it takes the size, the beginning, which lists the tensors, and 64 samples of 64 KB.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for number in range(_SAMPLES):
                file.seek(number * max(0, size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


@contextmanager
def whole_files(folder: Path) -> Iterator[None]:
    """Tell a file of weights that is missing, cut or no safetensors at all by one sentence."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise YayiError(
            f"{folder}: its weights cannot be read, copy them again: {one_line(str(error))}"
        ) from error


def read_config(folder: Path) -> Any:
    """Return the transformers config of a model folder.

    YayiError for an adapter's folder, which has none, for what transformers reads no config from, whatever it
    raises over it, and for quantized weights, which can neither be trained nor grown.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise YayiError(f"{folder}: is an adapter; `yayi-train merge` makes a model of it and its base")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise YayiError(f"{folder}: cannot read its config.json: {in_brief(error)}") from error
    if getattr(config, "quantization_config", None):
        raise YayiError(f"{folder}: its weights are quantized; give the model that they were made of")
    return config


def _random(folder: Path, options: dict[str, Any]) -> PreTrainedModel:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise YayiError(
            f"{folder}: its weights are a pickle ({pickles[0]}), which can run code when it is read; "
            "convert them to safetensors first"
        )
    say(f"{folder} holds no weights: starting from random ones")
    with _seeded(0):
        return AutoModelForCausalLM.from_config(**options)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def save_final(
    model: PreTrainedModel, output: Path, tokenizer: Path, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write a model folder that plain `from_pretrained` loads, with `tokenizer`'s files copied byte for byte.

    `state` holds the weights where the model's own are partitioned (ZeRO-3), by the model's own names.
    `output` exists; writing it whole under a temporary name is the caller's.
    """
    generation_config(tokenizer).save_pretrained(output)
    model.generation_config = GenerationConfig.from_pretrained(output)
    model.save_pretrained(output, state_dict=None if state is None else dict(state))
    copy_tokenizer(tokenizer, output)


def copy_tokenizer(source: Path, output: Path) -> None:
    """Copy the files that make a folder's tokenizer and its template."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file() and source != output:
            shutil.copyfile(source / name, output / name)


def generation_config(tokenizer: Path) -> GenerationConfig:
    """Return the YaYi repository's settings for a tokenizer folder; every control token ends a reply."""
    template = load_template(str(tokenizer / "template.toml"))
    content = read_tokenizer(tokenizer)
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    stops = {token: ids[name] for token, name in control_names(tokenizer, content, template).items()}
    end = stops.pop(template.end)
    return GenerationConfig(
        eos_token_id=[end, *stops.values()],
        pad_token_id=end,
        do_sample=True,
        temperature=0.3,
        repetition_penalty=1.1,
        max_new_tokens=_MAX_NEW_TOKENS.get(template.name, 100),
    )
