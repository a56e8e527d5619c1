import json
import random
from pathlib import Path
from typing import Any

import pytest

from yayi_data.encode import encode
from yayi_data.render import prompt, render
from yayi_data.template import FOLDER, load_template
from yayi_data.tokenizer import Tokenizer, load_tokenizer
from yayi_data.types import Conversation, Turn

transformers = pytest.importorskip("transformers")

TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.toml"))
WORDS = ["你好", "，", "。", "é", "🙂", "龘", "▁", "e\u0301"]
WORDS += ["\n", "\n\n", " ", "  ", "\t", "a", "I'm", "12", ":", "<think>", "{}", "{{ x }}", "'", '"', "\\"]
CALL = {"name": "查询", "arguments": {"城市": "北京", "n": 1.5}}
TOOLS = [{"name": "查询", "parameters": {"type": "object"}}, {"name": "b"}]
WRAPPED = [{"type": "function", "function": tool} for tool in TOOLS]
Message = dict[str, Any]
Told = tuple[Conversation, list[Message], list[Message] | None]


def some_text(rng: random.Random) -> str:
    return "".join(rng.choices(WORDS, k=rng.randrange(6)))


def generated(rng: random.Random) -> Told:
    """A conversation, and the same as messages and tools."""
    turns: list[Turn] = []
    messages: list[Message] = []
    for _ in range(rng.randrange(1, 4)):
        question, answer = some_text(rng), some_text(rng)
        turns.append(Turn("user", question))
        messages.append({"role": "user", "content": question})
        if rng.random() < 0.2:
            result, called = some_text(rng), [CALL] * rng.randrange(1, 3)
            written = json.dumps(called if len(called) > 1 else CALL, ensure_ascii=False)
            turns += [Turn("tool_call", written), Turn("tool_result", result)]
            calls = [{"type": "function", "function": call} for call in called]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            messages.append({"role": "tool", "content": result})
        turns.append(Turn("assistant", answer))
        messages.append({"role": "assistant", "content": answer})
    system = some_text(rng) if rng.random() < 0.5 else ""
    has_tools = rng.random() < 0.2
    if system:
        messages.insert(0, {"role": "system", "content": system})
    conversation = Conversation(
        tuple(turns), system, json.dumps(TOOLS, ensure_ascii=False) if has_tools else ""
    )
    return conversation, messages, WRAPPED if has_tools else None


def agree(ours: Tokenizer, folder: Path, told: list[Told], label: str) -> None:
    """Compare ids and mask with those of the folder that we write, loaded the way a user would."""
    ours.write(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for tools in (None, WRAPPED):
        some = [(talk, messages) for talk, messages, given in told if given == tools]
        found = theirs.apply_chat_template(
            [messages for _, messages in some],
            tools=tools,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        encoded = encode([render(talk, ours.template) for talk, _ in some], ours)
        for i, (talk, _) in enumerate(some):
            row = slice(*encoded.offsets[i : i + 2])
            assert found["input_ids"][i] == encoded.ids[row].tolist(), (label, talk)
            if label != "collapse" or not begins_blank(talk):
                assert found["assistant_masks"][i] == encoded.mask[row].astype(int).tolist(), (label, talk)


def begins_blank(talk: Conversation) -> bool:
    """Whether `collapse` takes a reply's first character away, behind which transformers marks nothing."""
    return any(turn.role == "assistant" and not turn.text[:1].strip() for turn in talk.turns)


@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_gives_our_ids_and_our_mask(families: dict[str, str], name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    told = [generated(rng) for _ in range(1000)]
    for family, content in families.items():
        agree(Tokenizer(json.loads(content), load_template(name)), tmp_path, told, family)


@pytest.mark.parametrize(("family", "name"), [("mistral", "yayi-llama2"), ("qwen3", "qwen")])
def test_transformers_gives_our_ids_and_our_mask_with_real_tokenizers(
    shared: Path, family: str, name: str, tmp_path: Path
) -> None:
    rng = random.Random(family)
    ours = load_tokenizer(str(shared / "tokenizers" / family), load_template(name))
    agree(ours, tmp_path, [generated(rng) for _ in range(1000)], family)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_generation_prompt_is_ours(families: dict[str, str], name: str, tmp_path: Path) -> None:
    template = load_template(name)
    for content in families.values():
        ours = Tokenizer(json.loads(content), template)
        ours.write(tmp_path)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        found = theirs.apply_chat_template(
            [{"role": "user", "content": "你是谁"}], add_generation_prompt=True, return_dict=True
        )
        asked = prompt(Conversation((Turn("user", "你是谁"),)), template)
        assert found["input_ids"] == encode([asked], ours).ids.tolist()


def test_the_written_folder_stops_and_pads_with_the_end_token(
    families: dict[str, str], tmp_path: Path
) -> None:
    Tokenizer(json.loads(families["llama2"]), load_template("yayi")).write(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == ("<s>", "<|End|>", "<|End|>")
    plain = Tokenizer(json.loads(families["llama2"]), load_template("yayi")).plain
    for text in ("<|Human|>:\n你好  x\n\n<|YaYi|>:\n", " a", ""):
        assert theirs(text)["input_ids"] == plain.encode(text).ids


def test_a_role_that_the_template_lacks_is_an_error(families: dict[str, str], tmp_path: Path) -> None:
    Tokenizer(json.loads(families["byte_level"]), load_template("yayi")).write(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(Exception, match="the roles are system, user, assistant and tool, found critic"):
        theirs.apply_chat_template([{"role": "critic", "content": "x"}])
