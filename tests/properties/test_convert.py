import json

from hypothesis import given
from hypothesis import strategies as st

from yayi_data.convert import conversation, value
from yayi_data.schema import accepts
from yayi_data.types import DIALECTS, Conversation, Role, Turn
from yayi_data.validate.turns import in_order

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ["\n", " 问 ", "<|YaYi|>", "【媒宣领域任务】写", '{"name": "f", "arguments": {}}']
)
SYSTEM = st.just("") | TEXT
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
JSON = st.recursive(SCALAR, st.lists, max_leaves=5)


@st.composite
def plain(draw: st.DrawFn, *, flags: bool) -> Conversation:
    exchanges = draw(st.lists(st.tuples(TEXT, TEXT, st.booleans()), min_size=1, max_size=4))
    turns: list[Turn] = []
    for asked, answered, train in exchanges:
        turns += [Turn("user", asked), Turn("assistant", answered, train or not flags)]
    return Conversation(tuple(turns), draw(SYSTEM))


@st.composite
def call_texts(draw: st.DrawFn) -> str:
    arguments = draw(st.lists(st.dictionaries(TEXT, JSON, max_size=2), min_size=1, max_size=3))
    indent = draw(st.sampled_from([None, 1]))
    name = json.dumps(draw(TEXT), ensure_ascii=False)
    texts = [f'{{"name": {name}, "arguments": {json.dumps(given, indent=indent)}}}' for given in arguments]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


@st.composite
def with_tools(draw: st.DrawFn, *, at_once: bool) -> Conversation:
    """Draw a conversation with tools; `at_once`: a reply may bring a call, several results may follow."""
    asks: list[tuple[Role, ...]] = [("user",), ("tool_result",)]
    replies: list[tuple[Role, ...]] = [("assistant",), ("tool_call",)]
    if at_once:
        asks.append(("tool_result", "tool_result"))
        replies.append(("assistant", "tool_call"))
    turns: list[Turn] = []
    for _ in range(draw(st.integers(1, 4))):
        train = draw(st.booleans())
        turns += [Turn(role, draw(TEXT)) for role in draw(st.sampled_from(asks))]
        for role in draw(st.sampled_from(replies)):
            turns.append(Turn(role, draw(call_texts() if role == "tool_call" else TEXT), train))
    tools = draw(st.lists(st.fixed_dictionaries({"name": TEXT, "parameters": st.just({})}), max_size=2))
    return Conversation(tuple(turns), draw(SYSTEM), json.dumps(tools, ensure_ascii=False) if tools else "")


def check_there_and_back(parsed: Conversation, dialect: str) -> None:
    """A conversation comes back as it was, and the record between is valid."""
    record = value(parsed, dialect)
    assert conversation(record, dialect) == parsed
    assert accepts(dialect).is_valid([record])
    assert dialect == "alpaca" or in_order(dialect, record)


@given(plain(flags=True))
def test_multi_turn_gives_the_conversation_back(parsed: Conversation) -> None:
    check_there_and_back(parsed, "multi-turn")


@given(plain(flags=False))
def test_alpaca_gives_the_conversation_back(parsed: Conversation) -> None:
    check_there_and_back(parsed, "alpaca")


@given(with_tools(at_once=False))
def test_sharegpt_gives_the_conversation_back(parsed: Conversation) -> None:
    check_there_and_back(parsed, "sharegpt")


@given(with_tools(at_once=True))
def test_messages_give_the_conversation_back(parsed: Conversation) -> None:
    check_there_and_back(parsed, "messages")


@given(TEXT, SYSTEM, TEXT, SYSTEM)
def test_alpaca_and_its_conversions_hold_one_conversation(
    asked: str, more: str, output: str, system: str
) -> None:
    record = {"instruction": asked, "input": more, "output": output, "system": system}
    parsed = conversation(record, "alpaca")
    for dialect in DIALECTS:
        check_there_and_back(parsed, dialect)
