"""The example files and the demo's tokenizer are what data/README.md says."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from yayi_data.convert import conversation
from yayi_data.domains import GENERAL, load_registry
from yayi_data.read import chunks_of, open_sources
from yayi_data.validate import RuleSet, check, detect

DATA = Path(__file__).resolve().parents[1] / "data"
SINGLE, MULTI = DATA / "yayi_train_example.json", DATA / "yayi_train_example_multi_rounds.json"
TINY = DATA / "tiny"


def test_instructions_cover_the_five_domains() -> None:
    registry = load_registry()
    records = [json.loads(line) for line in SINGLE.read_text(encoding="utf-8").splitlines()]
    domains = Counter(registry.domain_of(conversation(record, "alpaca")) for record in records)
    assert domains == dict.fromkeys(registry.domains, 17) | {GENERAL: 15}


def test_conversations_have_two_to_four_exchanges() -> None:
    records = json.loads(MULTI.read_text(encoding="utf-8"))
    assert len(records) == 20
    assert {len(record["conversations"]) for record in records} == {4, 6, 8}


@pytest.mark.parametrize("path", [SINGLE, MULTI], ids=["single", "multi"])
def test_examples_pass_every_rule(path: Path) -> None:
    (source,) = open_sources([str(path)])
    for chunk in chunks_of(source):
        assert check(chunk, source, detect(source), RuleSet()).problems == []


def test_tokenizer_gives_the_examples_back_and_has_no_control_token() -> None:
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    assert not tokenizer.get_added_tokens_decoder()
    for text in (SINGLE.read_text(encoding="utf-8"), "<|End|> 🎉\n\n \u0301é"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_model_config_fits_the_tokenizer() -> None:
    config = json.loads((TINY / "config.json").read_text())
    assert config["vocab_size"] == Tokenizer.from_file(str(TINY / "tokenizer.json")).get_vocab_size()


def test_tiny_folder_is_what_its_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, TINY / "make.py", tmp_path], check=True)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (TINY / made.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 3
