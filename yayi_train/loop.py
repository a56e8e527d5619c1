"""The training loop: step, accumulate, log, evaluate, save."""

import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from yayi_data.console import one_line, say
from yayi_data.errors import YayiError
from yayi_train import checkpoint as checkpoints
from yayi_train.checkpoint import Checkpoint
from yayi_train.config import Config
from yayi_train.data import Corpus, Entries, Layout, Order, passes, place_of, supervised_tokens, test_rows
from yayi_train.engine import gradient_norm, rate_factor, tells_no_norm
from yayi_train.evaluate import Inputs, add_by_domain, eval_line, evaluate
from yayi_train.feed import read_batch
from yayi_train.loss import supervised_loss
from yayi_train.metrics import Log, Totals
from yayi_train.ranks import rank
from yayi_train.run_folder import RunFile

_stop_asked = False


def stop_on_signals() -> None:
    """Let SIGTERM and SIGUSR1 end the run after the step that they fall into."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _ask_to_stop)


def _ask_to_stop(_number: int, _frame: FrameType | None) -> None:
    global _stop_asked
    _stop_asked = True


@dataclass(slots=True)
class Training:
    """A run under way: what it trains, on what, and how far it is.

    `unlogged` are the totals since the last line of metrics.jsonl; `log` is None beside rank 0.
    """

    folder: Path
    file: RunFile
    config: Config
    corpus: Corpus
    order: Order
    layout: Layout
    engine: Any
    inputs: Inputs
    step: int
    unlogged: Totals
    log: Log | None = None
    logged_at: float = 0.0


def train(run: Training) -> bool:
    """Train to the last step; False where a signal ended the run before it."""
    pace, total = run.config.run, run.file.total_steps
    rows = test_rows(run.corpus, run.config.data, pace.seed) if len(run.corpus.test) else []
    run.logged_at = time.monotonic()
    while run.step < total:
        run.step += 1
        norm, stop = take_step(run)
        if run.step % pace.logging_steps == 0 or run.step == total:
            write_line(run, norm)
        evaluated = None
        if rows and (run.step % pace.eval_steps == 0 or run.step == total):
            evaluated = evaluate_now(run, rows)
        if run.step % pace.save_steps == 0 or stop or _is_best(run, evaluated):
            save(run, evaluated)
        if stop:
            break
    return run.step == total


def take_step(run: Training) -> tuple[float, bool]:
    """Take one optimizer step; return the gradient's norm and whether any rank was asked to stop.

    The model is left as it was where the loss is not a number.
    """
    engine, device = run.engine, run.engine.device
    batch = run.order.batch(run.step)
    scale = run.layout.world_size / max(1, supervised_tokens(run.corpus, batch))
    names = run.corpus.index.names
    sums = torch.zeros(2, len(names) + 1, dtype=torch.float64, device=device)
    torch.manual_seed(
        (run.config.run.seed * 1_000_003 + run.step) * 4099 + rank()
    )  # dropout resumes by itself
    own = passes(batch, run.layout, rank())
    for number, rows in enumerate(own, start=1):
        tensors = read_batch(run.corpus, rows, device)
        loss = supervised_loss(engine, tensors, run.inputs(tensors))
        add_by_domain(sums[:, :-1], loss)
        engine.backward(loss.sum * scale, scale_wrt_gas=False)
        if number < len(own):
            engine.step()
    sums[0, -1] = _stop_asked
    dist.all_reduce(sums)
    losses, supervised = sums[:, :-1].cpu().numpy()
    tokens = int(run.corpus.index.tokens[np.concatenate(batch)].sum())
    totals = Totals(losses, supervised, tokens)
    _refuse_nan(run, totals.loss, "loss", batch)
    norm = gradient_norm(engine) if tells_no_norm(run.config) else None
    engine.step()
    norm = float(engine.get_global_grad_norm() or 0) if norm is None else norm
    if run.config.model.precision != "fp16":  # there DeepSpeed skips such a step and lowers its loss scale
        _refuse_nan(run, norm, "gradient", batch)
    run.unlogged.add(totals)
    return norm, bool(sums[0, -1] > 0)


def _refuse_nan(run: Training, value: float, name: str, batch: Sequence[Entries]) -> None:
    """Raise YayiError naming the step's source lines where the loss or the gradient is no number."""
    if math.isfinite(value):
        return
    places = [place_of(run.corpus, int(entry)) for entry in np.concatenate(batch)]
    shown = ", ".join(f"{one_line(place.path)}:{place.line}" for place in places[:10])
    more = f" and {len(places) - 10} more" if len(places) > 10 else ""
    raise YayiError(
        f"step {run.step}: the {name} is {value}, on {shown}{more}; the checkpoints before it are kept: "
        f"look at these records, or continue from them with a lower --lr (yayi-train trace shows every step)"
    )


def write_line(run: Training, norm: float) -> None:
    """Write the line of metrics.jsonl for the steps since the last one."""
    now = time.monotonic()
    optimizer = run.config.optimizer
    totals, names = run.unlogged, run.corpus.index.names
    epoch, number = run.order.locate(run.step)
    if run.log:
        run.log.line(
            {
                "step": run.step,
                "epoch": round(epoch + (number + 1) / run.order.steps(epoch), 4),
                "loss": totals.loss,
                "lr": optimizer.lr * rate_factor(run.step - 1, optimizer, run.file.total_steps),
                "grad_norm": norm,
                "tokens": int(totals.tokens),
                "supervised_tokens": int(totals.supervised.sum()),
                "tokens_per_second": round(totals.tokens / max(1e-9, now - run.logged_at), 1),
                "loss_by_domain": totals.by_domain(names),
            }
        )
    run.logged_at = now
    run.unlogged = Totals.zero(len(names))


def evaluate_now(run: Training, rows: list[Entries]) -> float:
    """Evaluate on the test split, record it and return the loss."""
    began = time.monotonic()
    totals = evaluate(run.engine, run.inputs, run.corpus, rows, run.config.batch.eval_rows)
    if run.log:
        run.log.line(eval_line(run.step, totals, run.corpus.index.names))
    run.logged_at += time.monotonic() - began
    return totals.loss


def _is_best(run: Training, evaluated: float | None) -> bool:
    if evaluated is None or not run.config.run.keep_best:
        return False
    best = checkpoints.best(checkpoints.whole_checkpoints(run.folder))
    return best is None or best.eval_loss is None or evaluated < best.eval_loss


def save(run: Training, evaluated: float | None) -> None:
    """Save a checkpoint of this step and drop the oldest beyond the limit."""
    began = time.monotonic()
    if run.log:
        run.log.flush()
        run.file.epoch_steps = run.order.counted
        run.file.write(run.folder)
    saved = Checkpoint(
        path=run.folder / f"checkpoint-{run.step}",
        step=run.step,
        world_size=run.layout.world_size,
        zero_stage=run.config.zero_stage,
        eval_loss=evaluated,
        unlogged=run.unlogged.to_dict(),
    )
    checkpoints.save(run.engine, saved, trained_only=run.config.lora is not None)
    if rank() == 0:
        checkpoints.prune(run.folder, run.config.run.save_total_limit, keep_best=run.config.run.keep_best)
        say(f"saved {saved.path}")
    dist.barrier()
    run.logged_at += time.monotonic() - began
