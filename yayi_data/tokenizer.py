"""The tokenizer of a run: control tokens placed by id, text encoded so that it can never yield one.

The fast engine (fastokens) runs where it agrees with the reference (`tokenizers`), which decides.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import fastokens
import numpy as np
import orjson
import tokenizers
from numpy.typing import NDArray

from yayi_data import tokenizer_json
from yayi_data.chat_template import chat_template, template_toml
from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_data.template import Template
from yayi_data.tokenizer_json import Json

Engine = Literal["auto", "fast", "reference"]
Flat = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Ids of consecutive texts, and where each text's ids end."""

_SAMPLE_CHARACTERS = 20_000


class Tokenizer:
    """A tokenizer.json with a template's control tokens added, ready to encode text between them.

    `control_ids` maps the template's tokens to ids; `prefix_ids` and `suffix_ids` are what the tokenizer itself
    puts around a text (BOS); `token_bytes[id]` is the number of bytes of normalised text an id covers (0 = cannot
    be told); `reserved[id]` marks the ids that text must never yield; `engine` is what runs, `engine_reason` why.
    """

    def __init__(
        self, content: Json, template: Template, engine: Engine = "auto", config: Json | None = None
    ):
        self._json = tokenizer_json.with_control(content, template.control)
        self._config = config or {}
        self.template = template
        names = tokenizer_json.reserved(self._json, template.control)
        self.control_ids = {token: names[token] for token in template.control}
        text_only = orjson.dumps(tokenizer_json.content_only(self._json, list(names))).decode()
        with ThreadPoolExecutor(2) as pool:
            reference = pool.submit(tokenizers.Tokenizer.from_str, text_only)
            fast = pool.submit(_load_fast, text_only) if engine != "reference" else None
            self.fingerprint = tokenizer_json.fingerprint(self._json)
            self.token_bytes = tokenizer_json.token_bytes(self._json)
            self.reserved = self._reserved_table(names)
            self._reference = reference.result()
            self._fast, fault = fast.result() if fast else (None, "chosen with --tokenizer-engine")
        self.prefix_ids, self.suffix_ids = _surroundings(self._reference)
        self._reference.post_processor = None  # it would only trim offsets
        self._true_ids = self._id_table(self._reference.token_to_id)
        self._fast_ids = self._id_table(self._fast.token_to_id) if self._fast else None
        self._forced = engine == "fast"
        self.engine, self.engine_reason = "fast", "agrees with tokenizers on the fixed strings"
        if self._fast is None:
            self._use_reference(fault)
        self.check_sample(NASTY)

    def _reserved_table(self, names: dict[str, int]) -> NDArray[np.bool_]:
        table = np.zeros(len(self.token_bytes), np.bool_)
        table[list(names.values())] = True
        unknown = tokenizer_json.unknown_id(self._json["model"])
        if unknown is not None:
            table[unknown] = False  # what the vocabulary cannot spell is data, not control
        return table

    def _id_table(self, id_of: Callable[[str], int | None]) -> NDArray[np.int32] | None:
        """Return the table from an engine's ids to the file's, None where they are the same.

        `tokenizers` counts added tokens anew when it loads a file from which some were taken out.
        """
        table = np.arange(len(self.token_bytes), dtype=np.int32)
        for token in self._json["added_tokens"]:
            number = id_of(token["content"])
            if number is not None and not self.reserved[token["id"]]:
                table[number] = token["id"]
        return None if (table == np.arange(len(table))).all() else table

    def _use_reference(self, reason: str) -> None:
        if self._forced:
            raise YayiError(
                f"--tokenizer-engine fast cannot run this tokenizer: {reason}; with auto the reference runs"
            )
        self.engine, self.engine_reason = "reference", reason

    def check_sample(self, texts: Sequence[str]) -> None:
        """Compare the engines on a sample of the input; where they differ the reference takes over."""
        total, sample = 0, []
        for text in texts:
            if total < _SAMPLE_CHARACTERS:
                sample.append(text)
                total += len(text)
        if self.engine == "fast":
            fast, reference = self._encode_fast(sample), self._encode_reference(sample)
            if not (np.array_equal(fast[0], reference[0]) and np.array_equal(fast[1], reference[1])):
                self._use_reference("fastokens gave other ids than tokenizers on a sample")

    def encode_flat(self, texts: Sequence[str]) -> Flat:
        """Encode texts that stand between control tokens; ids of all of them, and where each one's end."""
        return self._encode_fast(texts) if self.engine == "fast" else self._encode_reference(texts)

    def _encode_fast(self, texts: Sequence[str]) -> Flat:
        assert self._fast is not None
        ids, ends = self._fast.encode_batch_flat(list(texts))
        flat = np.frombuffer(ids, np.uint32).view(np.int32)
        flat = flat if self._fast_ids is None else self._fast_ids[flat]
        return flat, np.frombuffer(ends, np.uint64).view(np.int64)[1:]

    def _encode_reference(self, texts: Sequence[str]) -> Flat:
        encoded = self._reference.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [np.array(one.ids, np.int32) for one in encoded]
        flat = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        flat = flat if self._true_ids is None else self._true_ids[flat]
        return flat, np.cumsum([len(row) for row in rows], dtype=np.int64)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of a text that each of its tokens covers, as the reference tells it; slow."""
        return list(self._reference.encode(text, add_special_tokens=False).offsets)

    @cached_property
    def plain(self) -> tokenizers.Tokenizer:
        """The tokenizer as others see it, control tokens added: what `write` writes, read by `tokenizers`."""
        return tokenizers.Tokenizer.from_str(orjson.dumps(self._json).decode())

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens written out."""
        return self.plain.decode(list(ids), skip_special_tokens=False)

    def write(self, folder: Path) -> None:
        """Write the tokenizer, control tokens added, and its template into an existing folder.

        The files are tokenizer.json, tokenizer_config.json, chat_template.jinja and template.toml.
        """
        unknown = self._json["model"].get("unk_token")
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.template.end,
            "pad_token": self.template.end,
            "clean_up_tokenization_spaces": False,
            **{key: self._config[key] for key in ("model_max_length",) if key in self._config},
            **({"unk_token": unknown} if unknown else {}),
        }
        if self.prefix_ids:
            config["bos_token"] = self.plain.id_to_token(self.prefix_ids[0])
        (folder / "tokenizer.json").write_bytes(orjson.dumps(self._json))
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
        chat = chat_template(self.template, bos="bos_token" in config)
        (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")
        (folder / "template.toml").write_text(template_toml(self.template), encoding="utf-8")


def load_tokenizer(path_or_id: str, template: Template, engine: Engine = "auto") -> Tokenizer:
    """Load a tokenizer from a folder, a tokenizer.json or a hub ID, and add the template's control tokens."""
    path = _find(path_or_id)
    try:
        content = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise YayiError(f"{path}: not valid JSON: {one_line(str(error))}") from error
    except OSError as error:
        raise YayiError(f"{path}: cannot read the tokenizer: {error.strerror}") from error
    config = path.with_name("tokenizer_config.json")
    return Tokenizer(
        content, template, engine, orjson.loads(config.read_bytes()) if config.is_file() else None
    )


def _find(path_or_id: str) -> Path:
    path = Path(path_or_id)
    if path.is_file():
        return path
    if (path / "tokenizer.json").is_file():
        return path / "tokenizer.json"
    raise YayiError(f"{one_line(path_or_id)}: no tokenizer.json there")


def _load_fast(content: str) -> tuple[fastokens.Tokenizer | None, str]:
    try:
        return fastokens.Tokenizer.from_json_str(content), ""
    except ValueError as error:
        return None, f"fastokens cannot load this tokenizer: {one_line(str(error))}"


def _surroundings(tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that the post-processor puts before and after a text."""
    encoded = tokenizer.encode("a")
    special = encoded.special_tokens_mask
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return encoded.ids[:first], encoded.ids[last:]


# fmt: off
NASTY = (
    "", " ", "  ", "\n", "\n\n", "\t \n", ":\n", ":\n\n", ":\n \n\n", " a", "a ", "a  b", "你好，世界。\n\n", "你 好",
    "▁", "▁▁a", "a▁b", "<0x0A>", "<unk>", "<s></s>", "<|End|>", "<|YaYi|>:\n", "<|im_start|>", "[INST]", "\ufffd",
    "é", "e\u0301", "\u0301", "Å", "\u212b", "한국어", "\u1112\u1161\u11ab", "🙂", "👩\u200d👩\u200d👧", "🇨🇳",
    "\x00", "\x7f", "\u00a0x", "\u3000段落", "\u200b", "\ufeff", "\u2028", "\r\n", "\r", "1234567", "3.14",
    "I'm you'LL", "don’t", "龘靐", "𠀀𪚥", "\ufdfa", "ﬁ", "Ⅷ", "①", "a" * 300, " " * 70, "\n" * 40, "=" * 80,
    "!?" * 20, "http://a.b/c?d=e&f#g", "def f(x):\n\treturn x\n", '{"a": [1, 2]}',
)
# fmt: on
