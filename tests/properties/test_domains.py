from hypothesis import given
from hypothesis import strategies as st

from yayi_data.domains import GENERAL, load_registry
from yayi_data.types import Conversation, Turn

REGISTRY = load_registry()
WORDINGS = st.sampled_from(sorted(REGISTRY.domain_by_wording))
TEXT = st.text(max_size=12) | st.lists(
    st.sampled_from(["【", "】", " ", "\n", "写", "领域任务", *REGISTRY.domain_by_wording]), max_size=6
).map("".join)


@given(TEXT)
def test_domain_is_what_parsing_the_tag_says(text: str) -> None:
    tag = REGISTRY.parse(text)
    expected = REGISTRY.domain_by_wording.get(tag.name, tag.name) if tag else GENERAL
    assert REGISTRY.domain_of(Conversation((Turn("user", text),))) == expected


@given(TEXT, WORDINGS)
def test_adding_a_tag_sets_the_domain_and_stripping_it_gives_the_text_back(text: str, wording: str) -> None:
    tagged = REGISTRY.add(text, wording)
    if REGISTRY.parse(text) is None:
        assert REGISTRY.domain_of(Conversation((Turn("user", tagged),))) == REGISTRY.find(wording)
        assert REGISTRY.strip(tagged) == text
    assert REGISTRY.add(tagged, wording) == tagged
