"""The flags of a run, each once: its name, type, default and help. None = another place decides."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from yayi_data.remote.urls import local_path

_OF_RAW_DATA = "Of raw --data-path: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the user typed, one field a flag (`eval_steps` is --eval-steps)."""

    data_path: Annotated[
        str,
        typer.Option(
            metavar="DIR|PATH",
            help="A packed folder (or its s3:// URL), or raw files, which are packed first.",
        ),
    ]
    input_model: Annotated[str, typer.Option(metavar="DIR|ID", help="The model to start from.")]
    local_output_dir: Annotated[
        Path, typer.Option(metavar="DIR", parser=local_path, help="The run's folder.")
    ]
    deepspeed: Annotated[
        str, typer.Option(metavar="FILE|zeroN", help="A DeepSpeed config, or one of zero0 … zero3.")
    ] = "zero2"
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 1
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="Exactly so many optimizer steps, whatever --epochs says.")
    ] = None
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens in a packed row.")] = 2048
    packing: Annotated[
        bool, typer.Option("--packing/--no-packing", help="Several conversations in a row, kept apart.")
    ] = True
    per_device_train_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows per process and forward pass.  [default: 8]")
    ] = None
    per_device_eval_batch_size: Annotated[int, typer.Option(min=1, help="The same in evaluation.")] = 8
    gradient_accumulation_steps: Annotated[
        int | None, typer.Option(min=1, help="Forward passes per optimizer step.  [default: 1]")
    ] = None
    lr: Annotated[float | None, typer.Option(min=0, help="Highest learning rate.  [default: 5e-6]")] = None
    scheduler: Annotated[
        Literal["linear", "cosine", "constant"] | None,
        typer.Option(help="What follows the linear warm-up.  [default: linear]"),
    ] = None
    warmup_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps until the highest learning rate.  [default: 0]")
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option(min=0, help="AdamW's, on matrices only.  [default: 0]")
    ] = None
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--no-bf16", help="Train in bfloat16.  [default: fp32]")
    ] = None
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing/--no-gradient-checkpointing", help="Less memory, more time."),
    ] = True
    lora_dim: Annotated[int | None, typer.Option(min=1, help="Train a LoRA adapter of this rank.")] = None
    lora_alpha: Annotated[
        float | None, typer.Option(min=0, help="LoRA's scale is alpha / dim.  [default: 32]")
    ] = None
    lora_module_name: Annotated[
        str | None,
        typer.Option(metavar="NAME,..", help="The layers LoRA adapts.  [default: all-linear, every one]"),
    ] = None
    test_size: Annotated[
        float, typer.Option(min=0, help="Conversations kept for evaluation: a count, or a ratio below 1.")
    ] = 0
    mix: Annotated[
        str | None, typer.Option(metavar="NAME=WEIGHT,..", help="Repetitions of domains per epoch.")
    ] = None
    train_on_domains: Annotated[str | None, typer.Option(metavar="NAME,..", help="Only these domains.")] = (
        None
    )
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations.")] = None
    logging_steps: Annotated[int, typer.Option(min=1, help="Steps per line of metrics.jsonl.")] = 1
    eval_steps: Annotated[
        int, typer.Option(min=1, help="Steps between evaluations; the last is at the end.")
    ] = 100
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100
    save_total_limit: Annotated[int, typer.Option(min=1, help="Keep only the last N checkpoints.")] = 10
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Also keep the one of the lowest evaluation loss.")
    ] = False
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Continue the folder's run, or replace it by a new one."),
    ] = True
    seed: Annotated[int, typer.Option(min=0, help="Of the order, the split and new weights.")] = 515
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the memory it needs; train nothing.")
    ] = False
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.toml", help=_OF_RAW_DATA + "how conversations are rendered.  [default: yayi]"
        ),
    ] = None
    max_length: Annotated[
        int | None, typer.Option(min=1, help=_OF_RAW_DATA + "the longest conversation.  [default: --seq-len]")
    ] = None
    on_long: Annotated[
        Literal["drop", "truncate", "fail"] | None,
        typer.Option(help=_OF_RAW_DATA + "what to do with longer ones.  [default: drop]"),
    ] = None
    train_on: Annotated[
        Literal["all", "last"] | None,
        typer.Option(help=_OF_RAW_DATA + "supervise all replies or the last.  [default: all]"),
    ] = None
    on_problem: Annotated[
        Literal["fail", "drop"] | None,
        typer.Option(help=_OF_RAW_DATA + "what to do with a record with an error.  [default: fail]"),
    ] = None
    domains: Annotated[
        Path | None, typer.Option(metavar="FILE", help=_OF_RAW_DATA + "more domain tags, in TOML.")
    ] = None
    local_rank: Annotated[
        int, typer.Option("--local_rank", "--local-rank", hidden=True, help="Given by the launcher.")
    ] = 0


def as_command(function: Callable[[Flags], None]) -> Callable[..., None]:
    """Return a command that takes every field of Flags as an option and hands `function` the Flags."""

    def command(**values: Any) -> None:
        function(Flags(**values))

    hints = get_type_hints(Flags, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(Flags)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    return command
