"""The commands about models: prepare, generate, merge."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from yayi_data.console import say, visible
from yayi_data.errors import YayiError


def prepare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A model's folder or hub ID.")],
    template: Annotated[str, typer.Option(metavar="NAME|FILE.toml", help="How conversations are rendered.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    vocab: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More tokens for the vocabulary, one a line.")
    ] = None,
) -> None:
    """Add a template's control tokens to a model, with rows for them, and its chat template.

    A folder with a config and a tokenizer but no weights starts from random ones.

    Example: yayi-train prepare ./bloomz-7b1-mt --template yayi --output ./bloomz-yayi
    """
    from yayi_train.prepare import prepare as write
    from yayi_train.quiet import quiet_libraries

    quiet_libraries()
    vocabulary = write(base, template, output, vocab)
    say(f"wrote {output}: {vocabulary.size:,} ids, {len(vocabulary.new_ids)} of them new to the model")


def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The folder of a LoRA adapter.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
) -> None:
    """Write the model that an adapter makes of its base: added in fp32, saved in the base's own type.

    Example: yayi-train merge out/final --output ./YaYi-merged
    """
    from yayi_train.lora import merge as write
    from yayi_train.quiet import quiet_libraries

    quiet_libraries()
    write(adapter, output)
    say(f"wrote {output}")


def _is_text(argument: str) -> bool:
    """Tell whether an argument came as UTF-8: Python keeps other bytes as halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|ADAPTER", help="A trained model's or adapter's folder.")
    ],
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to ask.")] = None,
    messages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON list of messages, or one conversation a line.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest reply.  [default: the model's, 100 or 256]")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the likeliest token.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a reply.")] = False,
) -> None:
    """Ask a trained model; without --prompt or --messages, on a terminal, chat with it.

    Example: yayi-train generate out/final --prompt 你是谁
    """
    if prompt is not None and messages is not None:
        raise YayiError("--prompt and --messages ask two different things: give one of them")
    if prompt is not None and not _is_text(prompt):
        raise YayiError("--prompt is not UTF-8 text; expected text in the encoding of the terminal, UTF-8")
    talk = prompt is None and messages is None
    if talk and not sys.stdin.isatty():
        raise YayiError("nothing to ask: give --prompt or --messages, or run it on a terminal to chat")
    from yayi_data.types import Conversation, Turn
    from yayi_train.generate import answer, as_json_line, load_speaker, read_messages
    from yayi_train.quiet import quiet_libraries

    quiet_libraries()
    asked = list(read_messages(messages)) if messages else [Conversation((Turn("user", prompt or ""),))]
    speaker = load_speaker(model, max_new_tokens, greedy=greedy)
    if talk:
        from yayi_train.chat import chat

        chat(speaker)
        return
    for one in asked:
        said = answer(speaker, one)
        text = visible(said.reply) if sys.stdout.isatty() else said.reply
        print(as_json_line(said) if as_json else text, flush=True)
