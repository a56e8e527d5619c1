import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import EntryNotFoundError
from tokenizers import Tokenizer as Plain

from yayi_data import engines
from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer, load_tokenizer

YAYI = load_template("yayi")
Json = dict[str, Any]


def parsed(families: dict[str, str], name: str) -> Json:
    content: Json = json.loads(families[name])
    return content


def test_control_tokens_get_the_ids_that_add_special_tokens_gives(families: dict[str, str]) -> None:
    for name, content in families.items():
        plain = Plain.from_str(content)
        plain.add_special_tokens(list(YAYI.control))
        expected = {token: plain.token_to_id(token) for token in YAYI.control}
        assert Tokenizer(json.loads(content), YAYI).control_ids == expected, name


def test_control_tokens_that_are_there_are_not_added_again(families: dict[str, str], tmp_path: Path) -> None:
    once = Tokenizer(parsed(families, "qwen"), YAYI)
    once.write(tmp_path)
    again = load_tokenizer(str(tmp_path), YAYI)
    assert (again.control_ids, again.fingerprint) == (once.control_ids, once.fingerprint)


def test_what_is_written_is_the_tokenizer_with_control_tokens_added(
    families: dict[str, str], tmp_path: Path
) -> None:
    for name, content in families.items():
        Tokenizer(json.loads(content), YAYI).write(tmp_path)
        plain, written = Plain.from_str(content), Plain.from_file(str(tmp_path / "tokenizer.json"))
        plain.add_special_tokens(list(YAYI.control))
        assert json.loads(written.to_str()) == json.loads(plain.to_str()), name


@pytest.mark.parametrize(
    ("name", "prefix", "suffix"),
    [("byte_level", [], []), ("llama2", [1], []), ("llama3", [0], []), ("unigram", [], [2])],
)
def test_leading_and_trailing_ids_are_the_tokenizers_own(
    families: dict[str, str], name: str, prefix: list[int], suffix: list[int]
) -> None:
    tokenizer = Tokenizer(parsed(families, name), YAYI)
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == (prefix, suffix)


def reordered(value: Any) -> Any:
    """The same JSON with the members of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def test_the_fingerprint_does_not_depend_on_how_the_file_is_written(families: dict[str, str]) -> None:
    for name, content in families.items():
        original = json.loads(content)
        rewritten = reordered(original)
        if merges := rewritten["model"].get("merges"):
            rewritten["model"]["merges"] = [" ".join(pair) for pair in merges]
        fingerprints = {Tokenizer(one, YAYI, "reference").fingerprint for one in (original, rewritten)}
        assert len(fingerprints) == 1, name


def _swap_merges(content: Json) -> None:
    content["model"]["merges"][:2] = content["model"]["merges"][1::-1]


def _swap_vocabulary(content: Json) -> None:
    *_, a, b = content["model"]["vocab"]
    vocab = content["model"]["vocab"]
    vocab[a], vocab[b] = vocab[b], vocab[a]


def _change_flag(content: Json) -> None:
    content["added_tokens"][0]["normalized"] = True


def _drop_normalizer(content: Json) -> None:
    content["normalizer"] = None


def _drop_post_processor(content: Json) -> None:
    content["post_processor"] = None


def _drop_byte_fallback(content: Json) -> None:
    content["model"]["byte_fallback"] = False


@pytest.mark.parametrize(
    "change",
    [
        _swap_merges,
        _swap_vocabulary,
        _change_flag,
        _drop_normalizer,
        _drop_post_processor,
        _drop_byte_fallback,
    ],
)
def test_the_fingerprint_follows_whatever_decides_the_ids(families: dict[str, str], change: Any) -> None:
    content = parsed(families, "llama2")
    before = Tokenizer(content, YAYI, "reference").fingerprint
    changed = parsed(families, "llama2")
    change(changed)
    assert Tokenizer(changed, YAYI, "reference").fingerprint != before


def test_the_fast_engine_runs_where_it_agrees(families: dict[str, str]) -> None:
    names = set(families) - {"unigram", "collapse"}
    assert {name for name in names if Tokenizer(parsed(families, name), YAYI).engine == "fast"} == names


def test_a_tokenizer_that_the_fast_engine_cannot_load_runs_on_the_reference(families: dict[str, str]) -> None:
    tokenizer = Tokenizer(parsed(families, "unigram"), YAYI)
    assert tokenizer.engine == "reference"
    assert tokenizer.engine_reason.startswith("fastokens cannot load this tokenizer: ")
    with pytest.raises(YayiError, match="the fast engine cannot run this tokenizer: fastokens cannot load"):
        Tokenizer(parsed(families, "unigram"), YAYI, "fast").wait()


def test_an_engine_that_differs_on_the_fixed_strings_does_not_run(
    families: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load, other = engines._load_fast, parsed(families, "bloom")
    monkeypatch.setattr(engines, "_load_fast", lambda _: load(other))
    content = parsed(families, "byte_level")
    tokenizer = Tokenizer(content, YAYI)
    assert tokenizer.engine == "reference"
    assert tokenizer.engine_reason == "fastokens gave other ids than tokenizers on a sample"
    with pytest.raises(YayiError, match="gave other ids"):
        Tokenizer(content, YAYI, "fast").wait()


def test_an_engine_that_differs_on_a_sample_of_the_input_gives_way(families: dict[str, str]) -> None:
    tokenizer = Tokenizer(parsed(families, "byte_level"), YAYI)
    other = Tokenizer(parsed(families, "bloom"), YAYI)
    tokenizer._engines._fast = other._engines._fast
    tokenizer.check_sample(["Hello world, I'm a helpful assistant."])
    assert tokenizer.engine == "reference"
    ids, ends = tokenizer.encode_flat(["Hello world", ""])
    assert ids.tolist() == tokenizer.plain.encode("Hello world").ids
    assert ends.tolist() == [len(ids), len(ids)]


def test_added_tokens_that_are_not_special_keep_their_ids_on_both_engines(families: dict[str, str]) -> None:
    content = parsed(families, "qwen")
    expected = Plain.from_str(families["qwen"]).encode("<think>x</think>").ids
    for engine in ("fast", "reference"):
        assert Tokenizer(content, YAYI, engine).encode_flat(["<think>x</think>"])[0].tolist() == expected


def test_truncation_padding_and_dropout_in_the_file_do_not_count(families: dict[str, str]) -> None:
    content = parsed(families, "byte_level")
    expected = Tokenizer(content, YAYI).encode_flat(["Hello world " * 9])
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["model"]["dropout"] = 0.5
    for engine in ("fast", "reference"):
        found = Tokenizer(content, YAYI, engine).encode_flat(["Hello world " * 9])
        assert np.array_equal(found[0], expected[0])


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word", "normalized"])
def test_a_control_token_that_changes_its_neighbours_is_refused(families: dict[str, str], flag: str) -> None:
    content = json.loads(Tokenizer(parsed(families, "llama2"), YAYI).plain.to_str())
    content["added_tokens"][-1][flag] = True
    with pytest.raises(YayiError, match=rf"control token <\|End\|> is flagged {flag}"):
        Tokenizer(content, YAYI)


def test_added_ids_that_the_library_reads_otherwise_are_refused(families: dict[str, str]) -> None:
    content = parsed(families, "qwen")
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<|im_end|>"]
    with pytest.raises(YayiError, match=r"gives <think> the id 502, and the tokenizers library reads 501"):
        Tokenizer(content, YAYI)


def test_yayi2_takes_the_tokens_that_its_vocabulary_has_for_it(families: dict[str, str]) -> None:
    content = parsed(families, "byte_level")
    names = {436: "<role_a>", 437: "<role_b>", 438: "<role_c>"}
    model = content["model"]
    taken = {token for token, number in model["vocab"].items() if number in names}
    model["vocab"] = {names.get(number, token): number for token, number in model["vocab"].items()}
    model["merges"] = [m for m in model["merges"] if taken.isdisjoint([*m, "".join(m)])]
    plain = Plain.from_str(json.dumps(content))
    plain.add_special_tokens([*names.values(), "<|endoftext|>"])
    tokenizer = Tokenizer(
        json.loads(plain.to_str()), load_template("yayi2"), config={"eos_token": {"content": "<|endoftext|>"}}
    )
    assert tokenizer.control_ids == {"<|System|>": 436, "<|Human|>": 437, "<|YaYi|>": 438, "</s>": 500}
    assert list(tokenizer.names.values()) == [*names.values(), "<|endoftext|>"]


def test_yayi2_adds_its_tokens_where_the_ids_are_taken_by_text(families: dict[str, str]) -> None:
    tokenizer = Tokenizer(parsed(families, "byte_level"), load_template("yayi2"))
    assert tokenizer.control_ids == {"<|System|>": 500, "<|Human|>": 501, "<|YaYi|>": 502, "</s>": 0}


def test_a_folder_a_file_and_a_hub_id_load_alike(
    families: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(families["byte_level"], encoding="utf-8")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, name: str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    found = {load_tokenizer(name, YAYI).fingerprint for name in (str(tmp_path), str(file), "some/model")}
    assert len(found) == 1


def test_the_hub_is_asked_for_the_config_too(
    families: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text(families["byte_level"], encoding="utf-8")
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        if name != "tokenizer.json":
            raise EntryNotFoundError("this repository has none")
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_tokenizer("some/model", YAYI)
    assert asked == [("some/model", "tokenizer_config.json"), ("some/model", "tokenizer.json")]


def test_a_hub_id_needs_nothing_that_another_library_has_imported() -> None:
    """`huggingface_hub.utils` is there only once somebody has imported it."""
    script = "import sys; from yayi_data.tokenizer import _download; _download('no/model')"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", script], env=offline, capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1].startswith("yayi_data.errors.YayiError: no/model: no such folder")


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(repo: str, name: str) -> str:
        raise FileNotFoundError("cannot reach the hub.\nCheck your connection.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(YayiError) as caught:
        load_tokenizer("no/model", YAYI)
    assert str(caught.value) == (
        "no/model: no such folder here, and the hub gave no tokenizer.json: cannot reach the hub."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the folder has no tokenizer.json"),
        ("{", "not valid JSON"),
        ("[]", "found a JSON list, expected an object"),
        ("{}", "found no model with a vocabulary"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}}', "tokenizers cannot read this"),
    ],
)
def test_a_broken_tokenizer_is_one_sentence(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(YayiError, match=message) as caught:
        load_tokenizer(str(tmp_path), YAYI)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nope", "./nope", "/nope/nope", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(path: str) -> None:
    with pytest.raises(YayiError, match="no such folder or file here"):
        load_tokenizer(path, YAYI)
