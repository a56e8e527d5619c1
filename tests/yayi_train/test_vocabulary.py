"""A model has a row for every id, and its tokenizer is the one that the data was packed with."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from yayi_data.errors import YayiError
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer
from yayi_train.vocabulary import Vocabulary, check_tokenizer, grow_vocabulary, written_vocabulary

NEW = [200, 201, 202, 203]


class TestGrow:
    """`grow_vocabulary`."""

    @pytest.mark.parametrize("tied", [False, True])
    def test_new_rows_are_near_the_mean_and_differ(self, make_random_model, architecture, tied):
        model = make_random_model(architecture, tie_word_embeddings=tied)
        before = model.get_input_embeddings().weight.detach().clone()
        grow_vocabulary(model, Vocabulary(204, NEW, NEW))
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
        for table in (model.get_input_embeddings(), model.get_output_embeddings()):
            assert table.weight.shape == (204, 32)
        after = model.get_input_embeddings().weight
        assert torch.equal(after[:200], before)
        new = after[200:] - before.mean(0)
        assert (new.abs() < 0.1 * before.std(0)).all()
        assert len({tuple(row.tolist()) for row in new}) == 4

    def test_it_never_shrinks(self, make_random_model):
        model = make_random_model("llama")
        grow_vocabulary(model, Vocabulary(150, [], []))
        assert model.get_input_embeddings().weight.shape == (200, 32)

    def test_rows_that_the_model_holds_in_reserve_are_set_too(self, make_random_model):
        """Qwen has hundreds of rows more than its tokenizer has ids."""
        model = make_random_model("llama")
        model.get_input_embeddings().weight.data[180:] = 0
        known = model.get_input_embeddings().weight[:180].detach().clone()
        grow_vocabulary(model, Vocabulary(184, range(180, 184), range(180, 184)))
        weight = model.get_input_embeddings().weight
        torch.testing.assert_close(weight[180:184].mean(0), known.mean(0), atol=1e-3, rtol=0)
        assert not weight[184:].any()

    def test_it_is_the_same_each_time(self, make_random_model):
        models = [make_random_model("llama"), make_random_model("llama")]
        for number, model in enumerate(models):
            torch.manual_seed(number)
            grow_vocabulary(model, Vocabulary(204, NEW, NEW))
        assert torch.equal(models[0].lm_head.weight, models[1].lm_head.weight)

    def test_rows_that_are_there_and_untaught_stay(self, make_random_model):
        model = make_random_model("llama")
        before = model.get_input_embeddings().weight.detach().clone()
        grow_vocabulary(model, Vocabulary(200, [198, 199], []))
        assert torch.equal(model.get_input_embeddings().weight, before)

    def test_a_new_vocabulary_is_in_the_config(self, make_random_model):
        model = make_random_model("llama")
        grow_vocabulary(model, Vocabulary(204, [200], [200]))
        assert model.config.vocab_size == 204


class TestCheck:
    """`check_tokenizer`."""

    @pytest.fixture
    def packed(self, byte_level, tmp_path):
        (tmp_path / "packed" / "tokenizer").mkdir(parents=True)
        load_tokenizer(str(byte_level), load_template("yayi"), "reference").write(
            tmp_path / "packed" / "tokenizer"
        )
        return tmp_path / "packed"

    def test_a_base_without_control_tokens_gets_them_as_new_ids(self, byte_level, packed):
        size = Tokenizer.from_file(str(byte_level / "tokenizer.json")).get_vocab_size()
        new = [size, size + 1, size + 2, size + 3]
        assert check_tokenizer(byte_level, packed) == Vocabulary(size + 4, new, new)

    def test_a_model_that_has_them_has_nothing_new(self, byte_level, packed):
        assert check_tokenizer(packed / "tokenizer", packed).new_ids == []

    def test_a_prepared_model_remembers_what_is_new(self, packed):
        Vocabulary(504, [502, 503], []).write(packed / "tokenizer")
        found = check_tokenizer(packed / "tokenizer", packed)
        assert (found.new_ids, found.missing) == ([502, 503], [])

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"normalizer": {"type": "NFC"}}, "the normalizer differs"),
            ({"pre_tokenizer": None}, "the pre-tokenizer differs"),
            ({"added_tokens": []}, r"the list of added tokens differs \(4 entries here, 5 there\)"),
        ],
    )
    def test_another_tokenizer_is_refused_with_what_differs(self, byte_level, packed, tmp_path, change, told):
        content = json.loads((byte_level / "tokenizer.json").read_text())
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
        with pytest.raises(
            YayiError, match=rf"is not the one that .*packed was packed with: {told}; pack the data"
        ):
            check_tokenizer(tmp_path, packed)

    def test_another_familys_tokenizer_is_refused(self, llama_style, packed):
        with pytest.raises(YayiError, match="the vocabulary differs"):
            check_tokenizer(llama_style, packed)

    def test_a_model_without_tokenizer_json_is_refused(self, packed, tmp_path):
        with pytest.raises(YayiError, match=r"no tokenizer\.json there"):
            check_tokenizer(tmp_path, packed)

    def test_its_ids_are_those_of_plain_transformers(self, byte_level, packed):
        found = check_tokenizer(byte_level, packed)
        assert found.size == len(AutoTokenizer.from_pretrained(packed / "tokenizer"))


def test_a_damaged_note_of_the_vocabulary_is_named(tmp_path):
    (tmp_path / "yayi.json").write_text('{"size": 5, "surprise": 1}')
    with pytest.raises(YayiError, match=r"yayi\.json: not what yayi-train wrote"):
        written_vocabulary(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"size": 99999999}, {"size": "a"}, {"size": True}, {"size": 0}, {"new_ids": 5}, {"new_ids": ["a"]},
     {"missing": [-1]}, {"missing": [400, 500]}],
)  # fmt: skip
def test_a_note_that_does_not_fit_its_tokenizer_is_refused(byte_level, tmp_path, change):
    (tmp_path / "tokenizer.json").write_bytes((byte_level / "tokenizer.json").read_bytes())
    note = {"size": 450, "new_ids": [449], "missing": [449]}
    (tmp_path / "yayi.json").write_text(json.dumps(note))
    assert written_vocabulary(tmp_path) == Vocabulary(**note)
    (tmp_path / "yayi.json").write_text(json.dumps(note | change))
    with pytest.raises(YayiError, match=rf"yayi\.json: not what yayi-train wrote: {next(iter(change))} is "):
        written_vocabulary(tmp_path)
