import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yayi_data.encode import encode
from yayi_data.render import render, text
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer
from yayi_data.truncate import truncate
from yayi_data.types import Conversation, Turn

YAYI = load_template("yayi")
EXCHANGES = [(Turn("user", f"问题{i}"), Turn("assistant", f"回答{i}" * (i + 1))) for i in range(5)]


def talk(exchanges: int) -> Conversation:
    return Conversation(tuple(turn for pair in EXCHANGES[:exchanges] for turn in pair), "s")


@pytest.fixture(scope="module", params=["byte_level", "llama2", "unigram"])
def tokenizer(request: pytest.FixtureRequest, families: dict[str, str]) -> Tokenizer:
    return Tokenizer(json.loads(families[request.param]), YAYI)


def length(conversation: Conversation, tokenizer: Tokenizer) -> int:
    return len(encode([render(conversation, YAYI)], tokenizer).ids)


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_the_most_whole_exchanges_that_fit_are_kept(tokenizer: Tokenizer, kept: int) -> None:
    exact = length(talk(kept), tokenizer)
    for allowed in (exact, length(talk(kept + 1), tokenizer) - 1):
        (shortened,) = truncate([talk(5)], YAYI, tokenizer, allowed)
        assert shortened is not None
        assert text(shortened) == text(render(talk(kept), YAYI))
        assert len(encode([shortened], tokenizer).ids) == exact


def test_few_beginnings_of_a_very_long_conversation_are_rendered(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Conversation(EXCHANGES[0] * 3000, "s")
    rendered = []
    monkeypatch.setattr("yayi_data.truncate.render", lambda *given: rendered.append(given) or render(*given))
    (shortened,) = truncate([long], YAYI, tokenizer, 2048)
    assert shortened is not None
    assert 2048 - length(talk(1), tokenizer) < len(encode([shortened], tokenizer).ids) <= 2048
    assert len(rendered) < 20


def test_a_first_exchange_that_does_not_fit_leaves_nothing(tokenizer: Tokenizer) -> None:
    allowed = length(talk(1), tokenizer) - 1
    assert truncate([talk(5), talk(1)], YAYI, tokenizer, allowed) == [None, None]


def test_what_remains_without_a_trained_reply_is_nothing(tokenizer: Tokenizer) -> None:
    turns = talk(3).turns
    untrained = Conversation((turns[0], turns[1]._replace(train=False), *turns[2:]), "s")
    assert truncate([untrained], YAYI, tokenizer, length(talk(1), tokenizer)) == [None]


def test_the_last_reply_is_the_last_that_remains(tokenizer: Tokenizer) -> None:
    (shortened,) = truncate([talk(5)], YAYI, tokenizer, length(talk(2), tokenizer), "last")
    assert shortened is not None
    assert shortened.layout is render(talk(2), YAYI, "last").layout


def test_a_tool_call_stays_with_its_question_and_answer(tokenizer: Tokenizer) -> None:
    asked = (Turn("user", "q"), Turn("tool_call", "f"), Turn("tool_result", "1"), Turn("assistant", "one"))
    conversation = Conversation((*EXCHANGES[0], Turn("user", "a"), *asked))
    (shortened,) = truncate([conversation], YAYI, tokenizer, length(conversation, tokenizer) - 1)
    assert shortened is not None
    assert text(shortened) == text(render(Conversation(EXCHANGES[0]), YAYI))


@settings(max_examples=60, deadline=None)
@given(
    replies=st.lists(st.tuples(st.text("ab 你\n", max_size=20), st.booleans()), min_size=1, max_size=6),
    allowed=st.integers(1, 200),
)
def test_a_shortened_row_fits_and_has_something_to_learn(
    families: dict[str, str], replies: list[tuple[str, bool]], allowed: int
) -> None:
    tokenizer = Tokenizer(json.loads(families["byte_level"]), YAYI, "reference")
    turns = tuple(
        turn for reply, train in replies for turn in (Turn("user", "q"), Turn("assistant", reply, train))
    )
    (shortened,) = truncate([Conversation(turns, "s")], YAYI, tokenizer, allowed)
    if shortened is not None:
        encoded = encode([shortened], tokenizer)
        assert len(encoded.ids) <= allowed
        assert np.any(encoded.mask)
        assert text(render(Conversation(turns, "s"), YAYI)).startswith(text(shortened))
