"""One optimizer step: forward and backward passes under the exact denominator, then AdamW."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_train.data import Entries, passes, place_of, supervised_tokens
from yayi_train.engine import gradient_norm, tells_no_norm
from yayi_train.evaluate import Inputs, add_by_domain
from yayi_train.feed import read_batch
from yayi_train.loss import supervised_loss
from yayi_train.metrics import Totals
from yayi_train.ranks import rank
from yayi_train.start import Start


@dataclass(frozen=True, slots=True)
class Trainee:
    """What is trained, and on what."""

    start: Start
    engine: Any
    inputs: Inputs


class Taken(NamedTuple):
    """What a step gave: totals over all ranks, learning rate, gradient norm, whether a rank was to stop."""

    totals: Totals
    lr: float
    norm: float
    stop: bool


def take_step(trainee: Trainee, step: int, *, stop_asked: bool) -> Taken:
    """Take a step; YayiError, with the model as it was, where the loss is no number."""
    start = trainee.start
    batch = start.order.batch(step)
    # Dropout, where a model has it, follows from the step too, so that resuming needs no random state.
    torch.manual_seed((start.config.run.seed * 1_000_003 + step) * 4099 + rank())
    sums = _accumulate(trainee, batch, stop_asked=stop_asked)
    dist.all_reduce(sums)
    losses, supervised = sums[:, :-1].cpu().numpy()
    totals = Totals(losses, supervised, int(start.corpus.index.tokens[np.concatenate(batch)].sum()))
    _refuse_nan(start, step, "loss", totals.loss)
    lr = float(trainee.engine.get_lr()[0])  # a step that fp16 skips does not move the schedule on
    norm = _update(trainee)
    if start.config.model.precision != "fp16":  # where DeepSpeed skips such a step and lowers its loss scale
        _refuse_nan(start, step, "gradient", norm)
    return Taken(totals, lr, norm, bool(sums[0, -1] > 0))


def _accumulate(trainee: Trainee, batch: Sequence[Entries], *, stop_asked: bool) -> torch.Tensor:
    """Run this rank's passes, all but the last with their engine step, which only accumulates.

    Returns the losses and supervised tokens per domain (2, domains + 1); the last column holds `stop_asked`.
    """
    start, engine = trainee.start, trainee.engine
    scale = start.layout.world_size / max(1, supervised_tokens(start.corpus, batch))
    shape = (2, len(start.corpus.index.names) + 1)
    sums = torch.zeros(shape, dtype=torch.float64, device=engine.device)
    sums[0, -1] = stop_asked
    own = passes(batch, start.layout, rank())
    for number, rows in enumerate(own, start=1):
        tensors = read_batch(start.corpus, rows, engine.device)
        loss = supervised_loss(engine, tensors, trainee.inputs(tensors))
        add_by_domain(sums[:, :-1], loss)
        engine.backward(loss.sum * scale, scale_wrt_gas=False)
        if number < len(own):
            engine.step()
    return sums


def _update(trainee: Trainee) -> float:
    """Let the optimizer take its step and return the norm of the gradients before clipping."""
    engine = trainee.engine
    norm = gradient_norm(engine) if tells_no_norm(trainee.start.config) else None
    engine.step()
    return float(engine.get_global_grad_norm() or 0.0) if norm is None else norm


def _refuse_nan(start: Start, step: int, name: str, value: float) -> None:
    """Raise YayiError naming the step's source lines where the loss or the gradient is no number."""
    if math.isfinite(value):
        return
    places = [place_of(start.corpus, int(entry)) for entry in np.concatenate(start.order.batch(step))]
    shown = ", ".join(f"{one_line(place.path)}:{place.line}" for place in places[:10])
    more = f" and {len(places) - 10} more (yayi-train trace shows all)" if len(places) > 10 else ""
    raise YayiError(
        f"step {step}: the {name} is {value}, on {shown}{more}; the checkpoints before it are kept: "
        "look at these records, or start anew with a lower --lr"
    )
