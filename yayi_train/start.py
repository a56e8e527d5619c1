"""What a start of a run is, decided from its flags and folder before any process group exists."""

from dataclasses import dataclass, replace
from pathlib import Path

from yayi_data.errors import YayiError
from yayi_data.remote.mirror import is_mirror
from yayi_data.remote.urls import bare
from yayi_train import raw_data
from yayi_train.config import Config
from yayi_train.data import Corpus, Layout, Order, open_corpus
from yayi_train.flags import Flags
from yayi_train.ranks import world_size
from yayi_train.resolve import absolute, resolve
from yayi_train.run_folder import (
    FINAL,
    RunFile,
    layout_for,
    read_run,
    refuse_foreign,
    refuse_other_run,
    versions,
)


@dataclass(frozen=True, slots=True)
class Start:
    """A start in a run's folder; `replaces` tells that another run is there and is to go."""

    folder: Path
    file: RunFile
    corpus: Corpus
    order: Order
    layout: Layout
    replaces: bool

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.file.config

    @property
    def evaluates(self) -> bool:
        """Whether there is something to evaluate: supervised tokens kept for it."""
        return bool(self.corpus.index.supervised_tokens[self.corpus.test].sum())

    @property
    def finished(self) -> bool:
        """Whether the run has nothing left to do."""
        return not self.replaces and (self.folder / FINAL).exists()


def decide(flags: Flags) -> Start:
    """Return what the flags start or continue; YayiError for all that can be refused without a model."""
    config, folder = _with_absolute_paths(resolve(flags)), flags.local_output_dir
    raw_data.refuse_missing(flags.data_path)
    refuse_foreign(folder)
    packed = raw_data.packed_folder(config, folder)
    config = replace(config, data=replace(config.data, path=bare(config.data.path)))
    corpus = open_corpus(packed, config.data, config.run.seed)
    there = read_run(folder)
    earlier = there if flags.resume else None
    if earlier:
        refuse_other_run(folder, earlier, config, corpus.manifest.digest)
    layout = layout_for(folder, earlier, config, world_size())
    counted = earlier.epoch_steps if earlier else ()
    order = Order(corpus, config.data, config.run.seed, layout.global_rows, counted)
    file = RunFile(
        config=config,
        data=config.data.path if is_mirror(packed) else str(packed.resolve()),
        digest=corpus.manifest.digest,
        global_rows=layout.global_rows,
        total_steps=config.run.max_steps or order.total_steps(config.run.epochs),
        versions=versions(),
        base=earlier.base if earlier else "",
        starts=earlier.starts if earlier else [],
        epoch_steps=order.counted,
    )
    start = Start(folder, file, corpus, order, layout, replaces=there is not None and earlier is None)
    _refuse_unmeasured(start)
    return start


def _refuse_unmeasured(start: Start) -> None:
    if start.config.run.keep_best and not start.evaluates:
        raise YayiError(
            f"--keep-best goes by the evaluation loss, and the {len(start.corpus.test)} conversations of "
            f"--test-size {start.config.data.test_size:g} have no supervised token; raise --test-size"
        )


def _with_absolute_paths(config: Config) -> Config:
    """Return the config with its local paths made absolute, so that the run can be read from anywhere."""
    data = replace(config.data, path=absolute(config.data.path))
    return replace(config, data=data, model=replace(config.model, path=absolute(config.model.path)))
