"""A run from its flags to `final/`."""

from typing import TYPE_CHECKING

from filelock import FileLock

from yayi_data.console import say
from yayi_train.checkpoint import Checkpoint, last_checkpoint, remove_partial
from yayi_train.flags import Flags
from yayi_train.launcher import Launcher, end_with_parent, find_launcher
from yayi_train.notices import idle_flags, kept_batch, size, warnings
from yayi_train.ranks import rank, refuse_unnumbered
from yayi_train.run_folder import FINAL, lock_of, refuse_other_base, remove_run, take
from yayi_train.start import Start, decide

if TYPE_CHECKING:
    import torch

    from yayi_train.vocabulary import Vocabulary


def run(flags: Flags) -> None:
    """Train as the flags say, or continue the run in their folder; --dry-run only tells what it would do."""
    refuse_unnumbered()
    launcher = find_launcher()
    start = decide(flags)
    idle = idle_flags(flags, start)
    if idle:
        _say_once(idle)
    if start.finished and not flags.dry_run:
        _say_once(f"{start.folder}: the run is finished; its model is in {start.folder / FINAL}")
        return
    from yayi_train.engine import refuse_unsupported
    from yayi_train.quiet import quiet_libraries
    from yayi_train.skeleton import refuse_early

    quiet_libraries()
    refuse_unsupported(start.config)
    vocabulary = refuse_early(start.config, start.corpus.folder)
    _name_base(start)
    if flags.dry_run:
        _tell_plan(start, vocabulary)
    else:
        _train(start, vocabulary, launcher)


def _say_once(message: str) -> None:
    if rank() == 0:
        say(message)


def _name_base(start: Start) -> None:
    """Note which model the run starts from; YayiError where it started from another."""
    from yayi_train.model import fingerprint, model_folder

    base = fingerprint(model_folder(start.config.model.path))
    refuse_other_base(start.folder, start.file, base)
    start.file.base = base


def _tell_plan(start: Start, vocabulary: "Vocabulary") -> None:
    from yayi_train.dry_run import as_text, memory_by_stage, plan_of

    if rank() == 0:
        memory = memory_by_stage(start.config, vocabulary, start.layout.world_size)
        print(as_text(plan_of(start), memory))


def _train(start: Start, vocabulary: "Vocabulary", launcher: Launcher | None) -> None:
    from yayi_train import engine

    if launcher:
        end_with_parent()
    device = engine.start_processes()
    with engine.peers():
        _train_together(start, vocabulary, device, launcher)
        engine.stop_processes()


def _train_together(
    start: Start, vocabulary: "Vocabulary", device: "torch.device", launcher: Launcher | None
) -> None:
    from yayi_train import loop
    from yayi_train.agreement import first_decides, refuse_differences, refuse_unshared
    from yayi_train.attention import base_model
    from yayi_train.build import build, export

    refuse_differences(start)
    lock = lock_of(start.folder)
    last = first_decides(lambda: _begin(start, lock))
    refuse_unshared(start.folder)
    trainee, progress = build(start, vocabulary, device, last)
    if rank() == 0:
        positions = getattr(base_model(trainee.engine).config, "max_position_embeddings", None)
        _announce(start, progress.step, positions)
    loop.stop_on_signals()
    try:
        finished = loop.train(trainee, progress, launcher)
    finally:
        if progress.log:
            progress.log.close()
    if finished:
        export(trainee, vocabulary)
    else:
        _say_once(f"stopped after step {progress.step}; the same command continues the run")


def _begin(start: Start, lock: FileLock) -> Checkpoint | None:
    """Take the folder, make room in it, note this start in run.json, and return the checkpoint to go on from.

    run.json comes before all else that a run writes, as a folder without it is not taken for a run's.
    """
    start.folder.mkdir(parents=True, exist_ok=True)
    take(lock, start.folder)
    if start.replaces:
        say(f"{start.folder}: the run that was here is replaced (--no-resume)")
        remove_run(start.folder)
    remove_partial(start.folder)
    last = last_checkpoint(start.folder)
    start.file.begin(last.step if last else 0, start.layout)
    start.file.write(start.folder)
    return last


def _announce(start: Start, step: int, positions: int | None) -> None:
    """Tell what is about to happen, and what is odd about it."""
    say(size(start))
    kept = kept_batch(start)
    if kept:
        say(kept)
    if step:
        say(f"continuing after step {step}")
    for warning in warnings(start, positions):
        say(f"warning: {warning}")
