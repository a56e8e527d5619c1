"""What else a run does: adapters, the best checkpoint, plans, traces, raw data."""

import json
import resource
import shutil

import orjson
import pytest
import torch
from safetensors.torch import load_file

from yayi_data.manifest import load
from yayi_train.config import from_dict
from yayi_train.data import open_corpus

LORA = ("--lora-dim", 4, "--lora-module-name", "q_proj,v_proj", "--max-steps", 3)


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def adapters(train):
    """The same LoRA run under ZeRO 2 and ZeRO 3, on two ranks."""
    return [
        train(*LORA, "--deepspeed", zero, "--per-device-train-batch-size", 1, ranks=2)
        for zero in ("zero2", "zero3")
    ]


def test_an_adapter_is_the_same_and_never_empty_under_zero_3(adapters):
    two, three = (load_file(run / "final" / "adapter_model.safetensors") for run in adapters)
    assert two.keys() == three.keys()
    assert all(three[name].numel() and three[name].allclose(two[name], atol=1e-6) for name in two)
    assert any(three[name].abs().max() > 0 for name in three if "lora_B" in name)


def test_a_run_of_an_adapter_continues_on_another_number_of_ranks(train, adapters, tmp_path):
    flags = (*LORA, "--per-device-train-batch-size", 1, "--save-steps", 2)
    folder = train(*flags, "--deepspeed", "zero2", ranks=2, folder=tmp_path / "out")
    shutil.rmtree(folder / "final")  # as if it had been killed before its end
    train(*flags, "--deepspeed", "zero2", ranks=1, folder=folder)
    assert [line["loss"] for line in lines(folder)] == pytest.approx(
        [line["loss"] for line in lines(adapters[0])], rel=1e-5
    )


def test_an_adapter_whose_saved_names_are_others_is_refused(attempt, train, tmp_path):
    folder = train(*LORA, "--save-steps", 2, "--deepspeed", "zero0", folder=tmp_path / "out")
    shutil.rmtree(folder / "final")
    (state,) = (folder / "checkpoint-2" / "state").glob("mp_rank_00*")
    content = torch.load(state, weights_only=False)
    content["module"] = {name.replace("lora_A", "lora_X"): v for name, v in content["module"].items()}
    torch.save(content, state)
    facts = json.loads((folder / "checkpoint-2" / "checkpoint.json").read_text())
    facts["files"][f"state/{state.name}"] = state.stat().st_size
    (folder / "checkpoint-2" / "checkpoint.json").write_text(json.dumps(facts))
    ended = attempt(*LORA, "--save-steps", 2, "--deepspeed", "zero0", folder=folder)
    assert ended.codes == [2]
    assert "checkpoint-2: cannot be loaded" in ended.err[0]
    assert "names of weights do not match" in ended.err[0]


def test_an_adapter_does_not_go_on_on_another_base(attempt, train, make_model, tmp_path):
    base = make_model(tmp_path / "base")
    folder = train(*LORA, "--save-steps", 2, base=base, folder=tmp_path / "out")
    shutil.rmtree(folder / "final")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    ended = attempt(*LORA, "--save-steps", 2, base=base, folder=folder)
    assert ended.codes == [2]
    assert "is another than the run started from" in ended.err[0]


@pytest.mark.parametrize("kind", [(), LORA], ids=["full", "adapter"])
def test_a_saved_model_scores_what_training_last_measured(
    command, train, make_packed, packed, kind, tmp_path
):
    run = train(*kind, "--max-steps", 3, "--test-size", 5, "--lr", "1e-2", folder=tmp_path / "out")
    held_out = open_corpus(
        packed, from_dict(orjson.loads((run / "run.json").read_bytes())["config"]).data, 515
    )
    source = (packed.parent / "records.jsonl").read_text("utf-8").splitlines()
    data = make_packed(tmp_path / "held-out", [json.loads(source[entry]) for entry in held_out.test])
    found = json.loads(command("evaluate", run / "final", "--data-path", data, "--json").out[0])
    last = [line for line in lines(run) if "eval_loss" in line][-1]
    assert set(found) == {"eval_loss", "eval_loss_by_domain", "supervised_tokens"}
    assert found["eval_loss"] == pytest.approx(last["eval_loss"], rel=1e-6)
    assert found["eval_loss_by_domain"] == pytest.approx(last["eval_loss_by_domain"], rel=1e-6)
    assert found["supervised_tokens"] == load(data).supervised_tokens


def test_the_best_checkpoint_outlives_the_limit(train, tmp_path):
    folder = train(
        "--max-steps", 8, "--test-size", 5, "--eval-steps", 1, "--save-steps", 100, "--save-total-limit", 1,
        "--keep-best", "--lr", "3e-2", folder=tmp_path / "out",
    )  # fmt: skip
    evaluated = {line["step"]: line["eval_loss"] for line in lines(folder) if "eval_loss" in line}
    best = min(evaluated, key=lambda step: evaluated[step])
    assert (folder / f"checkpoint-{best}").is_dir()


def test_a_dry_run_tells_the_plan_and_writes_nothing(attempt, packed, tmp_path):
    ended = attempt(
        "--dry-run", "--epochs", 3, "--per-device-train-batch-size", 1, "--test-size", 5,
        folder=tmp_path / "out", ranks=2,
    )  # fmt: skip
    assert ended.codes == [0, 0]
    assert ended.out[1] == ""
    told = dict(line.rsplit(maxsplit=1) for line in ended.out[0].splitlines() if "GB" not in line)
    told = {name.strip(): float(value.replace(",", "")) for name, value in told.items()}
    assert told["conversations per epoch"] == 35
    assert told["steps"] == pytest.approx(3 * told["steps per epoch"], abs=2)
    assert told["rows per epoch"] == pytest.approx(2 * told["steps per epoch"], abs=1)
    assert told["utilisation"] == pytest.approx(
        told["tokens per epoch"] / told["rows per epoch"] / 512, abs=1e-3
    )
    assert all(f"zero{stage}" in ended.out[0] for stage in range(4))
    assert not (tmp_path / "out").exists()


def test_a_trace_names_every_line_once_an_epoch(command, train, packed, tmp_path):
    folder = train("--epochs", 1, "--per-device-train-batch-size", 1, ranks=2, folder=tmp_path / "out")
    steps = lines(folder)[-1]["step"]
    traced = [
        json.loads(command("trace", folder, "--step", step, "--json").out[0]) for step in range(1, steps + 1)
    ]
    places = [
        place["line"]
        for step in traced
        for rank in step["ranks"]
        for rows in rank["passes"]
        for row in rows
        for place in row
    ]
    assert sorted(places) == list(range(1, 41))
    assert {len(step["ranks"]) for step in traced} == {2}
    text = command("trace", folder, "--step", 1).out[0]
    assert text.startswith("rank 0  row 0  records.jsonl:")
    beyond = command("trace", folder, "--step", steps + 1)
    assert beyond.codes == [2]
    assert f"has the steps 1 to {steps}" in beyond.err[0]


def test_raw_files_are_packed_once_for_all_ranks(attempt, tmp_path):
    source = tmp_path / "raw.json"
    source.write_text(
        "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(9))
    )
    flags = ("--max-steps", 2, "--per-device-train-batch-size", 1)
    ended = attempt(*flags, data=source, folder=tmp_path / "out", ranks=2)
    assert ended.codes == [0, 0], ended.err
    assert sum(err.count("packing ") for err in ended.err) == 1
    (folder,) = [path for path in (tmp_path / "out" / "data").iterdir() if path.is_dir()]
    assert load(folder).rows == 9
    assert orjson.loads((tmp_path / "out" / "run.json").read_bytes())["digest"] == load(folder).digest
    again = attempt(*flags, data=source, folder=tmp_path / "out", ranks=2)
    assert again.codes == [0, 0]
    assert "packing" not in "".join(again.err)


def test_a_disk_that_fills_up_is_one_sentence_and_the_run_goes_on_later(attempt, train, tmp_path):
    def cap(pids: list[int]) -> None:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    flags = ("--max-steps", 3, "--save-steps", 2, "--deepspeed", "zero0")
    ended = attempt(*flags, folder=tmp_path / "out", signals=cap)
    assert ended.codes == [2], ended.err
    assert "checkpoint-2: cannot be written" in ended.err[0]
    assert "is the disk full? The checkpoints before it are kept" in ended.err[0]
    assert "Traceback" not in ended.err[0]
    assert len(lines(train(*flags, folder=tmp_path / "out"))) == 3


def test_what_matters_is_warned_of(attempt, make_packed, tmp_path):
    data = make_packed(tmp_path / "data", [{"instruction": "q", "output": "a"}] * 3)
    ended = attempt("--max-steps", 1, "--lr", 0, "--warmup-steps", 5, data=data, folder=tmp_path / "out")
    assert "warning: the learning rate is 0" in ended.err[0]
    assert "warning: the warm-up has 5 steps and the run 1" in ended.err[0]


def test_optimizer_offload_runs_on_a_cpu(train, tmp_path):
    config = tmp_path / "ds.json"
    offload = {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": True}}
    config.write_text(json.dumps({"bf16": {"enabled": True}, "zero_optimization": offload}))
    run = train("--max-steps", 2, "--deepspeed", config, folder=tmp_path / "out")
    assert len(lines(run)) == 2
