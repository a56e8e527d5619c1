"""A run's parts put together: the model, its engine, the last checkpoint; and the model's export."""

import shutil
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yayi_data.atomic import fsync_path
from yayi_data.console import say
from yayi_train import attention, checkpoint, lora, metrics
from yayi_train.checkpoint import Checkpoint
from yayi_train.config import Config
from yayi_train.engine import build_engine
from yayi_train.folders import fsync_files
from yayi_train.loop import Progress
from yayi_train.model import load_base, model_folder, save_final
from yayi_train.ranks import first_alone_talks, rank
from yayi_train.run_folder import FINAL
from yayi_train.start import Start
from yayi_train.step import Trainee
from yayi_train.vocabulary import Vocabulary, grow_vocabulary

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(
    start: Start, vocabulary: Vocabulary, device: torch.device, last: Checkpoint | None
) -> tuple[Trainee, Progress]:
    """Load the model, wrap it into its engine and bring it to the last checkpoint."""
    config = start.config
    with first_alone_talks():
        model = build_model(config, vocabulary, device)
    inputs = attention.isolate(model) if config.data.packing else attention.plain
    universal = last is not None and checkpoint.needs_universal(last, start.layout.world_size)
    if last and universal:
        checkpoint.make_universal(last)
    engine = build_engine(model, config, start.layout, start.file.total_steps, universal=universal)
    step, unlogged = 0, metrics.Totals.zero(len(start.corpus.index.names))
    if last:
        with checkpoint.reading(last):
            checkpoint.load(engine, last, trained_only=config.lora is not None, universal=universal)
            step, unlogged = last.step, metrics.Totals.from_dict(last.unlogged)
    log = metrics.Log(start.folder, step, start.file.total_steps) if rank() == 0 else None
    return Trainee(start, engine, inputs), Progress(step, unlogged, log)


def build_model(config: Config, vocabulary: Vocabulary, device: torch.device) -> nn.Module:
    """Return the model to train, with a row for every id, and LoRA's layers where asked for."""
    torch.manual_seed(config.run.seed)
    model: Any = load_base(model_folder(config.model.path), DTYPES[config.model.precision], device)
    grow_vocabulary(model, vocabulary)
    if config.model.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if config.lora:
        dim, alpha, modules = config.lora.dim, config.lora.alpha, config.lora.modules
        model = lora.inject(model, config.model.path, dim, alpha, modules, vocabulary.new_ids)
    return model.train()  # type: ignore[no-any-return]


def export(trainee: Trainee, vocabulary: Vocabulary) -> None:
    """Write `final/`, which plain `from_pretrained` loads; all ranks take part, as ZeRO-3 gathers weights."""
    start, engine = trainee.start, trainee.engine
    partial, final = start.folder / f"{FINAL}.partial", start.folder / FINAL
    adapter = start.config.lora is not None
    state = None
    if start.config.zero_stage == 3:  # DeepSpeed has no public name for this
        state = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=adapter)
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        tokenizer = start.corpus.folder / "tokenizer"
        with checkpoint.writing(final):
            partial.mkdir()
            if adapter:
                lora.save_adapter(engine.module, partial, tokenizer, vocabulary, state)
            else:
                save_final(engine.module, partial, tokenizer, state)
            fsync_files(partial)
            partial.rename(final)
            fsync_path(start.folder)
        say(f"the {'adapter' if adapter else 'model'} is in {final}")
    dist.barrier()
