"""What a start says of itself before its first step."""

from dataclasses import replace

import pytest

from yayi_data.errors import YayiError
from yayi_train import notices
from yayi_train.data import Layout
from yayi_train.flags import Flags
from yayi_train.start import Start, decide


@pytest.fixture
def starting(packed, model, tmp_path):
    def start(data=packed, **flags: object) -> Start:
        given = {"data_path": str(data), "input_model": str(model), "local_output_dir": tmp_path / "out"}
        return decide(Flags(**given | {"seq_len": 512} | flags))

    return start


def said(start: Start, positions: int | None = None) -> str:
    return "\n".join(notices.warnings(start, positions))


def silenced(start: Start, entries) -> Start:
    """Return a start on the same data, with no supervised token in some entries of its index."""
    index = start.corpus.index
    supervised = index.supervised_tokens.copy()
    supervised[entries] = 0
    return replace(start, corpus=replace(start.corpus, index=replace(index, supervised_tokens=supervised)))


def test_a_usual_run_has_nothing_odd_about_it(starting):
    assert said(starting(test_size=5), positions=2048) == ""
    assert notices.kept_batch(starting()) is None


def test_adapters_that_are_scaled_away(starting):
    assert "--lora-alpha is 0" in said(starting(lora_dim=4, lora_alpha=0.0))
    assert said(starting(lora_dim=4)) == ""


def test_conversations_beyond_the_models_positions_are_counted_and_the_longest_is_named(starting):
    start = starting()
    long = start.corpus.index.tokens > 100
    longest = int(start.corpus.index.tokens.argmax()) + 1
    assert f"{long.sum()} conversations are longer than the 100 positions" in said(start, positions=100)
    assert f"records.jsonl:{longest}, has {start.corpus.index.tokens.max()} tokens" in said(start, 100)


def test_conversations_without_a_supervised_token(starting):
    assert "5 conversations have no supervised token" in said(silenced(starting(), slice(5)))


def test_a_test_split_with_nothing_to_evaluate(starting):
    start = starting(test_size=2)
    silent = silenced(start, start.corpus.test)
    assert start.evaluates
    assert not silent.evaluates
    assert "--test-size 2 keeps 2 of 40 conversations and no supervised token: nothing is" in said(silent)
    assert "--test-size 0.01 keeps 0 of 40" in said(starting(test_size=0.01))
    with pytest.raises(YayiError, match="--keep-best goes by the evaluation loss, and the 0 conv"):
        starting(test_size=0.01, keep_best=True)


def test_flags_that_would_make_another_batch_are_told_that_the_run_keeps_its_own(starting):
    start = replace(starting(gradient_accumulation_steps=4), layout=Layout(1, 8, 2))
    assert notices.kept_batch(start) == (
        "this run's steps have 16 rows and keep them; the flags would make it 32"
    )


def test_flags_of_packing_are_idle_with_a_packed_folder(starting, model, packed, tmp_path):
    given = {"input_model": str(model), "local_output_dir": tmp_path, "template": "yayi", "max_length": 9}
    flags = Flags(data_path=str(packed), **given)
    start = starting()
    assert notices.idle_flags(flags, start) == (
        f"{packed} is packed already: --template, --max-length, for raw files, change nothing"
    )
    assert notices.idle_flags(replace(flags, template=None, max_length=None), start) is None
    raw = replace(start, file=replace(start.file, data=str(tmp_path / "data" / "1")))
    assert notices.idle_flags(flags, raw) is None
