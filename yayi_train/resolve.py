"""The flags and the DeepSpeed config -> the configuration of a run."""

from dataclasses import fields
from math import isfinite
from pathlib import Path

from yayi_data.errors import YayiError
from yayi_train.config import (
    ALL_LINEAR,
    BatchConfig,
    Config,
    DataConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    PackConfig,
    RunConfig,
)
from yayi_train.deepspeed_file import Shared, read_deepspeed, settings, unsupported
from yayi_train.flags import Flags

_LARGEST_SEED = 2**32 - 1


def resolve(flags: Flags) -> Config:
    """Return the configuration that the flags and the DeepSpeed config ask for; conflicts are a YayiError."""
    _refuse_senseless(flags)
    file = read_deepspeed(flags.deepspeed)
    shared = settings(file, flags)
    refused = unsupported(file.values)
    if refused:
        raise YayiError(f"{file.name}: {refused}")
    return Config(
        data=_data(flags),
        pack=_pack(flags),
        model=ModelConfig(flags.input_model, shared.precision, flags.gradient_checkpointing),
        lora=_lora(flags),
        optimizer=_optimizer(shared),
        batch=BatchConfig(shared.train_rows, flags.per_device_eval_batch_size, shared.accumulation),
        run=_run(flags),
        deepspeed=file.rest(),
    )


def _refuse_senseless(flags: Flags) -> None:
    """Refuse what has the flag's type and yet no meaning."""
    if not flags.data_path.strip():
        raise YayiError("--data-path is empty; give a packed folder or raw files")
    for name in ("lr", "weight_decay", "lora_alpha"):
        value = getattr(flags, name)
        if value is not None and not isfinite(value):
            raise YayiError(f"--{name.replace('_', '-')} is {value}; expected a finite number")
    if flags.seed > _LARGEST_SEED:
        raise YayiError(f"--seed is {flags.seed}; expected 0 to {_LARGEST_SEED}")
    if flags.keep_best and not flags.test_size:
        raise YayiError("--keep-best goes by the evaluation loss, and nothing is evaluated; give --test-size")
    if flags.train_on_domains is not None and not _names(flags.train_on_domains):
        raise YayiError(
            "--train-on-domains names no domain; give names, as in general,finance, or leave it out"
        )


def _data(flags: Flags) -> DataConfig:
    size = flags.test_size
    if not isfinite(size) or (size > 1 and size != int(size)):
        raise YayiError(f"--test-size is {size:g}; give a count (400) or a ratio below 1 (0.05)")
    return DataConfig(
        path=flags.data_path,
        seq_len=flags.seq_len,
        packing=flags.packing,
        test_size=size,
        mix=_weights(flags.mix),
        domains=_names(flags.train_on_domains),
        limit=flags.limit,
    )


def _pack(flags: Flags) -> PackConfig:
    return PackConfig(
        template="yayi" if flags.template is None else flags.template,
        max_length=flags.max_length or flags.seq_len,
        on_long=flags.on_long or "drop",
        train_on=flags.train_on or "all",
        on_problem=flags.on_problem or "fail",
        domains=str(flags.domains) if flags.domains else None,
    )


def _lora(flags: Flags) -> LoraConfig | None:
    if flags.lora_dim is None:
        for name in ("lora_alpha", "lora_module_name"):
            if getattr(flags, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise YayiError(f"{option} is given without --lora-dim; add it, as in --lora-dim 16")
        return None
    modules = _names(ALL_LINEAR if flags.lora_module_name is None else flags.lora_module_name)
    if not modules:
        raise YayiError(
            f"--lora-module-name names no layer; give names, as in q_proj,v_proj, or {ALL_LINEAR}"
        )
    return LoraConfig(flags.lora_dim, 32 if flags.lora_alpha is None else flags.lora_alpha, modules)


def _optimizer(shared: Shared) -> OptimizerConfig:
    return OptimizerConfig(
        lr=shared.lr,
        betas=list(shared.betas),
        eps=shared.eps,
        weight_decay=shared.weight_decay,
        scheduler=shared.scheduler,
        warmup_steps=shared.warmup_steps,
        gradient_clipping=shared.gradient_clipping,
    )


def _run(flags: Flags) -> RunConfig:
    return RunConfig(**{field.name: getattr(flags, field.name) for field in fields(RunConfig)})


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _weights(text: str | None) -> dict[str, float]:
    weights = {}
    for part in _names(text):
        name, equals, weight = part.rpartition("=")
        if name.strip() in weights:
            raise YayiError(f"--mix gives {name.strip()!r} two weights; expected one")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or not 0 <= weights.get(name.strip(), -1) < float("inf"):
            raise YayiError(
                f"--mix has {part!r}; expected NAME=WEIGHT with a weight of 0 or more, as in general=0.5"
            )
    return weights


def absolute(path: str) -> str:
    """Return a local path made absolute, so that the run can be read from anywhere; IDs and URLs as is."""
    return str(Path(path).resolve()) if Path(path).exists() else path
