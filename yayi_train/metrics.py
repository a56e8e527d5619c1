"""What a run tells: totals of steps, the progress line, metrics.jsonl, TensorBoard."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from yayi_data.console import on_terminal, say

METRICS, TENSORBOARD = "metrics.jsonl", "runs"


@dataclass(slots=True)
class Totals:
    """Sums over some steps and all ranks: loss and supervised tokens of each domain, and all tokens."""

    losses: NDArray[np.float64]
    supervised: NDArray[np.float64]
    tokens: float = 0.0

    @classmethod
    def zero(cls, domains: int) -> "Totals":
        """Return the totals of no step."""
        return cls(np.zeros(domains), np.zeros(domains))

    def add(self, other: "Totals") -> None:
        """Take another's sums up."""
        self.losses += other.losses
        self.supervised += other.supervised
        self.tokens += other.tokens

    @property
    def loss(self) -> float:
        """Mean loss of a supervised token; 0 where there is none."""
        return float(self.losses.sum() / max(1.0, self.supervised.sum()))

    def by_domain(self, names: list[str]) -> dict[str, float]:
        """Return the mean loss of each domain that has supervised tokens."""
        return {
            name: float(loss / count)
            for name, loss, count in zip(names, self.losses, self.supervised, strict=True)
            if count
        }

    def supervised_by_domain(self, names: list[str]) -> dict[str, int]:
        """Return the supervised tokens of each domain that has some."""
        return {name: int(count) for name, count in zip(names, self.supervised, strict=True) if count}

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as JSON values; floats survive the way there and back."""
        return {
            "losses": self.losses.tolist(),
            "supervised": self.supervised.tolist(),
            "tokens": self.tokens,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Totals":
        """Return the totals that `to_dict` gave."""
        return cls(np.array(values["losses"]), np.array(values["supervised"]), values["tokens"])


def cut_back(folder: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl after a step, and those that are damaged or were cut short."""
    path = folder / METRICS
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    steps = [_step_of(line) for line in lines]
    damaged = [number for number, found in enumerate(steps[:-1], start=1) if found is None]
    if damaged:
        say(f"warning: {path}:{damaged[0]} is no line of a run; dropped, {len(damaged)} such in all")
    partial = path.with_suffix(".partial")
    kept = [line for line, found in zip(lines, steps, strict=True) if found is not None and found <= step]
    partial.write_bytes(b"".join(kept))
    partial.replace(path)


def _step_of(line: bytes) -> int | None:
    """Return the step of a whole line, None where there is none."""
    try:
        step = orjson.loads(line)["step"] if line.endswith(b"\n") else None
    except (ValueError, TypeError, KeyError):
        return None
    return step if isinstance(step, int) else None


class Log:
    """Rank 0's records of a run, from `step` on: metrics.jsonl, TensorBoard and the line people watch."""

    def __init__(self, folder: Path, step: int, total_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        cut_back(folder, step)
        self._file = (folder / METRICS).open("ab")
        self._board: Any = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1)
        self._watch = _Bar(step, total_steps) if on_terminal() else _Lines(step, total_steps)

    def line(self, values: dict[str, Any]) -> None:
        """Record one line, of training or of an evaluation."""
        self._file.write(orjson.dumps(values) + b"\n")
        self._file.flush()
        for name, value in values.items():
            self._scalar(name, value, values["step"])
        self._watch.show(values)

    def _scalar(self, name: str, value: Any, step: int) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                self._board.add_scalar(f"{name}/{key}", part, step)
        elif name != "step" and value is not None:
            self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring everything to the disk, as before a checkpoint."""
        self._board.flush()
        self._file.flush()

    def close(self) -> None:
        """End the records."""
        self._watch.close()
        self._board.close()
        self._file.close()


def _text(values: dict[str, Any]) -> str:
    if "eval_loss" in values:
        return f"eval loss {values['eval_loss']:.4f}"
    return f"loss {values['loss']:.4f}  lr {values['lr']:.2e}  {values['tokens_per_second']:,.0f} tokens/s"


class _Bar:
    """One progress line on a terminal."""

    def __init__(self, step: int, total_steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("", total=total_steps, completed=step)
        self._progress.start()

    def show(self, values: dict[str, Any]) -> None:
        if "eval_loss" in values:
            self._progress.console.print(f"step {values['step']}: {_text(values)}", highlight=False)
        else:
            self._progress.update(self._task, completed=values["step"], description=_text(values))

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """Where stderr is a file: some twenty lines a run, and the evaluations."""

    def __init__(self, step: int, total_steps: int) -> None:
        self._total = total_steps
        self._every = max(1, total_steps // 20)
        self._next = step + 1
        self._began = (time.monotonic(), step)

    def show(self, values: dict[str, Any]) -> None:
        step = values["step"]
        if "eval_loss" in values:
            say(f"step {step}/{self._total}  {_text(values)}")
        elif step >= self._next or step == self._total:
            self._next = step + self._every
            say(f"step {step}/{self._total}  {_text(values)}  {self._left(step)} left")

    def _left(self, step: int) -> str:
        began, first = self._began
        seconds = int((time.monotonic() - began) / max(1, step - first) * (self._total - step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def close(self) -> None:
        """Nothing is left open."""
