"""The resolved configuration of a run: one frozen dataclass an organ, saved as JSON with the run."""

from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

from yayi_data.errors import YayiError
from yayi_train.deepspeed_file import Precision, Scheduler, Shared, read_deepspeed, settings, unsupported
from yayi_train.flags import Flags


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which conversations are trained on, and how they are laid into rows.

    `test_size` is a count, or a ratio below 1; `mix` gives repetitions per epoch by domain; `domains` is
    empty where all are trained on.
    """

    path: str
    seq_len: int
    packing: bool
    test_size: float
    mix: dict[str, float]
    domains: list[str]
    limit: int | None


@dataclass(frozen=True, slots=True)
class PackConfig:
    """How raw files are packed, with pack's own names; a packed folder has been through this."""

    template: str
    max_length: int
    on_long: str
    train_on: str
    on_problem: str
    domains: str | None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model to start from and how it is held."""

    path: str
    precision: Precision
    gradient_checkpointing: bool


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A low-rank adapter instead of a full run; its scale is alpha / dim."""

    dim: int
    alpha: float
    modules: list[str]


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW, its schedule and the gradient's largest norm (0 = no clipping)."""

    lr: float
    betas: list[float]
    eps: float
    weight_decay: float
    scheduler: Scheduler
    warmup_steps: int
    gradient_clipping: float


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """The layout a run asks for: rows per process and forward pass, forward passes per step."""

    train_rows: int
    eval_rows: int
    accumulation: int


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How long the run is, and when it logs, evaluates and saves."""

    epochs: int
    max_steps: int | None
    seed: int
    logging_steps: int
    eval_steps: int
    save_steps: int
    save_total_limit: int
    keep_best: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides a run's result, and what only decides its pace.

    `deepspeed` is the rest of the user's DeepSpeed config, with no "auto" left in it.
    """

    data: DataConfig
    pack: PackConfig
    model: ModelConfig
    lora: LoraConfig | None
    optimizer: OptimizerConfig
    batch: BatchConfig
    run: RunConfig
    deepspeed: dict[str, Any]

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage, 0 to 3."""
        return int(self.deepspeed["zero_optimization"]["stage"])

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        return asdict(self)


_LARGEST_SEED = 2**32 - 1
_ORGANS = {
    "data": DataConfig,
    "pack": PackConfig,
    "model": ModelConfig,
    "lora": LoraConfig,
    "optimizer": OptimizerConfig,
    "batch": BatchConfig,
    "run": RunConfig,
}


def from_dict(values: dict[str, Any]) -> Config:
    """Return the configuration that `to_dict` gave; an unknown or missing key is a YayiError naming it."""
    _check_keys(Config, values, "")
    organs: dict[str, Any] = {}
    for name, kind in _ORGANS.items():
        if values[name] is None and name == "lora":
            organs[name] = None
            continue
        _check_keys(kind, values[name], f"{name}/")
        organs[name] = kind(**values[name])
    return Config(**organs, deepspeed=values["deepspeed"])


def _check_keys(kind: type, values: dict[str, Any], place: str) -> None:
    expected = {field.name for field in fields(kind)}
    for key in sorted(expected ^ set(values)):
        found = "unknown" if key in values else "missing"
        raise YayiError(f"config: {place}{key} is {found}; the run was made by another version of yayi-train")


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
        template=flags.template,
        max_length=flags.max_length or flags.seq_len,
        on_long=flags.on_long,
        train_on=flags.train_on,
        on_problem=flags.on_problem,
        domains=str(flags.domains) if flags.domains else None,
    )


def _lora(flags: Flags) -> LoraConfig | None:
    if flags.lora_dim is None:
        if flags.lora_module_name != "all-linear":
            raise YayiError("--lora-module-name is given without --lora-dim; add it, as in --lora-dim 16")
        return None
    modules = _names(flags.lora_module_name)
    if not modules:
        raise YayiError("--lora-module-name names no layer; give names, as in q_proj,v_proj, or all-linear")
    return LoraConfig(flags.lora_dim, flags.lora_alpha, modules)


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


def same_run(old: Config, new: Config) -> list[str]:
    """Return what makes `new` another run than `old`, as `key: old, new` lines; empty where it continues it.

    What only sets the pace (logging, saving, evaluation's layout) and the layout of a step may change.
    """
    before, after = _flat(old.to_dict()), _flat(new.to_dict())
    keys = sorted(key for key in before.keys() | after.keys() if not key.startswith(_FREE))
    return [
        f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


_FREE = (
    "data/path",
    "pack/",
    "batch/",
    "run/logging_steps",
    "run/eval_steps",
    "run/save_",
    "run/keep_best",
    "model/gradient_checkpointing",
)
"""What may differ on resume. The data are compared by their digest, the batch by its rows over all ranks."""


def _flat(values: dict[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{place}{key}/")
        else:
            flat[f"{place}{key}"] = value
    return flat


def absolute(path: str) -> str:
    """Return a local path made absolute, so that the run can be read from anywhere; IDs and URLs as is."""
    return str(Path(path).resolve()) if Path(path).exists() else path
