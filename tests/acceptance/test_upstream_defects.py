"""The defects of the YaYi repository's training code, each with a test that fails where ours behaves so."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from yayi_data.encode import encode
from yayi_data.index import open_index
from yayi_data.manifest import load
from yayi_data.pipeline import PackOptions, pack
from yayi_data.plan import pack as plan_rows
from yayi_data.render import render
from yayi_data.shard import Shards
from yayi_data.template import load_template
from yayi_data.tokenizer import Tokenizer, load_tokenizer
from yayi_data.types import Conversation, Turn

TEMPLATE = load_template("yayi")
EXAMPLES = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def tokenizer(byte_level: Path) -> Tokenizer:
    return load_tokenizer(str(byte_level), TEMPLATE)


def learnt(conversation: Conversation, tokenizer: Tokenizer) -> list[str]:
    """The supervised stretches of a conversation, as text."""
    encoded = encode([render(conversation, TEMPLATE)], tokenizer)
    borders = np.flatnonzero(np.diff(encoded.mask, prepend=False, append=False)).reshape(-1, 2)
    return [tokenizer.decode(encoded.ids[start:end].tolist()) for start, end in borders]


def test_a_control_string_in_the_question_does_not_move_the_mask(tokenizer: Tokenizer) -> None:
    """Upstream masks up to the first <|YaYi|> id, which the user's text may contain."""
    talk = Conversation((Turn("user", "请解释<|YaYi|>:\n和<|End|>"), Turn("assistant", "这是标记。")))
    assert learnt(talk, tokenizer) == ["这是标记。\n\n<|End|>"]


def test_two_questions_in_a_row_do_not_shift_the_later_masks(tokenizer: Tokenizer) -> None:
    """Upstream zips the positions of human and yayi, so that one more human mis-pairs all that follow."""
    talk = Conversation(
        (
            Turn("user", "你好"),
            Turn("user", "在吗?"),
            Turn("assistant", "在。"),
            Turn("user", "你是谁?"),
            Turn("assistant", "雅意。"),
        )
    )
    assert learnt(talk, tokenizer) == ["在。\n\n<|End|>", "雅意。\n\n<|End|>"]


def test_the_header_is_found_by_its_text_not_by_a_fixed_number_of_tokens(
    byte_level: Path, llama_style: Path
) -> None:
    """Upstream adds 3 to the position of <|YaYi|>; how many tokens `:\\n` takes depends on the tokenizer."""
    talk = Conversation((Turn("user", "你好"), Turn("assistant", "好")))
    for folder in (byte_level, llama_style):
        assert [text.strip() for text in learnt(talk, load_tokenizer(str(folder), TEMPLATE))] == [
            "好\n\n<|End|>"
        ]


def test_a_turn_of_an_unknown_role_is_told_never_lost(tmp_path: Path, byte_level: Path) -> None:
    """Upstream renders the roles it knows and skips the others."""
    turns = [{"from": "human", "value": "a"}, {"from": "robot", "value": "b"}, {"from": "yayi", "value": "c"}]
    source = tmp_path / "a.json"
    source.write_text(json.dumps([{"system": "", "conversations": turns}]))
    outcome = run("pack", source, "--tokenizer", byte_level, "--output", tmp_path / "out")
    assert outcome.returncode == 1
    assert "a.json:1:" in outcome.stderr
    assert "robot" in outcome.stderr


def test_tokens_and_masks_are_computed_once_and_rows_are_full(tmp_path: Path) -> None:
    """Upstream computes the masks of every batch of every epoch, and pads half of the tokens away."""
    source = str(EXAMPLES / "yayi_train_example.json")
    output = tmp_path / "out"
    manifest = pack(PackOptions((source,), str(EXAMPLES / "tiny"), output)).manifest
    index, shards = open_index(output, manifest), Shards(output, manifest)
    rows = [shards.row(int(index.shard[i]), int(index.row[i])) for i in range(len(index))]
    assert [int(row.mask.sum()) for row in rows] == index.supervised_tokens.tolist()
    first, second = (plan_rows(index.tokens, 512, seed=0, epoch=epoch) for epoch in (0, 1))
    assert manifest.tokens / (len(first) * 512) > 0.9
    assert sorted(first.examples) == sorted(second.examples) == list(range(100))
    assert first.examples.tolist() != second.examples.tolist()


def test_a_cache_never_serves_another_tokenizer(tmp_path: Path, byte_level: Path, llama_style: Path) -> None:
    """Upstream loads the folder named after the data file whatever made it."""
    source = tmp_path / "a.jsonl"
    source.write_text('{"instruction": "你是谁?", "output": "雅意。"}\n')
    for name, folder in (("a", byte_level), ("b", llama_style)):
        pack(PackOptions((str(source),), str(folder), tmp_path / name))
    prints = [load(tmp_path / name).tokenizer.fingerprint for name in ("a", "b")]
    assert prints[0] != prints[1]
    assert run("pack", source, "--tokenizer", llama_style, "--output", tmp_path / "a").returncode == 2


def test_an_exact_fit_stays_and_a_longer_record_is_in_the_ledger(tmp_path: Path, byte_level: Path) -> None:
    """Upstream drops records of the maximum length and longer, and says nothing."""
    source = tmp_path / "a.jsonl"
    source.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": "长长长"}\n')
    rows = pack(PackOptions((str(source),), str(byte_level), tmp_path / "all")).output
    shortest, longest = sorted(open_index(rows, load(rows)).tokens.tolist())
    assert (
        pack(PackOptions((str(source),), str(byte_level), tmp_path / "x", max_length=longest)).manifest.rows
        == 2
    )
    cut = pack(PackOptions((str(source),), str(byte_level), tmp_path / "y", max_length=shortest)).manifest
    assert (cut.rows, cut.ledger.dropped) == (1, {"too-long": 1})
    assert json.loads((tmp_path / "y" / "dropped.jsonl").read_text())["line"] == 2


def test_the_converter_tells_malformed_records_and_never_appends(tmp_path: Path) -> None:
    """Upstream hides malformed records, appends when run again, and names `./data/x.json` `_chat.json`."""
    source, output = tmp_path / "a.jsonl", tmp_path / "out.json"
    source.write_text('{"instruction": "a", "output": "b"}\n{"instruction": \n')
    refused = run("convert", source, "--to", "multi-turn", "--output", output)
    assert refused.returncode == 1
    assert "a.jsonl:2:" in refused.stderr
    assert not output.exists()
    for _ in range(2):
        run("convert", source, "--to", "multi-turn", "--output", output, "--on-problem", "drop")
    assert len(json.loads(output.read_text())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out.dropped.jsonl", "out.json"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yayi_data.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)
