"""A model small enough that a command through the launcher is mostly its start."""

import json
from pathlib import Path

import pytest

TINY = Path(__file__).parents[2] / "data" / "tiny"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of a few thousand parameters, without weights or control tokens."""
    folder = tmp_path_factory.mktemp("base")
    config = json.loads((TINY / "config.json").read_text())
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | sizes))
    (folder / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    return folder
