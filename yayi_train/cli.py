"""The `yayi-train` command: each command a few lines over the module that does the work.

Nothing heavy is imported before a command needs it, so that `--help` and usage errors answer at once.
"""

import signal
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer

from yayi_data.command import call, command_line, run_main
from yayi_data.console import shown_json
from yayi_data.errors import YayiError
from yayi_train.cli_model import generate, merge, prepare
from yayi_train.flags import Flags, as_command
from yayi_train.ranks import local_rank

app = command_line(
    "yayi-train",
    """Fine-tune chat models on what `yayi-data pack` wrote, with DeepSpeed.

    Several processes: deepspeed --num_gpus N --module yayi_train FLAGS, the flags being those of `run`.
    Exit codes: 0 done, 1 findings in the data, 2 wrong usage or environment, 130 interrupted.
    """,
)


def _run(flags: Flags) -> None:
    """Train a model, in this process alone or as one of the launcher's.

    A run continues where it stopped when its folder holds the same configuration and data.

    Example: yayi-train run --data-path packed --input-model ./YaYi-7B --local-output-dir out --lora-dim 16
    """
    from yayi_train.run import run

    run(flags)


app.command("run")(as_command(_run))
app.command()(prepare)
app.command()(generate)
app.command()(merge)


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|ADAPTER", help="A trained model's or adapter's folder.")
    ],
    data_path: Annotated[str, typer.Option(metavar="DIR", help="A packed folder, or its s3:// URL.")],
    seq_len: Annotated[int, typer.Option(min=2, help="Tokens in a packed row.")] = 2048,
    packing: Annotated[
        bool, typer.Option("--packing/--no-packing", help="Several conversations in a row, kept apart.")
    ] = True,
    batch_size: Annotated[
        int, typer.Option("--per-device-eval-batch-size", min=1, help="Rows per forward pass.")
    ] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a model's loss on packed data, in all and per domain.

    Example: yayi-train evaluate out/final --data-path packed-test
    """
    from yayi_train.config import DataConfig
    from yayi_train.quiet import quiet_libraries
    from yayi_train.score import score

    quiet_libraries()
    data = DataConfig(data_path, seq_len, packing, test_size=0, mix={}, domains=[], limit=limit)
    found = score(model, data, batch_size)
    typer.echo(shown_json(orjson.dumps(found).decode()) if as_json else found.as_text())


@app.command()
def trace(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="The --local-output-dir of a run.")],
    step: Annotated[int, typer.Option(min=1, help="The optimizer step, counted from 1.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the source lines that were in a step, per rank.

    Example: yayi-train trace out --step 120
    """
    from yayi_train.trace import as_text
    from yayi_train.trace import trace as traced

    found = traced(run_dir, step)
    typer.echo(shown_json(orjson.dumps(found).decode()) if as_json else as_text(found))


def main() -> None:
    """Run the command line and exit with its code."""
    run_main(_one_voice)


def _run_first(arguments: list[str]) -> list[str]:
    """Put `run` before flags given without a command, as `deepspeed --module yayi_train FLAGS` has them.

    The launcher puts its --local_rank before everything, a command included.
    """
    placed = [argument for argument in arguments if argument.startswith("--local_rank=")]
    rest = [argument for argument in arguments if argument not in placed]
    if rest and rest[0].startswith("-") and rest[0] not in ("--help", "--version"):
        return ["run", *rest]
    return rest


def _one_voice(arguments: list[str], debug: bool) -> object:
    """Run a command; where several processes of a node meet the same error, the first one tells it."""
    try:
        return call(app, _run_first(arguments))
    except (YayiError, typer.TyperException):
        if local_rank() and not debug:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(_PATIENCE)  # a launcher ends the others within a second or two of the first one's exit
        raise


_PATIENCE = 20.0

if __name__ == "__main__":
    main()
