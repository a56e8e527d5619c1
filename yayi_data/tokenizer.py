"""The tokenizer of a run: control tokens placed by id, text encoded so that it can never yield one."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tokenizers
from numpy.typing import NDArray

from yayi_data import tokenizer_json
from yayi_data.chat_template import chat_template
from yayi_data.console import one_line
from yayi_data.engines import NASTY, Choice, Engines, Flat
from yayi_data.errors import YayiError
from yayi_data.template import Template, layout, template_toml
from yayi_data.tokenizer_json import Json

Engine = Choice


class Tokenizer:
    """A tokenizer.json with a template's control tokens added, ready to encode text between them.

    `names` maps the template's control tokens to what this tokenizer calls them, `control_ids` to their ids;
    `reserved[id]` marks ids that text must never yield. The engines, which take the longest to load, do so
    in the background: what needs them waits for them.
    """

    def __init__(
        self, content: Json, template: Template, engine: Engine = "auto", config: Json | None = None
    ) -> None:
        self.template = template
        self._config = config or {}
        eos = _name(self._config.get("eos_token"))
        self.names = tokenizer_json.control_names(content, template.control, template.existing, eos)
        fault = tokenizer_json.fault(content, self.names.values())
        if fault:
            raise YayiError(f"this tokenizer.json cannot be used: {fault}")
        content = tokenizer_json.with_control(content, list(self.names.values()))
        reserved = tokenizer_json.reserved(content, self.names.values())
        self.control_ids = {token: reserved[name] for token, name in self.names.items()}
        content_only = tokenizer_json.content_only(content, reserved)
        added_ids = {token["content"]: token["id"] for token in content_only["added_tokens"]}
        self.frames: dict[object, Any] = {}  # what `encode` made of layouts
        self._background = ThreadPoolExecutor(1)
        self._loading = self._background.submit(Engines, content_only, added_ids, engine)
        self.fingerprint = tokenizer_json.fingerprint(content)
        self._sizes = tokenizer_json.token_bytes(content)
        self._unknown = content["model"].get("unk_token")
        self.reserved = self._marked(list(reserved.values()), tokenizer_json.unknown_id(content["model"]))
        self._file = orjson.dumps(content)  # a sixth of what the parsed vocabulary takes

    @property
    def vocabulary(self) -> int:
        """The number of ids, control tokens included."""
        return len(self._sizes)

    def wait(self) -> None:
        """Wait until the engines are loaded; YayiError where they cannot be."""
        self._loading.result()

    @property
    def _engines(self) -> Engines:
        return self._loading.result()

    @property
    def prefix_ids(self) -> list[int]:
        """What the tokenizer itself puts before a text."""
        return [number for number, _ in self._engines.prefix]

    @property
    def suffix_ids(self) -> list[int]:
        """What the tokenizer itself puts after a text."""
        return [number for number, _ in self._engines.suffix]

    @cached_property
    def token_bytes(self) -> NDArray[np.int32]:
        """The number of bytes of normalised text that each id covers, by id; 0 = cannot be told."""
        return self._sizes if self._bytes_tell_headers() else np.zeros_like(self._sizes)

    def _marked(self, ids: list[int], unknown: int | None) -> NDArray[np.bool_]:
        table = np.zeros(self.vocabulary, np.bool_)
        table[ids] = True
        if unknown is not None:
            table[unknown] = False  # what the vocabulary cannot spell is data, not control
        return table

    def _bytes_tell_headers(self) -> bool:
        """Tell whether token lengths end a reply's header where the reference's spans do."""
        pieces = layout(self.template, ("assistant", "tool_call"), (True, True), False).pieces
        for header in {piece.header for piece in pieces if piece.supervised}:
            size = self._header_bytes(header, self._sizes)
            for text in NASTY:
                sizes = self._sizes[self._engines.encode_reference([header + text])[0]].tolist()
                by_bytes = sum(end <= size for end in accumulate(sizes))
                by_spans = sum(end <= len(header) for _, end in self.spans(header + text))
                if 0 not in sizes and by_bytes != by_spans:
                    return False
        return True

    @property
    def engine(self) -> Engine:
        """The engine that runs, `fast` or `reference`."""
        return self._engines.name

    @property
    def engine_reason(self) -> str:
        """Why it is that engine."""
        return self._engines.reason

    def check_sample(self, texts: Sequence[str]) -> None:
        """Compare the engines on the beginning of the input; where they differ the reference takes over.

        That is done in the background too, before anything is encoded.
        """
        self._loading = self._background.submit(_checked, self._loading, texts)

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Encode texts that stand between control tokens; ids of all of them, and where each one's end."""
        return self._engines.encode(texts)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of a text that each of its tokens covers, as the reference tells it; slow."""
        return self._engines.spans(text)

    def header_bytes(self, header: str) -> int:
        """Return how many normalised bytes a piece's header takes, with what the tokenizer puts before it.

        -1 where the vocabulary cannot tell.
        """
        return self._header_bytes(header, self.token_bytes)

    def _header_bytes(self, header: str, token_bytes: NDArray[np.int32]) -> int:
        if not header:
            return 0
        sizes = token_bytes[self.encode_flat([f"{header}a"])[0]]
        return int(sizes.sum()) - len("a") if sizes.all() else -1

    @cached_property
    def plain(self) -> tokenizers.Tokenizer:
        """The tokenizer as others see it: what `write` writes, as `tokenizers` reads it."""
        return tokenizers.Tokenizer.from_str(self._file.decode())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens written out."""
        return self.plain.decode(list(ids), skip_special_tokens=False)

    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "template.toml")
    """What `write` writes."""

    def write(self, folder: Path) -> None:
        """Write the tokenizer, control tokens added, and its template into an existing folder."""
        prefix, suffix = ([name for _, name in part] for part in (self._engines.prefix, self._engines.suffix))
        chat = chat_template(self.template, self.names, "".join(prefix), "".join(suffix))
        end = self.names[self.template.end]
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": prefix[0] if prefix else None,
            "eos_token": end,
            "pad_token": end,
            "unk_token": self._unknown,
            "model_max_length": self._config.get("model_max_length"),
            "clean_up_tokenization_spaces": False,
            "chat_template": chat,
        }
        known = {key: value for key, value in config.items() if value is not None}
        (folder / "tokenizer.json").write_bytes(self._file)
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2))
        (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")
        (folder / "template.toml").write_text(template_toml(self.template), encoding="utf-8")


def _checked(loading: "Future[Engines]", texts: Sequence[str]) -> Engines:
    engines = loading.result()
    engines.check_sample(texts)
    return engines


def load_tokenizer(path_or_id: str, template: Template, engine: Engine = "auto") -> Tokenizer:
    """Load a tokenizer from a folder, a tokenizer.json or a hub ID, and add the template's control tokens."""
    tokenizer = begin_tokenizer(path_or_id, template, engine)
    tokenizer.wait()
    return tokenizer


def begin_tokenizer(path_or_id: str, template: Template, engine: Engine = "auto") -> Tokenizer:
    """Return a tokenizer as `load_tokenizer` does, while its engines are still loading."""
    path = _find(path_or_id)
    config = path.with_name("tokenizer_config.json")
    return Tokenizer(_read(path), template, engine, _read(config) if config.is_file() else None)


def _name(token: str | Json | None) -> str:
    """Return the content of a token as tokenizer_config.json writes it: a string, an object, or null."""
    return token["content"] if isinstance(token, dict) else token or ""


def _read(path: Path) -> Json:
    try:
        return tokenizer_json.read_object(path)
    except OSError as error:
        raise YayiError(f"{path}: cannot read the tokenizer: {error.strerror}") from error


def _find(path_or_id: str) -> Path:
    """Return the tokenizer.json that a path or a hub ID names."""
    path = Path(path_or_id)
    if path.is_dir():
        if (path / "tokenizer.json").is_file():
            return path / "tokenizer.json"
        raise YayiError(
            f"{path}: the folder has no tokenizer.json; save one with the base model's "
            "AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        )
    if path.exists():
        return path
    if path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
        raise YayiError(
            f"{one_line(path_or_id)}: no such folder or file here, and no hub ID, which is OWNER/NAME"
        )
    return _download(path_or_id)


def _download(hub_id: str) -> Path:
    import huggingface_hub  # a second of import time that a local tokenizer does not need

    huggingface_hub.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return Path(huggingface_hub.hf_hub_download(hub_id, "tokenizer.json"))
    except (OSError, ValueError) as error:
        cause = one_line(str(error)).partition("\\n")[0]
        raise YayiError(
            f"{one_line(hub_id)}: no such folder here, and the hub gave no tokenizer.json: {cause}"
        ) from error
