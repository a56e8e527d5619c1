"""What the keys of a DeepSpeed config must be where yayi-train reads them: one table, checked at once."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

AUTO = "auto"


class _Rule(NamedTuple):
    """What stands at a place: a kind of _KINDS, and the least number."""

    pointer: str
    kind: str
    minimum: float = -math.inf


_SECTIONS = (
    "activation_checkpointing", "aio", "bf16", "checkpoint", "comet", "comms_logger", "csv_monitor",
    "data_types", "flops_profiler", "fp16", "optimizer", "optimizer/params", "scheduler", "scheduler/params",
    "tensorboard", "timers", "wandb", "zero_optimization",
)  # fmt: skip

_RULES = (
    *(_Rule(section, "an object") for section in _SECTIONS),
    _Rule("bf16/enabled", "true or false"),
    _Rule("fp16/auto_cast", "true or false"),
    _Rule("fp16/consecutive_hysteresis", "true or false"),
    _Rule("fp16/enabled", "true or false"),
    _Rule("fp16/hysteresis", "a whole number", 0),
    _Rule("fp16/initial_scale_power", "a whole number", 0),
    _Rule("fp16/loss_scale", "a number", 0),
    _Rule("fp16/loss_scale_window", "a whole number", 1),
    _Rule("fp16/min_loss_scale", "a whole number", 1),
    _Rule("gradient_accumulation_steps", "a whole number", 1),
    _Rule("gradient_clipping", "a number", 0),
    _Rule("optimizer/params/adam_w_mode", "true"),
    _Rule("optimizer/params/betas", "two numbers from 0 to below 1"),
    _Rule("optimizer/params/eps", "a number", 0),
    _Rule("optimizer/params/lr", "a number", 0),
    _Rule("optimizer/params/torch_adam", "true or false"),
    _Rule("optimizer/params/weight_decay", "a number", 0),
    _Rule("optimizer/type", "a string"),
    _Rule("scheduler/params/cos_min_ratio", "a number", 0),
    _Rule("scheduler/params/last_batch_iteration", "a whole number"),
    _Rule("scheduler/params/total_num_steps", "a whole number", 1),
    _Rule("scheduler/params/warmup_max_lr", "a number", 0),
    _Rule("scheduler/params/warmup_min_lr", "a number", 0),
    _Rule("scheduler/params/warmup_min_ratio", "a number", 0),
    _Rule("scheduler/params/warmup_num_steps", "a whole number", 0),
    _Rule("scheduler/params/warmup_type", "a string"),
    _Rule("scheduler/type", "a string"),
    _Rule("steps_per_print", "a whole number", 1),
    _Rule("train_batch_size", "a whole number", 1),
    _Rule("train_micro_batch_size_per_gpu", "a whole number", 1),
    _Rule("wall_clock_breakdown", "true or false"),
    _Rule("zero_optimization/offload_optimizer", "an object or null"),
    _Rule("zero_optimization/offload_param", "an object or null"),
    _Rule("zero_optimization/stage", "a whole number"),
)

_CLOSED = ("bf16", "fp16", "optimizer", "optimizer/params", "scheduler", "scheduler/params")
"""Sections of which every key must be in the table: any other would be ignored."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_betas(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(v) and 0 <= v < 1 for v in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "an object": lambda value: isinstance(value, dict),
    "an object or null": lambda value: value is None or isinstance(value, dict),
    "a string": lambda value: isinstance(value, str),
    "true": lambda value: value is True,
    "true or false": lambda value: isinstance(value, bool),
    "a whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "a number": _is_number,
    "two numbers from 0 to below 1": _are_betas,
}


def fault(values: dict[str, Any]) -> str | None:
    """Return the first key whose value is of a wrong kind or that nothing reads, None where all is fine.

    "auto" and null may stand in place of any value but a section.
    """
    for rule in _RULES:
        section, _, key = rule.pointer.rpartition("/")
        inside = _at(values, section)
        if key in inside and not _fits(rule, inside[key]):
            least = f" of {rule.minimum:g} or more" if rule.minimum > -math.inf else ""
            return f"{rule.pointer} is {inside[key]!r}; expected {rule.kind}{least}"
    for section in _CLOSED:
        known = [r.pointer.rpartition("/")[2] for r in _RULES if r.pointer.rpartition("/")[0] == section]
        for key in sorted(_at(values, section).keys() - set(known)):
            return f"{section}/{key} is not known; expected {', '.join(known)}"
    return None


def _at(values: dict[str, Any], section: str) -> dict[str, Any]:
    """Return the section at a/b, empty where there is none; rules of sections come before their keys'."""
    for key in filter(None, section.split("/")):
        values = values.get(key, {})
    return values


def _fits(rule: _Rule, value: Any) -> bool:
    if not rule.kind.startswith("an object") and (value is None or value == AUTO):
        return True
    if not _KINDS[rule.kind](value):
        return False
    return not _is_number(value) or bool(value >= rule.minimum)
