import json
from typing import Any

import pytest

from yayi_data.convert import FROM, TO, conversation, value
from yayi_data.errors import ConversionError
from yayi_data.types import DIALECTS, Conversation, Turn

Value = dict[str, Any]
CALL = '{"name": "weather", "arguments": {"city": "北京", "degree": 1.50}}'
ASKED, ANSWERED = Turn("user", "问"), Turn("assistant", "答")
TOOLS = '[{"name": "weather", "description": "查询天气", "parameters": {"type": "object"}}]'


def said(*turns: tuple[str, str], **members: Any) -> Value:
    return {"conversations": [{"from": name, "value": text} for name, text in turns], **members}


def test_every_dialect_has_both_functions() -> None:
    assert tuple(FROM) == tuple(TO) == DIALECTS


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ({"instruction": " 写 \n", "input": "", "output": "好"}, " 写 \n"),
        ({"instruction": "写", "output": "好"}, "写"),
        ({"instruction": "写\n", "input": " 材料 ", "output": "好"}, "写\n\n 材料 "),
        ({"instruction": "写", "input": None, "system": None, "output": "好"}, "写"),
    ],
)
def test_alpaca_joins_instruction_and_input_and_strips_nothing(record: Value, asked: str) -> None:
    assert conversation(record, "alpaca") == Conversation((Turn("user", asked), Turn("assistant", "好")))


def test_alpaca_history_comes_before_the_instruction() -> None:
    record = {
        "instruction": "三",
        "input": "",
        "output": "3",
        "system": "数",
        "history": [["一", "1"], ["二", "2"]],
    }
    parsed = conversation(record, "alpaca")
    assert [turn.text for turn in parsed.turns] == ["一", "1", "二", "2", "三", "3"]
    assert [turn.role for turn in parsed.turns] == ["user", "assistant"] * 3
    assert parsed.system == "数"
    assert value(parsed, "alpaca") == record


def test_multi_turn_reads_and_writes_its_roles_system_and_flags() -> None:
    record = said(("human", "问"), ("yayi", "答"), ("human", "再问"), ("yayi", "再答"), system="")
    record["conversations"][1]["train"] = False
    parsed = conversation(record, "multi-turn")
    assert parsed.turns[1] == Turn("assistant", "答", train=False)
    assert parsed.turns[3] == Turn("assistant", "再答", train=True)
    assert value(parsed, "multi-turn") == record


@pytest.mark.parametrize(
    ("flags", "train"),
    [
        ({"train": True}, True),
        ({"train": False}, False),
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"id": 3}, True),
    ],
)
def test_train_and_weight_count_in_replies_and_not_in_questions(flags: Value, train: bool) -> None:
    record = {
        "conversations": [{"from": "human", "value": "问"} | flags, {"from": "yayi", "value": "答"} | flags]
    }
    assert [turn.train for turn in conversation(record, "multi-turn").turns] == [True, train]


def test_sharegpt_holds_tools_calls_and_results() -> None:
    record = said(
        ("human", "天气"),
        ("function_call", CALL),
        ("observation", "晴"),
        ("gpt", "晴天"),
        system="助手",
        tools=TOOLS,
    )
    parsed = conversation(record, "sharegpt")
    assert [turn.role for turn in parsed.turns] == ["user", "tool_call", "tool_result", "assistant"]
    assert (parsed.system, parsed.tools) == ("助手", TOOLS)
    assert value(parsed, "sharegpt") == record


@pytest.mark.parametrize("tools", ["", "[]", [], None])
def test_empty_tools_are_no_tools(tools: Any) -> None:
    record = said(("human", "问"), ("gpt", "答"), tools=tools)
    assert conversation(record, "sharegpt").tools == ""


def test_sharegpt_system_turn_becomes_the_system_text() -> None:
    record = said(("system", "助手"), ("human", "问"), ("gpt", "答"))
    assert conversation(record, "sharegpt").system == "助手"
    assert conversation(record | {"system": "助手"}, "sharegpt").system == "助手"
    with pytest.raises(ConversionError) as caught:
        conversation(record | {"system": "别的"}, "sharegpt")
    assert caught.value.reason == "two-systems"


def test_messages_hold_tools_calls_and_results() -> None:
    parsed = Conversation(
        (Turn("user", "天气"), Turn("tool_call", CALL), Turn("tool_result", "晴"), Turn("assistant", "晴天")),
        "助手",
        TOOLS,
    )
    record = value(parsed, "messages")
    assert record["messages"] == [
        {"role": "system", "content": "助手"},
        {"role": "user", "content": "天气"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "北京", "degree": 1.50}'},
                }
            ],
        },
        {"role": "tool", "content": "晴", "tool_call_id": "call_0"},
        {"role": "assistant", "content": "晴天"},
    ]
    assert record["tools"] == [{"type": "function", "function": tool} for tool in json.loads(TOOLS)]
    assert conversation(record, "messages") == parsed


def test_message_that_speaks_and_calls_is_two_turns_and_one_message_again() -> None:
    spoken = {"role": "assistant", "content": "我查一下", "weight": 0}
    spoken["tool_calls"] = [
        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    record = {"messages": [{"role": "user", "content": "问"}, spoken]}
    parsed = conversation(record, "messages")
    assert parsed.turns[1:] == (
        Turn("assistant", "我查一下", train=False),
        Turn("tool_call", '{"name": "f", "arguments": {}}', train=False),
    )
    assert value(parsed, "messages") == record


def calls(*ids: str) -> Value:
    function = {"name": "f", "arguments": "{}"}
    return {
        "role": "assistant",
        "tool_calls": [{"id": i, "type": "function", "function": function} for i in ids],
    }


def result(number: str) -> Value:
    return {"role": "tool", "tool_call_id": number, "content": number}


def test_tool_results_follow_the_order_of_their_calls() -> None:
    messages = [{"role": "user", "content": "问"}, calls("a", "b"), result("b"), result("a"), calls("b", "a")]
    messages += [result("a"), result("b")]
    texts = [
        turn.text
        for turn in conversation({"messages": messages}, "messages").turns
        if turn.role == "tool_result"
    ]
    assert texts == ["a", "b", "b", "a"]


def test_results_answer_the_latest_calls() -> None:
    turns = [Turn("user", "问"), Turn("tool_call", f"[{CALL}, {CALL}]"), Turn("tool_result", "一"), ANSWERED]
    turns += [
        Turn("user", "又问"),
        Turn("tool_call", CALL),
        Turn("tool_result", "三"),
        Turn("tool_result", "多"),
    ]
    parsed = Conversation((*turns, ANSWERED))
    record = value(parsed, "messages")
    assert [m.get("tool_call_id") for m in record["messages"] if m["role"] == "tool"] == [
        "call_0",
        "call_2",
        None,
    ]
    assert conversation(record, "messages") == parsed


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_only_the_assistant_calls_tools(role: str) -> None:
    with pytest.raises(ConversionError) as caught:
        conversation({"messages": [calls("a") | {"role": role}]}, "messages")
    assert caught.value.reason == "tool-call"


@pytest.mark.parametrize("arguments", ["", "not json", "[1]", '"text"', '{"a": 1.50, "b" :[ ]}'])
def test_arguments_survive_whatever_text_they_are(arguments: str) -> None:
    message = calls("call_0") | {"content": None}
    message["tool_calls"][0]["function"]["arguments"] = arguments
    record = {"messages": [{"role": "user", "content": "问"}, message]}
    assert value(conversation(record, "messages"), "messages") == record


def test_arguments_given_as_an_object_are_written_as_text() -> None:
    message = calls("call_0")
    message["tool_calls"][0]["function"]["arguments"] = {"a": "中"}
    parsed = conversation({"messages": [{"role": "user", "content": "问"}, message]}, "messages")
    assert parsed.turns[1].text == '{"name": "f", "arguments": {"a": "中"}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weather(北京)",
        '{"name": "f"}',
        '{"name": "f", "arguments": 3}',
        CALL + "!",
        f"[{CALL}",
        f"[{CALL},]",
        "[]",
        f"[{CALL}] !",
        '{"name": "f", "arguments": {}, "id": 1}',
        '{"name": "f", "arguments": ' + '{"a":' * 100_000,
    ],
)
def test_call_of_another_form_is_refused_by_messages(text: str) -> None:
    with pytest.raises(ConversionError) as caught:
        value(Conversation((Turn("user", "问"), Turn("tool_call", text))), "messages")
    assert caught.value.reason == "tool-call"


@pytest.mark.parametrize("tools", ["weather", '{"name": "f"}', "[1]", "[" * 100_000])
def test_tool_definitions_of_another_form_are_refused_by_messages(tools: str) -> None:
    with pytest.raises(ConversionError) as caught:
        value(Conversation((Turn("user", "问"), Turn("assistant", "答")), tools=tools), "messages")
    assert caught.value.reason == "tool-definitions"


@pytest.mark.parametrize("dialect", ["alpaca", "multi-turn"])
@pytest.mark.parametrize(
    "parsed", [Conversation((ASKED, Turn("tool_call", CALL))), Conversation((ASKED, ANSWERED), tools=TOOLS)]
)
def test_plain_dialects_hold_no_tools(dialect: str, parsed: Conversation) -> None:
    with pytest.raises(ConversionError) as caught:
        value(parsed, dialect)
    assert caught.value.reason == "tools"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "turns",
    [(ASKED, ASKED, ANSWERED), (ASKED, ANSWERED, ANSWERED), (ASKED, ANSWERED, ASKED), (ANSWERED,), ()],
)
def test_every_dialect_holds_questions_and_replies_by_turns(dialect: str, turns: tuple[Turn, ...]) -> None:
    with pytest.raises(ConversionError) as caught:
        value(Conversation(turns), dialect)
    assert caught.value.reason == "not-alternating"


CALLED, RESULT = Turn("tool_call", CALL), Turn("tool_result", "晴")


@pytest.mark.parametrize(
    "turns", [(ASKED, ANSWERED, CALLED, RESULT, ANSWERED), (ASKED, CALLED, RESULT, RESULT, ANSWERED)]
)
def test_messages_hold_what_happens_at_once_and_sharegpt_does_not(turns: tuple[Turn, ...]) -> None:
    parsed = Conversation(turns)
    assert conversation(value(parsed, "messages"), "messages") == parsed
    with pytest.raises(ConversionError) as caught:
        value(parsed, "sharegpt")
    assert caught.value.reason == "not-alternating"


def test_messages_train_on_a_reply_and_its_call_or_on_neither() -> None:
    with pytest.raises(ConversionError) as caught:
        value(Conversation((ASKED, ANSWERED, CALLED._replace(train=False))), "messages")
    assert caught.value.reason == "train-flags"


def test_alpaca_refuses_a_reply_that_is_not_trained_on() -> None:
    with pytest.raises(ConversionError) as caught:
        value(Conversation((ASKED, Turn("assistant", "答", train=False))), "alpaca")
    assert caught.value.reason == "train-flags"
