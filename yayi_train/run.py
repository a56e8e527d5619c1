"""A run from its flags to `final/`."""

from typing import TYPE_CHECKING

from yayi_data.console import say
from yayi_data.errors import YayiError
from yayi_train.checkpoint import Checkpoint, remove_partial, whole_checkpoints
from yayi_train.flags import Flags
from yayi_train.launcher import Launcher, end_with_parent, find_launcher
from yayi_train.ranks import rank
from yayi_train.run_folder import FINAL, remove_run
from yayi_train.start import Start, decide

if TYPE_CHECKING:
    import torch

    from yayi_train.vocabulary import Vocabulary


def run(flags: Flags) -> None:
    """Train as the flags say, or continue the run in their folder; --dry-run only tells what it would do."""
    launcher = find_launcher()
    start = decide(flags)
    if start.finished and not flags.dry_run:
        _say_once(f"{start.folder}: the run is finished; its model is in {start.folder / FINAL}")
        return
    from yayi_train.engine import refuse_unsupported
    from yayi_train.quiet import quiet_libraries
    from yayi_train.skeleton import refuse_early

    quiet_libraries()
    refuse_unsupported(start.config)
    vocabulary = refuse_early(start.config, start.corpus.folder)
    if flags.dry_run:
        _tell_plan(start, vocabulary)
    else:
        _train(start, vocabulary, launcher)


def _say_once(message: str) -> None:
    if rank() == 0:
        say(message)


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
    from yayi_train.build import build, export

    _agree(start)
    if rank() == 0:
        _clear(start)
    _agree(start)
    trainee, progress = build(start, vocabulary, device, _last_checkpoint(start))
    if rank() == 0:
        _announce(start, progress.step)
        start.file.begin(progress.step, start.layout)
        start.file.write(start.folder)
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


def _agree(start: Start) -> None:
    """Wait for every rank, and refuse ranks that see other data or another layout."""
    from yayi_train.engine import agree

    seen = agree(f"{start.file.digest} {tuple(start.layout)}")
    if len(set(seen)) > 1:
        other = next(number for number, value in enumerate(seen) if value != seen[0])
        raise YayiError(
            f"rank {other} has other data or flags than rank 0 ({seen[other]}, not {seen[0]}); "
            "give every node the same"
        )


def _clear(start: Start) -> None:
    """Make room in the run's folder: for a new run, or of what a killed one left half-written."""
    start.folder.mkdir(parents=True, exist_ok=True)
    if start.replaces:
        say(f"{start.folder}: the run that was here is replaced (--no-resume)")
        remove_run(start.folder)
    remove_partial(start.folder)


def _last_checkpoint(start: Start) -> Checkpoint | None:
    found = whole_checkpoints(start.folder)
    return found[-1] if found else None


def _announce(start: Start, step: int) -> None:
    """Tell what is about to happen, and what is odd about it."""
    total, optimizer, corpus = start.file.total_steps, start.config.optimizer, start.corpus
    epoch = start.order.steps(0)
    ranks, rows, passes = start.layout
    say(
        f"{total} steps, {epoch} an epoch, about {len(corpus.train) / epoch:.1f} conversations a step: "
        f"{ranks} processes x {rows} rows x {passes} passes"
    )
    if step:
        say(f"continuing after step {step}")
    if optimizer.lr == 0:
        say("warning: the learning rate is 0, so nothing is learnt")
    if optimizer.warmup_steps >= total:
        say(
            f"warning: the warm-up has {optimizer.warmup_steps} steps and the run {total}: "
            "the learning rate never reaches its highest"
        )
    silent = int((corpus.index.supervised_tokens[corpus.train] == 0).sum())
    if silent:
        say(f"warning: {silent} conversations have no supervised token, so nothing is learnt from them")
