"""A trained model is asked in its own template and its reply ends at the end token."""

import io
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from yayi_data.encode import encode
from yayi_data.errors import DataError, YayiError
from yayi_data.render import render
from yayi_data.types import Conversation, Turn
from yayi_train import chat as chats
from yayi_train.chat import Printer, chat
from yayi_train.generate import answer, load_speaker, prompt_ids, read_messages
from yayi_train.lora import inject, save_adapter
from yayi_train.prepare import prepare
from yayi_train.vocabulary import written_vocabulary

ASKED = Conversation((Turn("user", "你是谁"),))


@pytest.fixture(scope="module")
def prepared(make_model, tmp_path_factory):
    place = tmp_path_factory.mktemp("prepared")
    prepare(str(make_model(place / "base")), "yayi", place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def speaker(prepared):
    return load_speaker(str(prepared), 8, greedy=True)


def scripted(speaker, text):
    """A speaker whose model says `text` and the end token, whatever it is asked."""
    ids = [*speaker.tokenizer.encode_flat([text])[0].tolist(), speaker.tokenizer.control_ids["<|End|>"]]

    def generate(input_ids, streamer=None, **_):
        if streamer:
            streamer.put(input_ids)
            for one in ids:
                streamer.put(torch.tensor([one]))
            streamer.end()
        return torch.cat([input_ids, torch.tensor([ids])], dim=1)

    model = SimpleNamespace(device="cpu", generate=generate)
    return type(speaker)(model, speaker.tokenizer, speaker.template, speaker.settings)


class TestPrompt:
    """`prompt_ids`."""

    @pytest.mark.parametrize("system", ["", "Be brief."])
    def test_it_is_the_beginning_of_the_training_ids(self, speaker, system):
        turns = (Turn("user", "你是谁"), Turn("assistant", "我是雅意。"), Turn("user", "谢谢\n"))
        trained = render(Conversation((*turns, Turn("assistant", "不客气。")), system), speaker.template)
        whole = encode([trained], speaker.tokenizer)
        found = prompt_ids(speaker, Conversation(turns, system))
        assert found == whole.ids[: len(found)].tolist()
        assert whole.mask[len(found) :].all()


class TestAnswer:
    """`answer`."""

    def test_it_ends_at_the_end_token_and_does_not_show_it(self, speaker):
        said = answer(scripted(speaker, "我是雅意。\n\n"), ASKED)
        assert said.reply == "我是雅意。"
        assert said.ended

    def test_the_model_itself_stops_there(self, prepared):
        speaker = load_speaker(str(prepared), 8, greedy=True)
        end = speaker.tokenizer.control_ids["<|End|>"]
        speaker.model.lm_head.bias = torch.nn.Parameter(torch.eye(speaker.model.config.vocab_size)[end] * 100)
        said = answer(speaker, ASKED)
        assert (said.new_tokens, said.ended, said.reply) == (1, True, "")

    def test_a_reply_that_is_cut_off_has_not_ended(self, speaker):
        said = answer(speaker, ASKED)
        assert (said.new_tokens, said.ended) == (8, False)

    def test_greedy_is_the_likeliest_token_each_time(self, speaker):
        ids = prompt_ids(speaker, ASKED)
        for _ in range(3):
            with torch.no_grad():
                ids.append(int(speaker.model(torch.tensor([ids])).logits[0, -1].argmax()))
        expected = ids[-3:]
        found = speaker.model.generate(torch.tensor([ids[:-3]]), generation_config=speaker.settings)
        assert found[0, len(ids) - 3 :][:3].tolist() == expected

    def test_an_adapter_answers_as_its_base_grown_would(self, make_model, prepared, tmp_path):
        """The adapter is new, so it changes nothing yet."""
        base = AutoModelForCausalLM.from_pretrained(prepared)
        vocabulary = written_vocabulary(prepared)
        model = inject(base, str(prepared), 4, 8, ["all-linear"], vocabulary.new_ids)
        save_adapter(model, tmp_path, prepared, vocabulary)
        own, adapted = (answer(load_speaker(str(at), 8, greedy=True), ASKED) for at in (prepared, tmp_path))
        assert own == adapted

    def test_settings_are_the_models_own(self, prepared, tmp_path):
        shutil.copytree(prepared, tmp_path / "model")
        settings = json.loads((prepared / "generation_config.json").read_text())
        (tmp_path / "model" / "generation_config.json").write_text(
            json.dumps(settings | {"temperature": 0.7})
        )
        assert load_speaker(str(tmp_path / "model")).settings.temperature == 0.7
        assert load_speaker(str(prepared)).settings.max_new_tokens == 100

    def test_a_folder_without_template_is_refused(self, make_model, tmp_path):
        with pytest.raises(YayiError, match=r"no template\.toml there; run yayi-train prepare"):
            load_speaker(str(make_model(tmp_path / "base")))


class TestMessages:
    """`read_messages`."""

    def read(self, tmp_path, text):
        (tmp_path / "m").write_text(text, encoding="utf-8")
        return list(read_messages(tmp_path / "m"))

    def test_one_list(self, tmp_path):
        text = json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "你"}], indent=1)
        assert self.read(tmp_path, text) == [Conversation((Turn("user", "你"),), "s")]

    def test_one_conversation_a_line(self, tmp_path):
        lines = [[{"role": "user", "content": "a"}], {"messages": [{"role": "user", "content": "b"}]}]
        text = "\n\n".join(json.dumps(line) for line in lines)
        assert [one.turns[0].text for one in self.read(tmp_path, text)] == ["a", "b"]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("[]", "m: expected a list of messages"),
            ('"a"', "m: expected a list of messages"),
            ('[{"role": "human", "content": "a"}]', "m: message 0: expected an object with a role of system"),
            ('[{"role": "user"}]', "m: message 0: its content is missing"),
            (
                '[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]',
                "m: message 1: a system message must come first",
            ),
            (
                '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]',
                "m: the last message is the assistant's",
            ),
            ('[{"role": "user", "content": "a"}]\n{', "m:2: not valid JSON"),
            ("", "m: holds nothing to answer"),
            ("\n \n", "m: holds nothing to answer"),
            (
                '[{"role": "assistant", "tool_calls": [1]}, {"role": "tool", "content": "b"}]',
                "m: /messages/0/tool",
            ),
            ('[{"role": "user", "content": 1, "tool_calls": [{}]}]', "m: /messages/0"),
            ('{"tools": 1, "messages": [{"role": "user", "content": "a"}]}', "m: /tools: "),
        ],
    )
    def test_a_fault_is_told_with_its_place(self, tmp_path, text, told):
        with pytest.raises(DataError, match=told):
            self.read(tmp_path, text)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(YayiError, match="nowhere: cannot read it: No such file"):
            list(read_messages(tmp_path / "nowhere"))


class TestChat:
    """`chat`."""

    def talk(self, speaker, monkeypatch, *lines):
        asked = []
        given = iter(lines)

        def next_line(_prompt):
            line = next(given)
            if isinstance(line, BaseException):
                raise line
            return line

        def remember(speaker, conversation, streamer):
            asked.append(conversation)
            return answer(speaker, conversation, streamer)

        monkeypatch.setattr("builtins.input", next_line)
        monkeypatch.setattr(chats, "answer", remember)
        chat(speaker)
        return asked

    def test_each_turn_remembers_those_before(self, speaker, monkeypatch, capsys):
        asked = self.talk(scripted(speaker, "好。\n\n"), monkeypatch, "你好", "再见", "")
        assert asked[1].turns == (Turn("user", "你好"), Turn("assistant", "好。"), Turn("user", "再见"))
        assert capsys.readouterr().out == "好。\n好。\n"

    @pytest.mark.parametrize("leaving", [EOFError(), KeyboardInterrupt()])
    def test_leaving_is_polite(self, speaker, monkeypatch, capsys, leaving):
        assert len(self.talk(scripted(speaker, "好。"), monkeypatch, "你好", leaving)) == 1
        assert "Traceback" not in capsys.readouterr().err

    def test_a_reply_cannot_reach_the_terminal(self, speaker, monkeypatch, capsys):
        self.talk(scripted(speaker, "a\x1b[2Jb"), monkeypatch, "x", "")
        assert capsys.readouterr().out == "a\\x1b[2Jb\n"

    def test_characters_of_several_tokens_appear_whole(self, speaker, monkeypatch):
        pieces = []
        stream = io.StringIO()
        monkeypatch.setattr(stream, "write", pieces.append)
        monkeypatch.setattr(sys, "stdout", stream)
        printer = Printer(speaker)
        printer.put(torch.tensor([[0]]))
        for one in speaker.tokenizer.encode_flat(["龘靐 🙂"])[0].tolist():
            printer.put(torch.tensor([one]))
        printer.end()
        assert "".join(pieces) == "龘靐 🙂\n"
        assert not any("\ufffd" in piece for piece in pieces)

    def test_what_is_no_text_is_asked_for_again(self, speaker, monkeypatch, capsys):
        undecodable = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        asked = self.talk(scripted(speaker, "好。"), monkeypatch, undecodable, "\udcff", "你好", "")
        assert [one.turns for one in asked] == [(Turn("user", "你好"),)]
        assert capsys.readouterr().err.count("that was not UTF-8; say it again") == 2


class TestSettings:
    """What generation_config.json may leave out, and what it may not say."""

    def speaker(self, prepared, folder, **values):
        shutil.copytree(prepared, folder)
        (folder / "generation_config.json").write_text(json.dumps(values))
        return load_speaker(str(folder), 2)

    def test_without_tokens_that_end_a_reply_the_templates_do(self, prepared, speaker, tmp_path):
        found = self.speaker(prepared, tmp_path / "m").settings
        assert found.eos_token_id == speaker.settings.eos_token_id
        assert found.pad_token_id == speaker.settings.pad_token_id

    def test_one_token_alone_may_end_it(self, prepared, tmp_path):
        speaker = self.speaker(prepared, tmp_path / "m", eos_token_id=5)
        assert speaker.said([7, 5]) == speaker.said([7])

    def test_a_value_that_does_not_serve_is_one_sentence(self, prepared, tmp_path):
        speaker = self.speaker(prepared, tmp_path / "m", do_sample=True, temperature=-1.0)
        with pytest.raises(YayiError, match=r"generation_config\.json does not serve: .*temperature"):
            answer(speaker, ASKED)


class TestCommand:
    """The commands, as typed."""

    def run(self, command, *arguments):
        ended = command(*arguments)
        return ended.codes[0], ended.out[0], ended.err[0]

    def test_prepare_then_generate(self, command, make_model, tmp_path):
        base = make_model(tmp_path / "base")
        code, _, told = self.run(
            command, "prepare", base, "--template", "yayi", "--output", tmp_path / "model"
        )
        assert code == 0
        assert "4 of them new to the model" in told
        options = ("--prompt", "你是谁", "--greedy", "--max-new-tokens", 4, "--json")
        code, said, told = self.run(command, "generate", tmp_path / "model", *options)
        assert code == 0
        assert json.loads(said).keys() == {"reply", "ended", "prompt_tokens", "new_tokens"}
        assert "transformers" not in told

    def test_a_batch_of_messages_gives_a_line_each(self, command, prepared, tmp_path):
        (tmp_path / "m").write_text(
            '[{"role": "user", "content": "a"}]\n[{"role": "user", "content": "b"}]\n'
        )
        options = ("--messages", tmp_path / "m", "--max-new-tokens", 2, "--json")
        code, said, _ = self.run(command, "generate", prepared, *options)
        assert code == 0
        assert len(said.splitlines()) == 2

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (("--prompt", "a", "--messages", "b"), "--prompt and --messages ask two different things"),
            (("--prompt", "\udcff"), "--prompt is not UTF-8 text"),
            (("--messages", "nowhere"), "--messages nowhere: cannot read it"),
        ],
    )
    def test_wrong_usage_is_one_line(self, command, prepared, options, told):
        code, _, said = self.run(command, "generate", prepared, *options)
        assert code == 2
        assert told in said
        assert len(said.splitlines()) == 1
