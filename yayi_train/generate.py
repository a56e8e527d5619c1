"""Ask a trained model: prompts in its own template, replies that end at the end token."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import GenerationConfig, PreTrainedModel

from yayi_data.console import one_line, shown_json
from yayi_data.convert import conversation
from yayi_data.encode import encode
from yayi_data.errors import DataError, YayiError
from yayi_data.render import prompt
from yayi_data.schema import explain
from yayi_data.template import Template, load_template
from yayi_data.tokenizer import Tokenizer, load_tokenizer
from yayi_data.types import Conversation
from yayi_train.attention import base_model
from yayi_train.lora import load_trained
from yayi_train.model import generation_config, model_folder
from yayi_train.quiet import in_brief

_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that answers: its tokenizer, its template, and how it picks tokens."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    template: Template
    settings: GenerationConfig

    def said(self, ids: list[int]) -> str:
        """Return the text of a reply's ids, without the end of the turn."""
        stops = self.settings.eos_token_id
        text = self.tokenizer.decode(ids[:-1] if ids and ids[-1] in stops else ids)
        trailer = self.template.roles["assistant"].partition("{text}")[2].partition(self.template.end)[0]
        return text.removesuffix(trailer)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said; `ended` tells whether it came to the template's end token by itself."""

    reply: str
    ended: bool
    prompt_tokens: int
    new_tokens: int


def as_json_line(said: Reply) -> str:
    """Return a reply as one line of JSON."""
    return shown_json(orjson.dumps(said).decode())


def load_speaker(path_or_id: str, max_new_tokens: int | None = None, *, greedy: bool = False) -> Speaker:
    """Load a model or an adapter for generation, on the GPU where there is one.

    The folder's generation_config.json holds, else the YaYi repository's settings. `greedy` takes the
    likeliest token each time, with no repetition penalty.
    """
    folder = model_folder(path_or_id)
    if not (folder / "template.toml").is_file():
        raise YayiError(f"{folder}: no template.toml there; run yayi-train prepare on it first")
    template = load_template(str(folder / "template.toml"))
    settings = _settings(folder)
    if greedy:
        settings.update(do_sample=False, temperature=None, repetition_penalty=1.0)
    if max_new_tokens is not None:
        settings.update(max_new_tokens=max_new_tokens)
    tokenizer = load_tokenizer(str(folder), template, "reference")
    model = load_trained(folder).eval()
    base_model(model).generation_config = settings  # generate() fills the gaps of one from the other
    return Speaker(model, tokenizer, template, settings)


def _settings(folder: Path) -> GenerationConfig:
    """Return a folder's settings; where its own name no token that ends a reply, the template's do."""
    ours = generation_config(folder)
    if not (folder / "generation_config.json").is_file():
        return ours
    own = GenerationConfig.from_pretrained(folder)
    stops = ours.eos_token_id if own.eos_token_id is None else own.eos_token_id
    own.eos_token_id = [stops] if isinstance(stops, int) else stops
    if own.pad_token_id is None:
        own.pad_token_id = ours.pad_token_id
    return own


def prompt_ids(speaker: Speaker, asked: Conversation) -> list[int]:
    """Return the ids that a reply continues: those of training, up to where the reply would begin."""
    ids: list[int] = encode([prompt(asked, speaker.template)], speaker.tokenizer).ids.tolist()
    return ids


def answer(speaker: Speaker, asked: Conversation, streamer: Any = None) -> Reply:
    """Return the model's reply to a conversation that ends with what it is asked."""
    ids = prompt_ids(speaker, asked)
    tokens = torch.tensor([ids], device=speaker.model.device)
    try:
        with torch.inference_mode():
            output = speaker.model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=speaker.settings,
                streamer=streamer,
            )
    except ValueError as error:
        raise YayiError(f"the model's generation_config.json does not serve: {in_brief(error)}") from error
    new: list[int] = output[0, len(ids) :].tolist()
    ended = new[-1:] == [speaker.tokenizer.control_ids[speaker.template.end]]
    return Reply(speaker.said(new), ended, len(ids), len(new))


def read_messages(file: Path) -> Iterator[Conversation]:
    """Yield a file's conversations: one JSON list of messages, or one list (or `{"messages"}`) a line."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise YayiError(f"--messages {file}: cannot read it: {error.strerror}") from error
    try:
        values = [(str(file), orjson.loads(content))]
    except orjson.JSONDecodeError:
        values = [
            (f"{file}:{number}", _parsed(line, f"{file}:{number}"))
            for number, line in enumerate(content.split(b"\n"), 1)
            if line.strip()
        ]
    if not values:
        raise DataError(f"--messages {file}: holds nothing to answer; expected a list of messages a line")
    for place, value in values:
        yield _conversation(value, place)


def _parsed(line: bytes, place: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {one_line(str(error))}") from error


def _conversation(value: Any, place: str) -> Conversation:
    record = value if isinstance(value, dict) else {"messages": value}
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place}: expected a list of messages, as in [{{'role': 'user', 'content': '…'}}]")
    for number, message in enumerate(messages):
        fault = _fault(message, first=number == 0)
        if fault:
            raise DataError(f"{place}: message {number}: {fault}")
    if messages[-1]["role"] not in ("user", "tool"):
        raise DataError(f"{place}: the last message is the {messages[-1]['role']}'s; expected one to answer")
    for breach in explain("messages", record):
        raise DataError(f"{place}: /{'/'.join(map(str, breach.path))}: {breach.message}")
    return conversation(record, "messages")


def _fault(message: Any, *, first: bool) -> str | None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return f"expected an object with a role of {', '.join(_ROLES)}"
    if message["role"] in ("system", "developer") and not first:
        return "a system message must come first"
    if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
        return "its content is missing, or not a string"
    return None
