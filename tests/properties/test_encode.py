"""Laws of rendering and encoding, for any roles, hostile texts and every family of tokenizers."""

import json
import unicodedata
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Plain

from yayi_data.encode import encode
from yayi_data.render import render, text
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer
from yayi_data.types import Conversation, Turn

YAYI = load_template("yayi")
HOSTILE = ["<|System|>", "<|Human|>", "<|YaYi|>:\n", "<|End|>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|"]
CHINESE = ["你好", "。", "龘", "🙂"]
PIECES = [
    *CHINESE,
    "\n",
    "\n\n",
    " ",
    "a",
    "Hello",
    "'ll",
    "12",
    ":",
    "e",
    "\u0301",
    "▁",
    "<0x0A>",
    "<think>",
]
EXACT = ["byte_level", "bloom", "llama3", "qwen", "spelled_control"]
OTHER = ["llama2", "metaspace_always", "metaspace_first", "no_fallback", "unigram", "unknown_newline"]
OTHER += ["collapse", "prefix_space"]

Load = Callable[[str], tuple[Tokenizer, Plain]]


def texts(pieces: list[str]) -> st.SearchStrategy[str]:
    odd = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    return st.lists(st.one_of(st.sampled_from(pieces), odd), max_size=8).map("".join)


def conversations(pieces: list[str]) -> st.SearchStrategy[Conversation]:
    roles = st.sampled_from(["user", "assistant", "tool_call", "tool_result"])
    turns = st.lists(st.builds(Turn, roles, texts(pieces), st.booleans()), min_size=1, max_size=5)
    return st.builds(Conversation, turns.map(tuple), texts(pieces), st.just(""))


@pytest.fixture(scope="module")
def load(families: dict[str, str]) -> Load:
    """Our tokenizer and the plain one of a family."""

    @cache
    def loaded(name: str) -> tuple[Tokenizer, Plain]:
        plain = Plain.from_str(families[name])
        plain.add_special_tokens(list(YAYI.control))
        return Tokenizer(json.loads(families[name]), YAYI), plain

    return loaded


def reply_texts(conversation: Conversation) -> list[str]:
    return [t.text for t in conversation.turns if t.role in ("assistant", "tool_call") and t.train]


@settings(max_examples=150, deadline=None)
@given(conversation=conversations([*PIECES, *HOSTILE]), name=st.sampled_from(EXACT + OTHER))
def test_control_ids_come_from_the_template_alone(load: Load, conversation: Conversation, name: str) -> None:
    tokenizer, _ = load(name)
    encoded = encode([render(conversation, YAYI)], tokenizer)
    placed = ["<|System|>"]
    for turn in conversation.turns:
        placed += ["<|YaYi|>", "<|End|>"] if turn.role in ("assistant", "tool_call") else ["<|Human|>"]
    expected = [tokenizer.control_ids[token] for token in placed]
    found = encoded.ids[tokenizer.reserved[encoded.ids]].tolist()
    assert found == [*tokenizer.prefix_ids, *expected, *tokenizer.suffix_ids]


@settings(max_examples=150, deadline=None)
@given(conversation=conversations([*PIECES, *HOSTILE]), name=st.sampled_from(EXACT))
def test_supervised_ids_decode_to_the_replies_and_their_ends(
    load: Load, conversation: Conversation, name: str
) -> None:
    tokenizer, _ = load(name)
    encoded = encode([render(conversation, YAYI)], tokenizer)
    replies = [f"{reply}\n\n<|End|>" for reply in reply_texts(conversation)]
    if name == "qwen":
        replies = [unicodedata.normalize("NFC", reply) for reply in replies]
    assume(not encoded.straddling.any())
    assert tokenizer.decode(encoded.ids[encoded.mask]) == "".join(replies)


@settings(max_examples=200, deadline=None)
@given(conversation=conversations(PIECES), name=st.sampled_from(EXACT + OTHER))
def test_ids_and_mask_are_those_of_the_whole_string(
    load: Load, conversation: Conversation, name: str
) -> None:
    tokenizer, plain = load(name)
    rendered = render(conversation, YAYI)
    encoded, whole = encode([rendered], tokenizer), plain.encode(text(rendered))
    assert encoded.ids.tolist() == whole.ids
    learnt = np.array([mark for part, mark in spans(conversation) for _ in part])
    assert encoded.mask.tolist() == [bool(learnt[start:end].any()) for start, end in whole.offsets]


def spans(conversation: Conversation) -> list[tuple[str, bool]]:
    """The rendered text written out by hand, in parts that are supervised or not."""
    parts = [(f"<|System|>:\n{conversation.system or YAYI.default_system}\n\n", False)]
    for role, value, train in conversation.turns:
        if role in ("assistant", "tool_call"):
            parts += [("<|YaYi|>:\n", False), (f"{value}\n\n<|End|>", train)]
        else:
            parts.append((f"<|Human|>:\n{value}\n\n", False))
    return parts


@settings(max_examples=50, deadline=None)
@given(batch=st.lists(conversations([*PIECES, *HOSTILE]), max_size=5), name=st.sampled_from(EXACT + OTHER))
def test_batches_do_not_change_what_a_conversation_becomes(
    load: Load, batch: list[Conversation], name: str
) -> None:
    tokenizer, _ = load(name)
    together = encode([render(one, YAYI) for one in batch], tokenizer)
    for i, one in enumerate(batch):
        alone = encode([render(one, YAYI)], tokenizer)
        row = slice(together.offsets[i], together.offsets[i + 1])
        assert np.array_equal(together.ids[row], alone.ids)
        assert np.array_equal(together.mask[row], alone.mask)
