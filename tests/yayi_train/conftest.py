"""Packed folders and tiny models, made from the example data."""

import json
import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from yayi_data import pipeline
from yayi_train.batch import Document

DATA = Path(__file__).parents[2] / "data"
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pack(folder: Path, records: Sequence[dict], tokenizer: Path = DATA / "tiny", **options: object) -> Path:
    """Pack records into `folder`; record i is line i + 1 of the source `records.jsonl`."""
    source = folder.parent / "records.jsonl"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    pipeline.pack(
        pipeline.PackOptions(
            paths=(str(source),),
            tokenizer=str(tokenizer),
            output=folder,
            workers=1,
            tokenizer_engine="reference",
            **options,
        )
    )
    return folder


def records(count: int) -> list[dict]:
    lines = (DATA / "yayi_train_example.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def tiny_model(folder: Path, **changes: object) -> Path:
    """Write a Llama small enough for a test, with random weights and the example tokenizer."""
    folder.mkdir(parents=True)
    config = json.loads((DATA / "tiny" / "config.json").read_text())
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | small | changes))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((DATA / "tiny" / name).read_bytes())
    return folder


SIZES = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = SIZES | {"intermediate_size": 64, "num_key_value_heads": 2}
ARCHITECTURES = {
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 6},
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "gpt_neox": SIZES | {"intermediate_size": 64},
    "bloom": {"vocab_size": 200, "hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def random_model(architecture: str, **changes: object) -> Any:
    """A model of 200 ids, the same each time, whose norms and biases are not at their defaults."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES.get(architecture, {}) | changes)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
    return model


def random_documents(*lengths: int) -> list[Document]:
    """Documents of these lengths with ids below 200, about half supervised, in domains 0, 1, 2, 0 …"""
    draw = np.random.default_rng(0)
    return [
        Document(draw.integers(0, 200, n).astype(np.int32), draw.random(n) < 0.5, i % 3)
        for i, n in enumerate(lengths)
    ]


RANKS = multiprocessing.get_context("forkserver")
"""Forks of a process that has imported what a run needs (tests/conftest.py), and never started a thread: one
that forks while it has threads hands down their locks, and now and then a rank waits for ever."""


class Ended(NamedTuple):
    """How a command ended, of several ranks: the codes and what each printed."""

    codes: list[int]
    out: list[str]
    err: list[str]


def run_command(
    *arguments: object, ranks: int = 1, signals: Callable[[list[int]], None] | None = None
) -> Ended:
    """Run `yayi-train` in new processes, one a rank.

    `signals` is called with the process IDs while they run.
    """
    place = Path(tempfile.mkdtemp())
    port = str(_free_port())
    given = [str(argument) for argument in arguments]
    places = [{"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(ranks)} for r in range(ranks)]
    started = [
        RANKS.Process(target=_be_rank, args=(given, os.environ | one | {"MASTER_PORT": port}, place))
        for one in places
    ]
    for kind in ("out", "err"):
        for rank in range(ranks):
            (place / f"{kind}{rank}").touch()
    for process in started:
        process.start()
    if signals:
        signals([process.pid for process in started])
    for process in started:
        process.join()
    out, err = ([(place / f"{kind}{rank}").read_text() for rank in range(ranks)] for kind in ("out", "err"))
    return Ended([process.exitcode for process in started], out, err)


def _be_rank(arguments: list[str], environment: dict[str, str], place: Path) -> None:
    code = 70
    try:
        for number, kind in ((1, "out"), (2, "err")):
            path = place / f"{kind}{environment['RANK']}"
            os.dup2(os.open(path, os.O_WRONLY), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ.update(environment, MASTER_ADDR="127.0.0.1")
        sys.argv = ["yayi-train", *arguments]
        from yayi_train import cli

        cli._PATIENCE = 0.0
        cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def command() -> Callable[..., Ended]:
    return run_command


@pytest.fixture(scope="session")
def make_random_model() -> Callable[..., Any]:
    return random_model


@pytest.fixture(scope="session")
def make_documents() -> Callable[..., list[Document]]:
    return random_documents


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def make_packed() -> Callable[..., Path]:
    return pack


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    return tiny_model


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty conversations, of 4,000 tokens in all."""
    return pack(tmp_path_factory.mktemp("packed") / "data", records(40))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


TRAIN = ("--seq-len", 512, "--lr", "1e-3", "--scheduler", "constant", "--no-gradient-checkpointing")


@pytest.fixture(scope="session")
def attempt(packed: Path, model: Path) -> Callable[..., Ended]:
    """Start a run of the tiny model on the example data in `folder`, flags added, and return how it ended."""

    def start(*flags: object, folder: Path, data: Path = packed, base: Path = model, **how: Any) -> Ended:
        places = ("--data-path", data, "--input-model", base, "--local-output-dir", folder)
        return run_command("run", *places, *TRAIN, *flags, **how)

    return start


@pytest.fixture(scope="session")
def train(attempt: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train well, into a new folder unless one is given, and return it; with `signals` it may end badly."""

    def start(*flags: object, folder: Path | None = None, **how: Any) -> Path:
        folder = folder or tmp_path_factory.mktemp("run") / "out"
        ended = attempt(*flags, folder=folder, **how)
        assert "signals" in how or not any(ended.codes), ended.err
        return folder

    return start
