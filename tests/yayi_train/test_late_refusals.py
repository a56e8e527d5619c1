"""Refusals that only a broken environment, folder or fellow process meets, each by what it says."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from yayi_data.errors import DataError, YayiError
from yayi_train import checkpoint, data, feed, score, skeleton, trace
from yayi_train.config import DataConfig
from yayi_train.deepspeed_file import read_deepspeed
from yayi_train.flags import Flags
from yayi_train.model import model_folder
from yayi_train.resolve import resolve
from yayi_train.vocabulary import read_tokenizer

DATA = DataConfig(path="", seq_len=512, packing=True, test_size=0, mix={}, domains=[], limit=None)


def refused(said, kind=YayiError):
    return pytest.raises(kind, match=re.escape(said))


def test_a_hub_id_that_the_hub_does_not_give(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with refused("some/model is no local folder, and the hub did not give it: no route to host"):
        model_folder("some/model")


def test_a_deepspeed_config_that_is_no_json(tmp_path):
    (tmp_path / "ds.json").write_text("{,}")
    with refused("ds.json: is not JSON: "):
        read_deepspeed(str(tmp_path / "ds.json"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "t5"}, "--input-model {}: its config.json makes no model: ValueError: "),
        ({"num_attention_heads": 0}, "{}: cannot read its config.json: "),
        ({"hidden_size": "x"}, "{}: cannot read its config.json: "),
        ({"hidden_size": 33}, "{}: cannot read its config.json: "),
        ({"vocab_size": -5}, "--input-model {}: its config.json makes no model: RuntimeError: "),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "{}: its weights are quantized"),
    ],
)
def test_a_config_that_makes_no_model(make_model, tmp_path, changes, said):
    base = make_model(tmp_path / "base", **changes)
    with refused(said.format(base)):
        skeleton.skeleton(base)


@pytest.mark.parametrize(
    "content", ["{}", '{"model": {}}', '{"model": {"vocab": {"a": 0}}, "added_tokens": [{}]}']
)
def test_a_tokenizer_that_is_none(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with refused(f"{tmp_path}/tokenizer.json: found no model with a vocabulary"):
        read_tokenizer(tmp_path)


def test_a_model_that_alters_its_logits_is_refused_without_its_weights(make_model, packed, tmp_path):
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    base = make_model(tmp_path / "base", model_type="gemma2", architectures=["Gemma2ForCausalLM"], **sizes)
    flags = Flags(data_path="d", input_model=str(base), local_output_dir=tmp_path / "out", packing=False)
    with refused("a 'gemma2' model changes its logits after the head"):
        skeleton.refuse_early(resolve(flags), packed)


class TestCheckpoints:
    def saved(self, folder):
        return checkpoint.Checkpoint(folder / "checkpoint-3", 3, 2, 2, None, {})

    def test_one_that_deepspeed_cannot_load(self, tmp_path):
        broken = SimpleNamespace(load_checkpoint=lambda *_, **__: (None, {}))
        with refused("checkpoint-3: DeepSpeed could not load it; remove it to use the one before"):
            checkpoint.load(broken, self.saved(tmp_path), trained_only=False, universal=False)

    def test_one_that_cannot_be_converted_says_why(self, tmp_path, monkeypatch):
        failed = SimpleNamespace(returncode=1, stderr="Traceback\nValueError: no such layer")
        monkeypatch.setattr(checkpoint.subprocess, "run", lambda *_, **__: failed)
        said = "checkpoint-3: cannot be converted for another number of ranks: ValueError: no such layer"
        with refused(said):
            checkpoint._convert(self.saved(tmp_path).path / "state", tmp_path / "universal")


class TestData:
    def test_packed_by_a_version_that_orders_otherwise(self, packed, monkeypatch):
        monkeypatch.setattr(data.plan, "ORDER_VERSION", data.plan.ORDER_VERSION + 1)
        with refused("pack the data again"):
            data.open_corpus(packed, DATA, seed=0)

    def test_nothing_to_train_on(self, packed, monkeypatch):
        opened = data.open_index

        def silent(*given):
            index = opened(*given)
            return replace(index, domain=np.full_like(index.domain, index.names.index("general") + 1))

        monkeypatch.setattr(data, "open_index", silent)
        with refused("holds no conversation to train on", DataError):
            data.open_corpus(packed, replace(DATA, domains=["general"]), seed=0)

    def test_a_first_token_that_is_supervised(self, packed, monkeypatch):
        corpus = data.open_corpus(packed, DATA, seed=0)
        monkeypatch.setattr(feed, "count_supervised", lambda _: -1)
        with refused("records.jsonl:1 supervises its first token, which nothing predicts", DataError):
            feed.read_batch(corpus, [np.array([0])], "cpu")


class TestTrace:
    def test_a_folder_that_is_no_runs(self, tmp_path):
        with refused(f"{tmp_path}: holds no run.json; give the --local-output-dir of a run"):
            trace.trace(tmp_path, 1)

    def test_data_with_nothing_to_evaluate(self, packed, model, monkeypatch):
        corpus = data.open_corpus(packed, DATA, seed=0)
        index = replace(corpus.index, supervised_tokens=np.zeros_like(corpus.index.supervised_tokens))
        monkeypatch.setattr(score, "open_corpus", lambda *_, **__: replace(corpus, index=index))
        with refused("holds no supervised token to evaluate", DataError):
            score.score(str(model), replace(DATA, path=str(packed)), 8)

    def test_data_that_was_packed_anew(self, train, monkeypatch):
        folder = train("--max-steps", 1)
        read = trace.read_run

        def of_other_data(folder):
            return replace(read(folder), digest="0" * 64)

        monkeypatch.setattr(trace, "read_run", of_other_data)
        with refused("the run's was 000000000000; it was packed anew since", DataError):
            trace.trace(folder, 1)


def test_offloading_the_optimizer_without_partitioning_it(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}}')
    flags = Flags(data_path="d", input_model="m", local_output_dir=tmp_path / "o", deepspeed=str(file))
    with refused("zero_optimization/offload_optimizer needs a stage of 1 or more"):
        resolve(flags)


def test_generating_from_nothing(command, model):
    ended = command("generate", model)
    assert ended.codes == [2]
    assert "nothing to ask: give --prompt or --messages" in ended.err[0]
