"""Others render a conversation as we do: through the Jinja template, and through the TOML we write."""

from dataclasses import replace

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from yayi_data.chat_template import chat_template, template_toml
from yayi_data.encode import encode
from yayi_data.render import prompt, render
from yayi_data.template import FOLDER, load_template
from yayi_data.tokenizer import load_tokenizer
from yayi_data.types import Conversation, Turn

CONVERSATIONS = {
    "one exchange": Conversation((Turn("user", "你是谁？"), Turn("assistant", "我是雅意。"))),
    "a system": Conversation((Turn("user", 'a "b" \\n {{ c }}'), Turn("assistant", "c\n")), "Be brief.\n"),
    "two exchanges": Conversation(
        (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
    ),
    "a tool": Conversation((Turn("user", "a"), Turn("tool_result", "b"), Turn("assistant", "c"))),
}
ROLES = {"user": "user", "assistant": "assistant", "tool_result": "tool"}


@pytest.fixture(scope="module", params=sorted(path.stem for path in FOLDER.glob("*.toml")))
def template(request):
    return load_template(request.param)


@pytest.fixture(scope="module", params=["byte_level", "llama_style"])
def tokenizers(request, template, tmp_path_factory):
    """Our tokenizer, and transformers' reading of the folder that ours wrote."""
    folder = tmp_path_factory.mktemp("tokenizer")
    ours = load_tokenizer(str(request.getfixturevalue(request.param)), template, "reference")
    ours.write(folder)
    return ours, AutoTokenizer.from_pretrained(folder)


def messages(conversation):
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    return system + [{"role": ROLES[turn.role], "content": turn.text} for turn in conversation.turns]


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_apply_chat_template_gives_our_ids(template, tokenizers, conversation):
    ours, theirs = tokenizers
    found = theirs.apply_chat_template(messages(conversation), return_dict=True)["input_ids"]
    assert found == encode([render(conversation, template)], ours).ids.tolist()


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_generation_prompt_is_ours(template, tokenizers, conversation):
    ours, theirs = tokenizers
    asked = Conversation(conversation.turns[:-1], conversation.system)
    found = theirs.apply_chat_template(messages(asked), add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert found == encode([prompt(asked, template)], ours).ids.tolist()


def test_the_toml_is_the_same_template(template, tmp_path):
    (tmp_path / "again.toml").write_text(template_toml(template), encoding="utf-8")
    assert load_template(str(tmp_path / "again.toml")).fingerprint == template.fingerprint


@pytest.mark.parametrize(
    ("asked", "told"),
    [([{"role": "narrator", "content": ""}], "unknown role narrator"),
     ([{"role": "user", "content": ""}, {"role": "system", "content": ""}], "system must come first")],
)  # fmt: skip
def test_roles_that_the_template_lacks_are_refused(tokenizers, asked, told):
    with pytest.raises(Exception, match=told):
        tokenizers[1].apply_chat_template(asked)


def test_a_beginning_token_is_written_only_where_there_is_one(template):
    names = {token: token for token in template.control}
    assert chat_template(template, names, bos=True).startswith("{{- bos_token }}")
    assert "bos_token" not in chat_template(template, names, bos=False)


def test_control_tokens_go_by_the_tokenizers_names(byte_level, tmp_path):
    content = Tokenizer.from_file(str(byte_level / "tokenizer.json"))
    content.add_special_tokens([f"<special_{i}>" for i in range(content.get_vocab_size(), 520)])
    content.save(str(tmp_path / "tokenizer.json"))
    where = {"<|System|>": 516, "<|Human|>": 517, "<|YaYi|>": 518}
    source = template_toml(replace(load_template("yayi2"), existing=where | {"</s>": "eos"}))
    (tmp_path / "own.toml").write_text(source, encoding="utf-8")
    template = load_template(str(tmp_path / "own.toml"))
    ours = load_tokenizer(str(tmp_path), template, "reference")
    ours.write(tmp_path)
    asked = CONVERSATIONS["one exchange"]
    found = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(messages(asked), return_dict=True)
    assert found["input_ids"] == encode([render(asked, template)], ours).ids.tolist()
    assert 516 in found["input_ids"]
