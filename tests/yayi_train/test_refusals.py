"""What cannot be done is refused in one line that names the place, before a model is loaded."""

import json
import os
import shutil
import signal
import time

import pytest
import torch


def test_data_packed_with_another_tokenizer(attempt, make_model, tmp_path):
    other = make_model(tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    (other / "tokenizer.json").write_text(json.dumps(content))
    refused(attempt(base=other, folder=tmp_path / "out"), 2, "is not the one that", "was packed with")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--test-size", 40), 2, ["--test-size 40: there are 40 conversations"]),
        (("--seq-len", 90), 2, ["of 40 conversations are longer than --seq-len 90", "--max-length 90"]),
        (("--train-on-domains", "nowhere"), 2, ["has no domain nowhere"]),
        (("--mix", "general"), 2, ["--mix has 'general'; expected NAME=WEIGHT"]),
        (("--deepspeed", "zero9"), 2, ["--deepspeed zero9: No such file", "zero0, zero1, zero2, zero3"]),
        (("--lora-dim", 4, "--lora-module-name", "query_key_value"), 2, ["query_key_value", "q_proj"]),
        (("--scheduler", "steps"), 2, ["steps"]),
        (("--epochs", 0), 2, ["--epochs"]),
        (("--shiny",), 2, ["--shiny"]),
    ],
)
def test_flags_that_do_not_fit(attempt, tmp_path, flags, code, said):
    refused(attempt(*flags, folder=tmp_path / "out"), code, *said)
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_there(attempt, tmp_path):
    ended = attempt(data=tmp_path / "gone", folder=tmp_path / "out")
    refused(ended, 2, f"--data-path {tmp_path / 'gone'}: there is no such file or folder")


def test_a_model_that_is_not_there(attempt, tmp_path):
    refused(attempt(base=tmp_path / "gone", folder=tmp_path / "out"), 2, "gone", "no config.json")


def test_a_folder_that_is_not_a_runs(attempt, tmp_path):
    (tmp_path / "thesis.tex").touch()
    refused(attempt(folder=tmp_path), 2, "holds thesis.tex and no run.json")


def test_a_folder_of_another_run(attempt, train, tmp_path):
    folder = train("--max-steps", 1, folder=tmp_path / "out")
    refused(attempt("--max-steps", 2, folder=folder), 2, "holds another run: run/max_steps was 1, is 2")
    assert attempt("--max-steps", 2, "--no-resume", folder=folder).codes == [0]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_folder_of_a_run_on_other_data(attempt, train, make_packed, tmp_path):
    folder = train("--max-steps", 1, folder=tmp_path / "out")
    other = make_packed(tmp_path / "other", [{"instruction": "a", "output": "b"}] * 3)
    refused(attempt("--max-steps", 1, data=other, folder=folder), 2, "holds another run: the data was")


def test_data_that_was_changed_after_packing(attempt, packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "data")
    (folder / "index.arrow").write_bytes((packed / "index.arrow").read_bytes()[:-8])
    refused(attempt(data=folder, folder=tmp_path / "out"), 1, "index.arrow", "the manifest says")


def test_raw_files_that_are_no_data(attempt, tmp_path):
    (tmp_path / "prose.json").write_text("Once upon a time")
    ended = attempt(data=tmp_path / "prose.json", folder=tmp_path / "out")
    refused(ended, 1, "prose.json")
    assert not (tmp_path / "out").exists()


def test_an_architecture_whose_documents_cannot_be_kept_apart(attempt, make_model, tmp_path):
    base = make_model(
        tmp_path / "gpt2", model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=3584
    )
    refused(attempt(base=base, folder=tmp_path / "out"), 2, "'gpt2'", "--no-packing")


def test_a_loss_that_is_no_number_names_the_lines_and_keeps_the_last_checkpoint(attempt, tmp_path):
    ended = attempt("--lr", "1e30", "--max-steps", 9, "--save-steps", 1, folder=tmp_path / "out", ranks=2)
    refused(ended, 2, "step ", "is nan", "records.jsonl:", "the checkpoints before it are kept")
    assert list((tmp_path / "out").glob("checkpoint-*"))
    assert not (tmp_path / "out" / "final").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in fp16")
def test_a_precision_that_the_machine_lacks(attempt, tmp_path):
    config = tmp_path / "ds.json"
    config.write_text(json.dumps({"fp16": {"enabled": True}}))
    refused(attempt("--deepspeed", config, folder=tmp_path / "out"), 2, "fp16", "cpu", "choose fp32 or bf16")


def test_the_loss_of_a_rank_ends_the_others_with_what_to_do(attempt, tmp_path):
    def kill_one(pids):
        while not (tmp_path / "out" / "checkpoint-1").exists():
            time.sleep(0.002)
        os.kill(pids[1], signal.SIGKILL)

    pace = ("--max-steps", 400, "--save-steps", 1, "--save-total-limit", 1)
    rows = ("--per-device-train-batch-size", 1)
    ended = attempt(*pace, *rows, folder=tmp_path / "out", ranks=2, signals=kill_one)
    assert ended.codes == [2, -signal.SIGKILL]
    line = ended.err[0].strip().splitlines()[-1]
    assert line.startswith("error: rank 0 lost another process of the run (")
    assert "the same command continues from the last checkpoint" in line


def test_one_rank_speaks_for_all(attempt, tmp_path):
    ended = attempt("--test-size", 99, folder=tmp_path / "out", ranks=2)
    assert ended.codes == [2, 2]
    assert ended.err[0].count("error:") == 1


def refused(ended, code, *said):
    """Check that a command ended with one line that says so, and no traceback."""
    assert set(ended.codes) == {code}, ended.err
    line = ended.err[0].strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in said:
        assert part in line
    assert "Traceback" not in ended.err[0]
