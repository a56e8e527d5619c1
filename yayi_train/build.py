"""A run's parts put together: the model, its engine, the last checkpoint; and the model's export."""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers

from yayi_data.atomic import fsync_folder
from yayi_data.console import say
from yayi_train import attention, checkpoint, metrics
from yayi_train.checkpoint import Checkpoint
from yayi_train.config import Config
from yayi_train.data import Corpus, Layout, Order
from yayi_train.engine import build_engine
from yayi_train.loop import Training
from yayi_train.model import load_base, model_folder, save_final
from yayi_train.ranks import first_alone_talks, rank
from yayi_train.run_folder import FINAL, RunFile
from yayi_train.vocabulary import check_tokenizer, grow_vocabulary

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_training(
    folder: Path,
    file: RunFile,
    corpus: Corpus,
    order: Order,
    layout: Layout,
    device: torch.device,
    last: Checkpoint | None,
) -> Training:
    """Load the model, wrap it into its engine and bring it to the last checkpoint."""
    config = file.config
    with first_alone_talks():
        model = build_model(config, corpus.folder, device)
    inputs = attention.isolate(model) if config.data.packing else attention.plain
    universal = last is not None and checkpoint.needs_universal(last, layout.world_size)
    if last and universal:
        checkpoint.make_universal(last)
    engine = build_engine(model, config, layout, file.total_steps, universal=universal)
    unlogged = metrics.Totals.zero(len(corpus.index.names))
    step = 0
    if last:
        checkpoint.load(engine, last, trained_only=config.lora is not None, universal=universal)
        step, unlogged = last.step, metrics.Totals.from_dict(last.unlogged)
    log = metrics.Log(folder, step, file.total_steps) if rank() == 0 else None
    return Training(folder, file, config, corpus, order, layout, engine, inputs, step, unlogged, log)


def build_model(config: Config, packed: Path, device: torch.device) -> Any:
    """Return the model to train, with a row for every id of the packed data."""
    transformers.utils.logging.disable_progress_bar()
    folder = model_folder(config.model.path)
    vocabulary = check_tokenizer(folder, packed)
    torch.manual_seed(config.run.seed)
    model = load_base(folder, DTYPES[config.model.precision], device)
    grow_vocabulary(model, vocabulary)
    if config.model.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def export(run: Training) -> None:
    """Write `final/`, which plain `from_pretrained` loads; all ranks take part, as ZeRO-3 gathers weights."""
    partial, final = run.folder / f"{FINAL}.partial", run.folder / FINAL
    state = None
    if run.config.zero_stage == 3:
        state = run.engine._zero3_consolidated_16bit_state_dict()
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_final(run.engine.module, partial, run.corpus.folder / "tokenizer", state)
        partial.rename(final)
        fsync_folder(run.folder)
        say(f"the model is in {final}")
    dist.barrier()
