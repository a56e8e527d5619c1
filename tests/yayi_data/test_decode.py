"""Decoding is the inverse of rendering and encoding: ids and mask come back, and with them what was said."""

import json

import numpy as np
import pytest

from yayi_data.decode import Decoder
from yayi_data.encode import encode
from yayi_data.render import render
from yayi_data.shard.columns import Row
from yayi_data.template import FOLDER, TrainOn, load_template
from yayi_data.tokenizer import Tokenizer
from yayi_data.types import Conversation, Turn

TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.toml"))
CALL = '{"name": "查询", "arguments": {"n": 1}}'
TOOLS = '[{"name": "查询", "parameters": {"type": "object"}}]'
ASKED, ANSWERED = Turn("user", "你好\n\n "), Turn("assistant", "\n<|End|> 您好。\n")
CALLED, RESULT = Turn("tool_call", CALL), Turn("tool_result", "晴\n")
CONVERSATIONS = [
    Conversation((ASKED, ANSWERED)),
    Conversation(
        (ASKED, ANSWERED._replace(train=False), Turn("user", "问"), Turn("assistant", "答")), "系统\n"
    ),
    Conversation((ASKED, CALLED, RESULT, ANSWERED), "", TOOLS),
    Conversation((ASKED, ANSWERED), "系统", TOOLS),
    Conversation((ASKED, Turn("assistant", "好的")), "\n\nTools:\nnone, \n\n# Tools\n\n{}"),
]


def packed(talk: Conversation, tokenizer: Tokenizer, train_on: TrainOn = "all") -> Row:
    encoded = encode([render(talk, tokenizer.template, train_on)], tokenizer)
    return Row(encoded.ids, encoded.mask, "general", 0, 1, 0)


def decoded(row: Row, tokenizer: Tokenizer) -> Conversation | None:
    (found,) = Decoder(tokenizer).conversations([row])
    return found


def read_as(talk: Conversation, tokenizer: Tokenizer) -> Conversation:
    """What the template writes alike is read alike: a call as the reply, a result as the question."""
    roles, like = tokenizer.template.roles, {"tool_call": "assistant", "tool_result": "user"}
    return talk._replace(
        turns=tuple(
            turn._replace(role=like[turn.role])
            if turn.role in like and roles[turn.role] == roles[like[turn.role]]
            else turn
            for turn in talk.turns
        )
    )


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("family", ["byte_level", "llama3"])
def test_what_was_said_comes_back(family: str, name: str, families: dict[str, str]) -> None:
    tokenizer = Tokenizer(json.loads(families[family]), load_template(name))
    for talk in CONVERSATIONS:
        assert decoded(packed(talk, tokenizer), tokenizer) == read_as(talk, tokenizer)


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_mask_come_back_in_every_family(name: str, families: dict[str, str]) -> None:
    # Of the others' vocabularies, none can spell all of these texts.
    for family in ("byte_level", "qwen", "bloom", "llama3", "llama2", "metaspace_first", "metaspace_always"):
        content = families[family]
        tokenizer = Tokenizer(json.loads(content), load_template(name), "reference")
        for talk in CONVERSATIONS[1:4]:
            row = packed(talk, tokenizer)
            found = decoded(row, tokenizer)
            assert found is not None
            again = packed(found, tokenizer)
            assert np.array_equal(again.ids, row.ids), (family, talk, found)
            assert np.array_equal(again.mask, row.mask), (family, talk, found)


def test_replies_that_were_not_learnt_say_so(families: dict[str, str]) -> None:
    tokenizer = Tokenizer(json.loads(families["qwen"]), load_template("qwen"))
    talk = Conversation((ASKED, ANSWERED, ASKED, CALLED, RESULT, ANSWERED))
    found = decoded(packed(talk, tokenizer, "last"), tokenizer)
    assert found is not None
    assert [turn.train for turn in found.turns] == [True, False, True, False, True, True]


def test_a_row_that_the_template_did_not_write_is_none(families: dict[str, str]) -> None:
    tokenizer = Tokenizer(json.loads(families["byte_level"]), load_template("yayi"))
    row = packed(CONVERSATIONS[0], tokenizer)
    for ids in (row.ids[1:], row.ids[:-1], row.ids[:0], np.roll(row.ids, 3)):
        assert decoded(row._replace(ids=ids, mask=row.mask[: len(ids)]), tokenizer) is None
