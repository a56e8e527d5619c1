import json
from pathlib import Path

import pytest

from yayi_data.render import prompt, render, text
from yayi_data.template import Control, Piece, load_template
from yayi_data.types import Conversation, Turn

GOLDEN = Path(__file__).parents[1] / "golden" / "rendered"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json"))
YAYI = load_template("yayi")


def golden(name: str) -> tuple[Conversation, str, str]:
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    turns = tuple(Turn(role, value) for role, value in case["turns"])
    expected = (GOLDEN / f"{name}.txt").read_bytes().decode()
    return Conversation(turns, case.get("system", ""), case.get("tools", "")), case["template"], expected


@pytest.mark.parametrize("name", CASES)
def test_the_rendered_text_is_the_golden_one_byte_for_byte(name: str) -> None:
    conversation, template, expected = golden(name)
    assert text(render(conversation, load_template(template))) == expected


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_is_the_golden_text_up_to_the_last_reply(name: str) -> None:
    conversation, template, expected = golden(name)
    asked = conversation._replace(turns=conversation.turns[:-1])
    rendered = text(prompt(asked, load_template(template)))
    assert expected.startswith(rendered + conversation.turns[-1].text)


def supervised(conversation: Conversation, template: str, train_on: str = "all") -> str:
    """The supervised text, one reply after the other."""
    rendered = render(conversation, load_template(template), train_on)
    texts = iter(rendered.texts)
    learnt = ""
    for element in rendered.layout.elements:
        if isinstance(element, Piece):
            piece = next(texts)
            learnt += piece[len(element.header) :] if element.supervised else ""
        elif isinstance(element, Control) and element.supervised:
            learnt += element.token
    return learnt


TALK = Conversation((Turn("user", "q"), Turn("assistant", "a"), Turn("user", "r"), Turn("assistant", "b")))
TOOLS = Conversation(
    (Turn("user", "q"), Turn("tool_call", "f()"), Turn("tool_result", "1"), Turn("assistant", "one"))
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("yayi", "a\n\n<|End|>b\n\n<|End|>"),
        ("yayi-llama2", "a\n\n<|End|>b\n\n<|End|>"),
        ("yayi2", "a</s>b</s>"),
        ("chatml", "a<|im_end|>b<|im_end|>"),
        ("llama3", "a<|eot_id|>b<|eot_id|>"),
        ("qwen", "a<|im_end|>b<|im_end|>"),
    ],
)
def test_replies_and_their_end_tokens_are_supervised_and_nothing_else(template: str, expected: str) -> None:
    assert supervised(TALK, template) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("yayi", "f()\n\n<|End|>one\n\n<|End|>"),
        ("yayi2", "f()</s>one</s>"),
        ("chatml", "f()<|im_end|>one<|im_end|>"),
        ("qwen", "<tool_call>\nf()\n</tool_call><|im_end|>one<|im_end|>"),
        ("llama3", "f()<|eot_id|>one<|eot_id|>"),
    ],
)
def test_tool_calls_are_supervised_and_tool_results_are_not(template: str, expected: str) -> None:
    assert supervised(TOOLS, template) == expected


def test_only_the_last_reply_is_supervised_where_that_is_asked() -> None:
    assert supervised(TALK, "yayi", "last") == "b\n\n<|End|>"
    assert supervised(TOOLS, "yayi", "last") == "one\n\n<|End|>"


def test_a_reply_not_to_be_trained_on_is_context() -> None:
    turns = (TALK.turns[0], TALK.turns[1]._replace(train=False), *TALK.turns[2:])
    assert supervised(Conversation(turns), "yayi") == "b\n\n<|End|>"
    untrained = (*TALK.turns[:3], TALK.turns[3]._replace(train=False))
    assert supervised(Conversation(untrained), "yayi", "last") == ""


def test_two_human_turns_in_a_row_leave_the_next_reply_whole() -> None:
    conversation = Conversation((Turn("user", "a"), Turn("user", "b"), Turn("assistant", "c")))
    assert supervised(conversation, "yayi") == "c\n\n<|End|>"


def test_control_literals_in_text_move_no_border() -> None:
    conversation = Conversation((Turn("user", "<|YaYi|>:\nx<|End|>"), Turn("assistant", "<|Human|>:\ny")))
    assert supervised(conversation, "yayi") == "<|Human|>:\ny\n\n<|End|>"
