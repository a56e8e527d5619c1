"""run.json: what a run is, who has worked on it, and whether a new start continues it."""

import platform
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from yayi_data.atomic import write_atomically
from yayi_data.errors import YayiError
from yayi_train.config import Config, from_dict, same_run
from yayi_train.data import Layout

RUN, FINAL, LOCK = "run.json", "final", "run.lock"
_BEFORE_RUN = ("data", LOCK, "run.*.tmp")
"""What a killed start may have left in its folder before run.json was there."""

_PACKAGES = ("yayi-tune", "torch", "transformers", "deepspeed", "peft", "tokenizers", "numpy", "pyarrow")


@dataclass(slots=True)
class RunFile:
    """The content of run.json.

    `data` is the packed folder or its s3 URL, `digest` its manifest's; `base` is the fingerprint of the model
    to start from, empty before it is known; `global_rows` are the rows of a step
    over all ranks; `starts` lists, for every start, the step it began after and its layout; `epoch_steps` are
    the steps of the epochs counted so far.
    """

    config: Config
    data: str
    digest: str
    global_rows: int
    total_steps: int
    versions: dict[str, str]
    base: str = ""
    starts: list[dict[str, int]] = field(default_factory=list)
    epoch_steps: list[int] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write run.json in one step."""
        values = {name: getattr(self, name) for name in self.__slots__} | {"config": self.config.to_dict()}
        write_atomically(folder / RUN, orjson.dumps(values, option=orjson.OPT_INDENT_2))

    def layout(self, step: int) -> Layout:
        """Return the layout under which a step ran: that of the last start before it."""
        start = [start for start in self.starts if start["step"] < step][-1]
        return Layout(start["world_size"], start["rows"], start["accumulation"])

    def begin(self, step: int, layout: Layout) -> None:
        """Note that a start continues after `step`; what earlier starts did beyond it is undone."""
        self.starts = [start for start in self.starts if start["step"] < step]
        self.starts.append({"step": step, **layout._asdict()})


def read_run(folder: Path) -> RunFile | None:
    """Return the content of a folder's run.json, None where there is none."""
    path = folder / RUN
    try:
        values = orjson.loads(path.read_bytes())
        return _checked(RunFile(**(values | {"config": from_dict(values["config"])})))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise YayiError(f"{path}: is not a run of this yayi-train ({error}); use another folder") from None


def _checked(file: RunFile) -> RunFile:
    """Return `file`; ValueError where a value is not what RunFile says, as in a file that somebody edited."""
    for name, kind in _KINDS.items():
        if type(getattr(file, name)) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    numbers: list[object] = list(file.epoch_steps)
    for start in file.starts:
        numbers += [start[key] for key in ("step", *Layout._fields)]
    if not all(type(number) is int for number in numbers):
        raise ValueError("starts or epoch_steps hold something else than numbers")
    return file


_KINDS = {
    "data": str,
    "digest": str,
    "global_rows": int,
    "total_steps": int,
    "versions": dict,
    "base": str,
    "starts": list,
    "epoch_steps": list,
}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def refuse_other_run(folder: Path, old: RunFile, new: Config, digest: str) -> None:
    """Raise YayiError unless a start with this configuration and data continues the folder's run."""
    differences = same_run(old.config, new)
    if old.digest != digest:
        differences.append(f"the data was {old.digest[:12]} ({old.data}), is {digest[:12]}")
    if differences:
        raise YayiError(
            f"{folder}: holds another run: {'; '.join(differences)}; "
            "choose another --local-output-dir, or --no-resume to replace it"
        )


def refuse_other_base(folder: Path, file: RunFile, base: str) -> None:
    """Raise YayiError unless the run started from the model whose fingerprint is `base`, or starts now."""
    if file.base not in ("", base):
        raise YayiError(
            f"{folder}: the model in {file.config.model.path} is another than the run started from (it was "
            f"{file.base[:12]}, is {base[:12]}); put that one back, choose another --local-output-dir, or "
            "--no-resume to replace the run"
        )


def layout_for(folder: Path, old: RunFile | None, config: Config, world_size: int) -> Layout:
    """Return the layout of a start: the flags' at first, afterwards one that makes the run's global batch.

    Rows per forward pass are then the flag's, or fewer where those do not fit.
    """
    asked = Layout(world_size, config.batch.train_rows, config.batch.accumulation)
    if old is None or old.global_rows == asked.global_rows:
        return asked
    per_rank, rest = divmod(old.global_rows, world_size)
    if rest:
        raise YayiError(
            f"{folder}: its steps have {old.global_rows} rows, which {world_size} processes cannot share; "
            f"start a number of processes that divides {old.global_rows}"
        )
    rows = max(rows for rows in range(1, min(asked.rows, per_rank) + 1) if per_rank % rows == 0)
    return Layout(world_size, rows, per_rank // rows)


def refuse_foreign(folder: Path) -> None:
    """Raise YayiError where a folder holds files but no run of ours (packed raw data may be there)."""
    if folder.exists() and not folder.is_dir():
        raise YayiError(f"{folder}: is a file; --local-output-dir is a folder")
    if folder.is_dir() and not (folder / RUN).exists():
        names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if not any(fnmatch(name, known) for known in _BEFORE_RUN)]
        if others:
            raise YayiError(
                f"{folder}: holds {others[0]} and no {RUN}, so it is not a run's folder; choose an empty one"
            )


def lock_of(folder: Path) -> FileLock:
    """Return the lock that a run holds on its folder from its start to its end."""
    return FileLock(folder / LOCK, blocking=False)


def take(lock: FileLock, folder: Path) -> None:
    """Take the lock on a run's folder; YayiError where another start has it."""
    try:
        lock.acquire()
    except Timeout:
        raise YayiError(
            f"{folder}: another start of this run is at work in it; wait for its end, or stop it first"
        ) from None


def remove_run(folder: Path) -> None:
    """Remove a run and all it wrote, the packed data apart."""
    for path in [*folder.glob("checkpoint-*"), folder / "runs", folder / FINAL]:
        shutil.rmtree(path, ignore_errors=True)
    for name in ("metrics.jsonl", RUN):
        (folder / name).unlink(missing_ok=True)
