"""The user's DeepSpeed config: read, checked key by key, every "auto" resolved from the flags.

What a flag can also set is taken out of the file (`Shared`); the rest goes to DeepSpeed as it stands.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from yayi_data.errors import YayiError
from yayi_train.deepspeed_rules import AUTO, fault
from yayi_train.flags import Flags
from yayi_train.ranks import world_size

WORDS = {f"zero{stage}": stage for stage in range(4)}

PASSED_ON = frozenset({
    "activation_checkpointing", "aio", "check_overflow", "checkpoint", "comms_logger",
    "communication_data_type", "csv_monitor", "data_types", "disable_allgather", "disable_python_gc",
    "dump_state", "flops_profiler", "memory_breakdown", "seq_parallel_communication_data_type",
    "steps_per_print", "tensorboard", "timers", "wall_clock_breakdown", "wandb", "comet",
    "zero_optimization",
})  # fmt: skip
"""Top-level keys that reach DeepSpeed as they are: they change how a step is computed, not what it is."""

TAKEN = frozenset({
    "bf16", "fp16", "gradient_accumulation_steps", "gradient_clipping", "optimizer",
    "scheduler", "train_batch_size", "train_micro_batch_size_per_gpu", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
})  # fmt: skip
"""Top-level keys that yayi-train reads itself."""

UNSUPPORTED = frozenset({
    "amp", "autotuning", "bfloat16", "compile", "compression_training", "curriculum_learning",
    "data_efficiency", "eigenvalue", "elasticity", "expert_parallel", "gradient_predivide_factor",
    "hybrid_engine", "pipeline", "prescale_gradients", "progressive_layer_drop", "quantize_training",
    "sequence_parallel_size", "sparse_attention", "sparse_gradients", "tensor_parallel",
    "torch_autocast", "zenflow",
})  # fmt: skip
"""Keys that DeepSpeed knows and that would change the loss, the batch or the model behind our back."""

SCHEDULERS: dict[str, str] = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
"""DeepSpeed's schedulers -> ours, which warm up linearly and never run a step at a learning rate of 0."""

Precision = Literal["fp32", "bf16", "fp16"]
Scheduler = Literal["linear", "cosine", "constant"]


class _Setting(NamedTuple):
    """What the file and a flag can set: Flags' field, the place in the file, the value where neither does."""

    flag: str
    pointer: str
    default: Any


_SETTINGS = (
    _Setting("per_device_train_batch_size", "train_micro_batch_size_per_gpu", 8),
    _Setting("gradient_accumulation_steps", "gradient_accumulation_steps", 1),
    _Setting("lr", "optimizer/params/lr", 5e-6),
    _Setting("weight_decay", "optimizer/params/weight_decay", 0.0),
    _Setting("scheduler", "scheduler/type", "linear"),
    _Setting("warmup_steps", "scheduler/params/warmup_num_steps", 0),
    _Setting("bf16", "bf16/enabled", False),
)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the file or the flags decided."""

    train_rows: int
    accumulation: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    scheduler: Scheduler
    warmup_steps: int
    gradient_clipping: float
    precision: Precision


class DeepSpeedFile(NamedTuple):
    """A DeepSpeed config and the name to call it by in messages."""

    name: str
    values: dict[str, Any]

    def get(self, pointer: str) -> Any:
        """Return the value at a/b/c, None where there is none."""
        value: Any = self.values
        for key in pointer.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def rest(self) -> dict[str, Any]:
        """Return what is passed on to DeepSpeed, ZeRO's autos left to DeepSpeed's own defaults."""
        rest = {
            key: deepcopy(value) for key, value in self.values.items() if key in PASSED_ON or key == "fp16"
        }
        rest["zero_optimization"] = _without_auto(rest.get("zero_optimization", {}))
        rest["zero_optimization"].setdefault("stage", 0)
        fp16 = rest.pop("fp16", {})
        if fp16.get("enabled") is True:
            rest["fp16"] = _without_auto(fp16)
        left = next(_autos(rest), None)
        if left:
            raise YayiError(f'{self.name}: {left} is "auto", which no flag decides; give it a value')
        return rest


def read_deepspeed(name: str) -> DeepSpeedFile:
    """Read a config file, or make one of the words zero0 … zero3; what is unknown or wrong is refused."""
    if name in WORDS:
        return DeepSpeedFile(f"--deepspeed {name}", {"zero_optimization": {"stage": WORDS[name]}})
    try:
        values = orjson.loads(Path(name).read_bytes())
    except OSError as error:
        raise YayiError(
            f"--deepspeed {name}: {error.strerror}; give a DeepSpeed config file, or {', '.join(WORDS)}"
        ) from None
    except ValueError as error:
        raise YayiError(f"{name}: is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise YayiError(f"{name}: is not a DeepSpeed config; expected a JSON object")
    unknown = sorted(values.keys() - PASSED_ON - TAKEN - UNSUPPORTED)
    if unknown:
        raise YayiError(f"{name}: DeepSpeed has no key {', '.join(map(repr, unknown))}; remove or correct it")
    wrong = fault(values)
    if wrong:
        raise YayiError(f"{name}: {wrong}")
    return DeepSpeedFile(name, values)


def unsupported(values: dict[str, Any]) -> str | None:
    """Return what DeepSpeed would take and yayi-train cannot, None where all is fine."""
    for key in sorted(values.keys() & UNSUPPORTED):
        if not _is_off(values[key]):
            return f"{key} is not supported by yayi-train; remove it"
    for key in ("writer", "checkpoint_serialization"):
        if key in values.get("checkpoint", {}):
            return f"checkpoint/{key} is not supported, as a checkpoint is known to be whole; remove it"
    zero = values.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in WORDS.values():
        return f"zero_optimization/stage is {stage!r}; expected 0, 1, 2 or 3"
    if stage == 0 and zero.get("offload_optimizer"):
        return "zero_optimization/offload_optimizer needs a stage of 1 or more"
    if stage < 3 and zero.get("offload_param"):
        return "zero_optimization/offload_param needs stage 3"
    return None


def _is_off(value: Any) -> bool:
    """Tell whether a setting is switched off, or 1 where it is a factor or a size."""
    if isinstance(value, dict):
        return value.get("enabled") is False
    return value is None or value is False or (value == 1 and value is not True)


def settings(file: DeepSpeedFile, flags: Flags) -> Shared:
    """Return what the file and the flags decide together; YayiError where they contradict each other."""
    rows, accumulation, lr, decay, scheduler, warmup, bf16 = (_setting(file, flags, s) for s in _SETTINGS)
    kind = file.get("optimizer/type")
    if kind not in (None, "AdamW", "Adam"):
        raise YayiError(f"{file.name}: optimizer/type is {kind!r}; yayi-train has AdamW only")
    _check_scheduler(file, lr)
    fp16 = file.get("fp16/enabled") is True
    if fp16 and bf16:
        raise YayiError(f"{file.name}: fp16 and bf16 are both on; choose one")
    return Shared(
        train_rows=rows,
        accumulation=_accumulation(file, flags, rows, accumulation),
        lr=lr,
        betas=tuple(_number(file, "optimizer/params/betas", (0.9, 0.999))),
        eps=_number(file, "optimizer/params/eps", 1e-8),
        weight_decay=decay,
        scheduler=SCHEDULERS.get(scheduler, scheduler),
        warmup_steps=warmup,
        gradient_clipping=_number(file, "gradient_clipping", 1.0),
        precision="bf16" if bf16 else "fp16" if fp16 else "fp32",
    )


def _setting(file: DeepSpeedFile, flags: Flags, setting: _Setting) -> Any:
    flag, value = getattr(flags, setting.flag), file.get(setting.pointer)
    if value in (None, AUTO):
        return setting.default if flag is None else flag
    value = SCHEDULERS.get(value, value) if setting.flag == "scheduler" else value
    if flag is not None and flag != value:
        name = setting.flag.replace("_", "-")
        raise YayiError(
            f"{file.name}: {setting.pointer} is {value!r} but --{name} is {flag!r}; "
            'make them equal, or write "auto" in the file'
        )
    return value


def _number(file: DeepSpeedFile, pointer: str, default: Any) -> Any:
    value = file.get(pointer)
    return default if value in (None, AUTO) else value


def _check_scheduler(file: DeepSpeedFile, lr: float) -> None:
    """Refuse what our scheduler would do otherwise than the file says."""
    kind = file.get("scheduler/type")
    if kind not in (None, AUTO, *SCHEDULERS):
        raise YayiError(f"{file.name}: scheduler/type is {kind!r}; expected {', '.join(SCHEDULERS)}")
    expected = {
        "warmup_type": "linear", "warmup_min_lr": 0, "warmup_min_ratio": 0, "warmup_max_lr": lr,
        "cos_min_ratio": 0, "last_batch_iteration": -1,
    }  # fmt: skip
    for name, value in expected.items():
        found = file.get(f"scheduler/params/{name}")
        if found not in (None, AUTO, value):
            raise YayiError(
                f'{file.name}: scheduler/params/{name} is {found!r}; expected {value!r} or "auto" '
                "(the learning rate rises linearly from 0 to --lr, and falls to 0)"
            )
    total = file.get("scheduler/params/total_num_steps")
    if total not in (None, AUTO):
        raise YayiError(
            f'{file.name}: scheduler/params/total_num_steps is {total!r}; write "auto": '
            "it follows from the data and --epochs, or give --max-steps"
        )


def _accumulation(file: DeepSpeedFile, flags: Flags, rows: int, accumulation: int) -> int:
    """Return the forward passes per step; a `train_batch_size` in the file must fit, or decides them."""
    total = file.get("train_batch_size")
    if total in (None, AUTO):
        return accumulation
    per_pass = rows * world_size()
    given = flags.gradient_accumulation_steps is not None or file.get("gradient_accumulation_steps") not in (
        None,
        AUTO,
    )
    if (given and total != per_pass * accumulation) or total % per_pass:
        raise YayiError(
            f"{file.name}: train_batch_size is {total}, but {rows} rows x {world_size()} processes"
            f"{f' x {accumulation} accumulation steps' if given else ''} do not make it; "
            'write "auto", or change --per-device-train-batch-size'
        )
    return int(total // per_pass)


def _without_auto(section: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in section.items()
        if value != AUTO
    }


def _autos(values: dict[str, Any], place: str = "") -> Any:
    for key, value in values.items():
        if value == AUTO:
            yield f"{place}{key}"
        elif isinstance(value, dict):
            yield from _autos(value, f"{place}{key}/")
