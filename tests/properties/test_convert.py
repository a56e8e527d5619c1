import json

from hypothesis import given
from hypothesis import strategies as st

from yayi_data.convert import conversation, value
from yayi_data.types import Conversation, Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["\n", " 问 ", "<|YaYi|>", "【媒宣领域任务】写", '{"name": "f", "arguments": {}}']
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT, st.lists, max_leaves=5
)


@st.composite
def plain(draw: st.DrawFn, flags: bool = True) -> Conversation:
    exchanges = draw(st.lists(st.tuples(TEXT, TEXT, st.booleans()), min_size=1, max_size=4))
    turns = [
        turn
        for asked, answered, train in exchanges
        for turn in (Turn("user", asked), Turn("assistant", answered, train or not flags))
    ]
    return Conversation(tuple(turns), draw(TEXT))


@st.composite
def call_texts(draw: st.DrawFn) -> str:
    arguments = draw(st.lists(st.dictionaries(TEXT, JSON, max_size=2), min_size=1, max_size=3))
    indent = draw(st.sampled_from([None, 1]))
    name = json.dumps(draw(TEXT), ensure_ascii=False)
    texts = [f'{{"name": {name}, "arguments": {json.dumps(given, indent=indent)}}}' for given in arguments]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


@st.composite
def with_tools(draw: st.DrawFn) -> Conversation:
    turn = st.one_of(
        st.builds(Turn, st.sampled_from(["user", "tool_result"]), TEXT, st.just(True)),
        st.builds(Turn, st.just("assistant"), TEXT, st.booleans()),
        st.builds(Turn, st.just("tool_call"), call_texts(), st.booleans()),
    )
    tools = draw(st.lists(st.fixed_dictionaries({"name": TEXT, "parameters": st.just({})}), max_size=2))
    turns = (Turn("user", draw(TEXT)), *draw(st.lists(turn, max_size=8)))
    return Conversation(turns, draw(TEXT), json.dumps(tools, ensure_ascii=False) if tools else "")


@given(plain())
def test_multi_turn_gives_the_conversation_back(parsed: Conversation) -> None:
    assert conversation(value(parsed, "multi-turn"), "multi-turn") == parsed


@given(plain(flags=False))
def test_alpaca_gives_the_conversation_back(parsed: Conversation) -> None:
    assert conversation(value(parsed, "alpaca"), "alpaca") == parsed


@given(with_tools())
def test_sharegpt_and_messages_give_the_conversation_back(parsed: Conversation) -> None:
    for dialect in ("sharegpt", "messages"):
        assert conversation(value(parsed, dialect), dialect) == parsed


@given(TEXT, TEXT, TEXT, TEXT)
def test_alpaca_record_and_its_conversions_hold_the_same_conversation(
    i: str, more: str, output: str, s: str
) -> None:
    parsed = conversation({"instruction": i, "input": more, "output": output, "system": s}, "alpaca")
    for dialect in ("alpaca", "multi-turn", "sharegpt", "messages"):
        assert conversation(value(parsed, dialect), dialect) == parsed
