"""Config -> DeepSpeed engine, and the schedule of the learning rate."""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yayi_data.errors import YayiError
from yayi_train.config import Config, OptimizerConfig
from yayi_train.data import Layout
from yayi_train.quiet import in_brief
from yayi_train.ranks import complete_environment, local_rank, rank, world_size

NEVER = 10**12


def start_processes() -> torch.device:
    """Join the processes of the run and return this one's device."""
    complete_environment()
    _choose_device()
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    deepspeed = import_deepspeed()
    if not on_gpu:
        # Every start on a CPU would compile this operator, for about a minute; gloo needs none.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if on_gpu else "gloo", verbose=False)
    if on_gpu:
        torch.cuda.set_device(local_rank())
        return torch.device("cuda", local_rank())
    return torch.device("cpu")


def import_deepspeed() -> Any:
    """Import DeepSpeed with its talk turned down to warnings that matter."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


def _choose_device() -> None:
    """Let a process that was given one GPU use it, as SLURM may give them out; refuse missing ones.

    DeepSpeed's launcher names as many devices as it starts processes, there or not.
    """
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or local_rank() < count:
        return
    if count != 1 or "," in os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        raise YayiError(
            f"process {local_rank()} of this node has no GPU, there are {count}; lower --num_gpus"
        )
    os.environ["LOCAL_RANK"] = "0"  # where DeepSpeed looks too


@contextmanager
def peers() -> Iterator[None]:
    """Turn the loss of another process into a YayiError."""
    try:
        yield
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        raise YayiError(
            f"rank {rank()} lost another process of the run ({_reason(error)}); its own message says "
            "why; the same command continues from the last checkpoint"
        ) from error


def lost_peer(error: Exception) -> bool:
    """Tell whether an error is the loss of another process."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def of_machine(error: Exception) -> bool:
    """Tell whether an error is the loss of another process or of memory: no fault of a file or a config."""
    return lost_peer(error) or isinstance(error, torch.OutOfMemoryError)


def _reason(error: RuntimeError) -> str:
    return str(error).partition("] ")[2].partition(". ")[0] or type(error).__name__


def stop_processes() -> None:
    """Leave the process group; a rank that goes without this makes gloo abort the others."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def build_engine(
    model: nn.Module, config: Config, layout: Layout, total_steps: int, *, universal: bool
) -> Any:
    """Return the DeepSpeed engine of a model; `universal` makes it load checkpoints of another world size."""
    optimizer = _optimizer(model, config)
    with _accepted():
        engine, *_ = import_deepspeed().initialize(
            model=model,
            optimizer=optimizer,
            config=deepspeed_config(config, layout, universal=universal),
            lr_scheduler=lambda wrapped: torch.optim.lr_scheduler.LambdaLR(
                wrapped, lambda done: rate_factor(done, config.optimizer, total_steps)
            ),
        )
    return engine


@contextmanager
def _accepted() -> Iterator[None]:
    """Turn what DeepSpeed raises over a config, which can be of any type, into a YayiError."""
    try:
        yield
    except Exception as error:
        if of_machine(error):
            raise
        said = f"{type(error).__name__}: {in_brief(error)}"
        raise YayiError(
            f"--deepspeed: DeepSpeed does not start with this config ({said}); "
            "change what it names, or see --debug"
        ) from error


def deepspeed_config(config: Config, layout: Layout, *, universal: bool = False) -> dict[str, Any]:
    """Return what DeepSpeed is given: the user's sections, and ours in place of what the flags decide."""
    checkpoint = config.deepspeed.get("checkpoint", {})
    return {
        "steps_per_print": NEVER,
        **config.deepspeed,
        "train_micro_batch_size_per_gpu": layout.rows,
        "gradient_accumulation_steps": layout.accumulation,
        "gradient_clipping": config.optimizer.gradient_clipping,
        "bf16": {"enabled": config.model.precision == "bf16"},
        "fp16": {**config.deepspeed.get("fp16", {}), "enabled": config.model.precision == "fp16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": _compiled_offload(config),
        "checkpoint": {**checkpoint, "load_universal": universal},
    }


def refuse_unsupported(config: Config) -> None:
    """Raise YayiError for a precision this machine lacks, or for a false key or value of the ZeRO section."""
    import_deepspeed()
    from deepspeed.accelerator import get_accelerator

    device, precision = get_accelerator(), config.model.precision
    able = {"fp32": True, "fp16": device.is_fp16_supported(), "bf16": device.is_bf16_supported()}
    if not able[precision]:
        others = " or ".join(name for name in able if able[name])
        raise YayiError(
            f"{precision} does not train on this machine's {device.device_name()}; choose {others}"
        )
    _refuse_unknown_sections(config)


def _refuse_unknown_sections(config: Config) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    try:
        DeepSpeedZeroConfig(**config.deepspeed["zero_optimization"])
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"]))
        raise YayiError(
            f"--deepspeed: zero_optimization/{place}: {first['msg']}; remove or correct it"
        ) from None


def _compiled_offload(config: Config) -> bool:
    """Tell whether the optimizer is DeepSpeed's for states in CPU memory, which has to be compiled."""
    offload = config.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    return torch.cuda.is_available() and offload.get("device", "none") != "none"


def _optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return AdamW over the trained parameters; weight decay is for matrices, not for norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    o = config.optimizer
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": o.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    settings: dict[str, Any] = {"lr": o.lr, "betas": tuple(o.betas), "eps": o.eps}
    if _compiled_offload(config):
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        cpu_adam: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, **settings, adamw_mode=True)
        return cpu_adam
    return torch.optim.AdamW(groups, **settings, fused=True)


def rate_factor(done: int, optimizer: OptimizerConfig, total_steps: int) -> float:
    """Return the learning rate of the step after `done` steps, as a share of the highest; never 0."""
    if done < optimizer.warmup_steps:
        return (done + 1) / optimizer.warmup_steps
    left = max(0, total_steps - done) / max(1, total_steps - optimizer.warmup_steps)
    return _DECAY[optimizer.scheduler](left)


_DECAY: dict[str, Callable[[float], float]] = {
    "constant": lambda left: 1.0,
    "linear": lambda left: left,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,
}
"""What is left of the highest rate, by the share of the decay that is left."""


def gradient_norm(engine: Any) -> float:
    """Return the norm of the averaged gradients of the step about to be taken, before clipping.

    Only ZeRO 0 in fp32 has them at hand; the others tell theirs after the step (get_global_grad_norm).
    """
    gradients = [p.grad for p in _trained(engine) if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _trained(engine: Any) -> Iterable[nn.Parameter]:
    return (p for p in engine.module.parameters() if p.requires_grad)


def tells_no_norm(config: Config) -> bool:
    """Tell whether DeepSpeed's engine keeps the gradient norm to itself (ZeRO 0 in fp32)."""
    return config.zero_stage == 0 and config.model.precision == "fp32"


def agree(value: Any) -> list[Any]:
    """Return every rank's `value`, in the order of the ranks."""
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
