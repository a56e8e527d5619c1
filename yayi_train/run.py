"""A run from its flags to `final/`: what is wrong is refused before a model is loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from yayi_data.console import say
from yayi_data.errors import YayiError
from yayi_train import raw_data
from yayi_train.checkpoint import Checkpoint, remove_partial, whole_checkpoints
from yayi_train.config import Config, absolute, resolve
from yayi_train.data import Corpus, Layout, Order, open_corpus
from yayi_train.flags import Flags
from yayi_train.ranks import rank, world_size
from yayi_train.run_folder import (
    FINAL,
    RunFile,
    layout_for,
    read_run,
    refuse_foreign,
    refuse_other_run,
    remove_run,
    versions,
)


def run(flags: Flags) -> None:
    """Train as the flags say, or continue the run in their folder; --dry-run only tells what it would do."""
    config, folder = resolve(flags), flags.local_output_dir
    raw_data.refuse_missing(config.data.path)
    refuse_foreign(folder)
    config = _with_absolute_paths(config)
    packed = raw_data.packed_folder(config, folder)
    corpus = open_corpus(packed, config.data, config.run.seed)
    old = read_run(folder)
    earlier = old if flags.resume else None
    if earlier:
        refuse_other_run(folder, earlier, config, corpus.manifest.digest)
    layout = layout_for(folder, earlier, config, world_size())
    order = Order(
        corpus, config.data, config.run.seed, layout.global_rows, earlier.epoch_steps if earlier else ()
    )
    total = config.run.max_steps or order.total_steps(config.run.epochs)
    if flags.dry_run:
        _tell_plan(config, corpus, order, layout, total)
        return
    if earlier and (folder / FINAL).exists():
        if rank() == 0:
            say(f"{folder}: the run is finished; its model is in {folder / FINAL}")
        return
    file = earlier or RunFile(
        config, str(packed.resolve()), corpus.manifest.digest, layout.global_rows, total, versions()
    )
    _train(folder, replace(file, config=config), corpus, order, layout, replaced=old if not earlier else None)


def _with_absolute_paths(config: Config) -> Config:
    """Return the config with its local paths made absolute, so that the run can be read from anywhere."""
    data = replace(config.data, path=absolute(config.data.path))
    return replace(config, data=data, model=replace(config.model, path=absolute(config.model.path)))


def _tell_plan(config: Config, corpus: Corpus, order: Order, layout: Layout, total: int) -> None:
    from yayi_train.dry_run import as_text, memory_by_stage, plan_of

    if rank() == 0:
        facts = plan_of(config, corpus, order, layout, total)
        print(as_text(facts, memory_by_stage(config, layout.world_size)))


def _train(
    folder: Path, file: RunFile, corpus: Corpus, order: Order, layout: Layout, *, replaced: RunFile | None
) -> None:
    from yayi_train import engine as engines
    from yayi_train import loop
    from yayi_train.build import build_training, export

    loop.stop_on_signals()
    device = engines.start_processes()
    _agree(corpus, layout)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        if replaced:
            remove_run(folder)
        remove_partial(folder)
    _agree(corpus, layout)
    checkpoint = _last_checkpoint(folder, file)
    training = build_training(folder, file, corpus, order, layout, device, checkpoint)
    if rank() == 0:
        _announce(training)
        file.begin(training.step, layout)
        file.write(folder)
    try:
        finished = loop.train(training)
    finally:
        if training.log:
            training.log.close()
    if finished:
        export(training)
    elif rank() == 0:
        say(f"stopped after step {training.step}; the same command continues the run")
    engines.stop_processes()


def _agree(corpus: Corpus, layout: Layout) -> None:
    """Wait for every rank, and refuse ranks that see other data or another layout."""
    from yayi_train.engine import agree

    seen = agree(f"{corpus.manifest.digest} {layout}")
    if len(set(seen)) > 1:
        other = next(number for number, value in enumerate(seen) if value != seen[0])
        raise YayiError(
            f"rank {other} has other data or flags than rank 0 ({seen[other]}, not {seen[0]}); "
            "give every node the same"
        )


def _last_checkpoint(folder: Path, file: RunFile) -> Checkpoint | None:
    found = whole_checkpoints(folder)
    if not found:
        return None
    last = found[-1]
    if last.zero_stage != file.config.zero_stage:
        raise YayiError(
            f"{last.path}: was saved under ZeRO {last.zero_stage}, not {file.config.zero_stage}; "
            "give --deepspeed that stage"
        )
    return last


def _announce(training: Any) -> None:
    """Tell what is about to happen in two lines."""
    run = training
    c = run.config
    conversations = len(run.corpus.train) / run.order.steps(0)
    ranks, rows, passes = run.layout
    say(
        f"{run.file.total_steps} steps, {run.order.steps(0)} an epoch, about {conversations:.1f} "
        f"conversations a step: {ranks} processes x {rows} rows x {passes} passes"
    )
    if run.step:
        say(f"continuing after step {run.step}")
    if c.optimizer.lr == 0:
        say("warning: the learning rate is 0, so nothing is learnt")
    if c.optimizer.warmup_steps >= run.file.total_steps:
        say(
            f"warning: the warm-up has {c.optimizer.warmup_steps} steps and the run {run.file.total_steps}: "
            "the learning rate never reaches its highest"
        )
    silent = int((run.corpus.index.supervised_tokens[run.corpus.train] == 0).sum())
    if silent:
        say(f"warning: {silent} conversations have no supervised token, so nothing is learnt from them")
