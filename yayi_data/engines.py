"""Who encodes: fastokens where it agrees with the reference, `tokenizers`, which decides."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Literal

import fastokens
import numpy as np
import orjson
import tokenizers
from numpy.typing import NDArray

from yayi_data import tokenizer_json
from yayi_data.console import one_line
from yayi_data.errors import YayiError
from yayi_data.tokenizer_json import Json

Choice = Literal["auto", "fast", "reference"]
Flat = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Ids of consecutive texts, and where each text's ids end."""

Token = tuple[int, str]
"""The id of a token, and its name."""

_SAMPLE_CHARACTERS = 20_000
_AGREES = "fastokens agrees with tokenizers on the fixed strings and on a sample"


class Engines:
    """Both engines of one tokenizer; `name` is the one that runs, `reason` says why.

    `added_ids` maps the added tokens that text may yield to their ids; `tokenizers` numbers them anew when it
    loads a file from which others were taken out. `prefix` and `suffix` are what the tokenizer itself
    puts around a text.
    """

    def __init__(self, content: Json, added_ids: Mapping[str, int], choice: Choice) -> None:
        with ThreadPoolExecutor(1) as pool:
            fast = pool.submit(_load_fast, content) if choice != "reference" else None
            self._reference = _load_reference(content)
            self._fast, fault = fast.result() if fast else (None, "chosen with --tokenizer-engine")
        self.prefix, self.suffix = _surroundings(self._reference)
        self._reference.post_processor = None  # it would only trim the spans
        self._reference_ids = _id_table(self._reference.token_to_id, added_ids)
        self._fast_ids = _id_table(self._fast.token_to_id, added_ids) if self._fast else None
        self._choice = choice
        self.name: Choice = "fast"
        self.reason = _AGREES
        if self._fast is None:
            self._use_reference(fault)
        self.check_sample(NASTY + _JOINED)

    def _use_reference(self, reason: str) -> None:
        if self._choice == "fast":
            raise YayiError(f"the fast engine cannot run this tokenizer: {reason}; auto would use tokenizers")
        self.name, self.reason = "reference", reason

    def check_sample(self, texts: Sequence[str]) -> None:
        """Compare the engines on the beginning of `texts`; where they differ the reference takes over."""
        if self.name == "reference":
            return
        ends = accumulate(map(len, texts))
        sample = [text for text, end in zip(texts, ends, strict=True) if end <= _SAMPLE_CHARACTERS]
        fast, reference = self._encode_fast(sample), self.encode_reference(sample)
        if not (np.array_equal(fast[0], reference[0]) and np.array_equal(fast[1], reference[1])):
            self._use_reference("fastokens gave other ids than tokenizers on a sample")

    def encode(self, texts: Sequence[str]) -> Flat:
        """Encode texts with the engine that runs."""
        return self._encode_fast(texts) if self.name == "fast" else self.encode_reference(texts)

    def _encode_fast(self, texts: Sequence[str]) -> Flat:
        assert self._fast is not None
        ids, ends = self._fast.encode_batch_flat(list(texts))
        flat = np.frombuffer(ids, np.uint32).view(np.int32)
        flat = flat if self._fast_ids is None else self._fast_ids[flat]
        return flat, np.frombuffer(ends, np.uint64).view(np.int64)[1:]

    def encode_reference(self, texts: Sequence[str]) -> Flat:
        """Encode texts with `tokenizers`."""
        encoded = self._reference.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [np.array(one.ids, np.int32) for one in encoded]
        flat = np.concatenate(rows) if rows else np.zeros(0, np.int32)
        flat = flat if self._reference_ids is None else self._reference_ids[flat]
        return flat, np.cumsum([len(row) for row in rows], dtype=np.int64)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of a text that each of its tokens covers, as `tokenizers` tells it; slow."""
        return list(self._reference.encode(text, add_special_tokens=False).offsets)


def _load_reference(content: Json) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(orjson.dumps(content).decode())
    except Exception as error:  # the library raises nothing narrower
        raise YayiError(f"tokenizers cannot read this tokenizer.json: {one_line(str(error))}") from error


def _load_fast(content: Json) -> tuple[fastokens.Tokenizer | None, str]:
    try:
        fast = fastokens.Tokenizer.from_json_str(orjson.dumps(tokenizer_json.for_fast(content)).decode())
    except ValueError as error:
        return None, f"fastokens cannot load this tokenizer: {one_line(str(error))}"
    return fast, ""


def _surroundings(tokenizer: tokenizers.Tokenizer) -> tuple[list[Token], list[Token]]:
    """Return the tokens that the post-processor puts before and after a text."""
    encoded = tokenizer.encode("a")
    tokens, special = list(zip(encoded.ids, encoded.tokens, strict=True)), encoded.special_tokens_mask
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return tokens[:first], tokens[last:]


def _id_table(id_of: Callable[[str], int | None], added_ids: Mapping[str, int]) -> NDArray[np.int32] | None:
    """Return the table from an engine's ids to the file's, None where they are the same."""
    found = {id_of(token): number for token, number in added_ids.items()}
    moved = {number: true for number, true in found.items() if number is not None and number != true}
    if not moved:
        return None
    table = np.arange(max(*found.values(), *filter(None, found)) + 1, dtype=np.int32)
    table[list(moved)] = list(moved.values())
    return table


# Strings on which tokenizers part ways: blanks, byte fallback, normalisation, control literals.
# fmt: off
NASTY = (
    "", " ", "  ", "\n", "\n\n", "\t \n", ":\n", ":\n\n", ":\n \n\n", " a", "a ", "a  b", "你好，世界。\n\n",
    "▁", "▁▁a", "a▁b", "<0x0A>", "<unk>", "<s></s>", "<|End|>", "<|YaYi|>:\n", "<|im_start|>", "[INST]",
    "é", "e\u0301", "\u0301", "Å", "\u212b", "한국어", "\u1112\u1161\u11ab", "🙂", "👩\u200d👩\u200d👧", "🇨🇳",
    "\x00", "\x7f", "\u00a0x", "\u3000段落", "\u200b", "\ufeff", "\u2028", "\r\n", "\r", "1234567", "3.14",
    "I'm you'LL", "don’t", "龘靐", "𠀀𪚥", "\ufdfa", "ﬁ", "Ⅷ", "①", "a" * 300, " " * 70, "\n" * 40, "=" * 80,
    "!?" * 20, "http://a.b/c?d=e&f#g", "def f(x):\n\treturn x\n", '{"a": [1, 2]}', "你 好", "\ufffd",
)
# fmt: on
_JOINED = tuple(a + b for shift in (1, 7, 19) for a, b in zip(NASTY, NASTY[shift:], strict=False))
