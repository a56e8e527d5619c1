"""The resolved configuration of a run: one frozen dataclass an organ, saved as JSON with the run."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from yayi_data.errors import YayiError
from yayi_train.deepspeed_file import Precision, Scheduler


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


ALL_LINEAR = "all-linear"


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


def same_run(old: Config, new: Config) -> list[str]:
    """Return what makes `new` another run than `old`, each by its place; empty where it continues it."""
    before, after = deciding(old), deciding(new)
    return [
        f"{key} was {before.get(key)!r}, is {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def deciding(config: Config) -> dict[str, Any]:
    """Return what decides a run's numbers, as values by their place, such as `optimizer/lr`.

    What only sets the pace (logging, saving, evaluation's layout) and the layout of a step does not.
    """
    flat = _flat(config.to_dict())
    return {place: value for place, value in flat.items() if not place.startswith(_FREE)}


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
