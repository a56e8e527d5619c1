"""The training loop: step, accumulate, log, evaluate, save."""

import signal
import time
from dataclasses import dataclass
from types import FrameType

import torch.distributed as dist

from yayi_data.console import say
from yayi_train import checkpoint as checkpoints
from yayi_train.checkpoint import Checkpoint
from yayi_train.data import Entries, rows_of
from yayi_train.evaluate import eval_line, evaluate
from yayi_train.launcher import Launcher, has_gone
from yayi_train.metrics import Log, Totals
from yayi_train.ranks import rank
from yayi_train.step import Taken, Trainee, take_step

_stop_asked = False


def stop_on_signals() -> None:
    """Let SIGTERM and SIGUSR1 end the run after the step that they fall into."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _ask_to_stop)


def _ask_to_stop(_number: int, _frame: FrameType | None) -> None:
    global _stop_asked
    _stop_asked = True


@dataclass(slots=True)
class Progress:
    """How far a run is: the steps taken, the totals since the last line of metrics.jsonl, and when that was.

    `log` is None beside rank 0.
    """

    step: int
    unlogged: Totals
    log: Log | None
    logged_at: float = 0.0


def train(trainee: Trainee, progress: Progress, launcher: Launcher | None = None) -> bool:
    """Train to the last step; False where a signal or the end of the launcher ended the run before it."""
    start = trainee.start
    pace, total = start.config.run, start.file.total_steps
    rows = rows_of(start.corpus, start.corpus.test, start.config.data, pace.seed) if start.evaluates else []
    progress.logged_at = time.monotonic()
    while progress.step < total:
        progress.step = step = progress.step + 1
        stop_asked = _stop_asked or (launcher is not None and has_gone(launcher))
        taken = take_step(trainee, step, stop_asked=stop_asked)
        progress.unlogged.add(taken.totals)
        if step % pace.logging_steps == 0 or step == total:
            write_line(trainee, progress, taken)
        evaluated = None
        if rows and (step % pace.eval_steps == 0 or step == total):
            evaluated = evaluate_now(trainee, progress, rows)
        if step % pace.save_steps == 0 or taken.stop or _is_best(trainee, evaluated):
            save(trainee, progress, evaluated)
        if taken.stop:
            break
    return progress.step == total


def write_line(trainee: Trainee, progress: Progress, taken: Taken) -> None:
    """Write the line of metrics.jsonl for the steps since the last one."""
    start, step, totals = trainee.start, progress.step, progress.unlogged
    now = time.monotonic()
    epoch, number = start.order.locate(step)
    if progress.log:
        progress.log.line(
            {
                "step": step,
                "epoch": round(epoch + (number + 1) / start.order.steps(epoch), 4),
                "loss": totals.loss,
                "lr": taken.lr,
                "grad_norm": taken.norm,
                "tokens": int(totals.tokens),
                "supervised_tokens": int(totals.supervised.sum()),
                "tokens_per_second": round(totals.tokens / max(1e-9, now - progress.logged_at), 1),
                "loss_by_domain": totals.by_domain(start.corpus.index.names),
                "supervised_by_domain": totals.supervised_by_domain(start.corpus.index.names),
            }
        )
    progress.logged_at = now
    progress.unlogged = Totals.zero(len(start.corpus.index.names))


def evaluate_now(trainee: Trainee, progress: Progress, rows: list[Entries]) -> float:
    """Evaluate on the test split, record it and return the loss."""
    began, start = time.monotonic(), trainee.start
    totals = evaluate(trainee.engine, trainee.inputs, start.corpus, rows, start.config.batch.eval_rows)
    if progress.log:
        progress.log.line(eval_line(progress.step, totals, start.corpus.index.names))
    progress.logged_at += time.monotonic() - began  # tokens per second are training's
    return totals.loss


def _is_best(trainee: Trainee, evaluated: float | None) -> bool:
    if evaluated is None or not trainee.start.config.run.keep_best:
        return False
    best = checkpoints.best(checkpoints.whole_checkpoints(trainee.start.folder))
    return best is None or best.eval_loss is None or evaluated < best.eval_loss


def save(trainee: Trainee, progress: Progress, evaluated: float | None) -> None:
    """Save a checkpoint of this step and drop the oldest beyond the limit."""
    began, start, config = time.monotonic(), trainee.start, trainee.start.config
    saved = Checkpoint(
        path=start.folder / f"checkpoint-{progress.step}",
        step=progress.step,
        world_size=start.layout.world_size,
        zero_stage=config.zero_stage,
        eval_loss=evaluated,
        unlogged=progress.unlogged.to_dict(),
    )
    if progress.log:
        progress.log.flush()
        start.file.epoch_steps = start.order.counted
        start.file.write(start.folder)
    checkpoints.save(trainee.engine, saved, trained_only=config.lora is not None)
    if rank() == 0:
        checkpoints.prune(start.folder, config.run.save_total_limit, keep_best=config.run.keep_best)
        say(f"saved {saved.path}")
    dist.barrier()
    progress.logged_at += time.monotonic() - began
