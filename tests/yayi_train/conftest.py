"""Packed folders and tiny models, made from the example data."""

import json
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from yayi_data import manifest
from yayi_data.convert import conversation
from yayi_data.encode import encode
from yayi_data.index import INDEX, domain_counts, merge_index, read_index
from yayi_data.manifest import Ledger, Manifest, SourceFacts, TemplateFacts, TokenizerFacts
from yayi_data.plan import ORDER_VERSION
from yayi_data.domains import load_registry
from yayi_data.render import render
from yayi_data.shard import Rows, datasets_files, index_part, shard_name, write_shard
from yayi_data.template import load_template
from yayi_data.tokenizer import load_tokenizer

DATA = Path(__file__).parents[2] / "data"
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pack(folder: Path, records: Sequence[dict], tokenizer: Path = DATA / "tiny", dialect: str = "alpaca") -> Path:
    """Write records as a packed folder of one shard; line i + 1 of `records.jsonl` is record i."""
    template = load_template("yayi")
    loaded = load_tokenizer(str(tokenizer), template)
    conversations = [conversation(record, dialect) for record in records]
    encoded = encode([render(c, template) for c in conversations], loaded)
    (folder / "tokenizer").mkdir(parents=True)
    loaded.write(folder / "tokenizer")
    registry = load_registry(None)
    n = len(records)
    rows = Rows(
        encoded.ids, encoded.mask, encoded.offsets, [registry.domain_of(c) for c in conversations], 0,
        np.arange(1, n + 1), np.arange(n),
    )  # fmt: skip
    shard = write_shard(folder / shard_name(0), [rows])
    merge_index([index_part(folder / shard_name(0))], folder / INDEX)
    index_part(folder / shard_name(0)).unlink()
    for name, content in datasets_files([shard]).items():
        (folder / name).write_bytes(content)
    index = read_index(folder / INDEX)
    beside = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != shard.file]
    manifest.write(
        folder,
        Manifest(
            sources=[SourceFacts("records.jsonl", 1, "0" * 64, n, dialect)],
            options={},
            template=TemplateFacts(template.name, template.fingerprint),
            tokenizer=TokenizerFacts(loaded.fingerprint, loaded.control_ids, 3584),
            ledger=Ledger(n, n, {}),
            domains=domain_counts(index),
            rows=n,
            tokens=shard.tokens,
            supervised_tokens=shard.supervised_tokens,
            straddling_tokens=0,
            shards=[shard],
            files=[manifest.file_facts(folder, p.relative_to(folder).as_posix()) for p in beside],
            order_version=ORDER_VERSION,
        ),
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


class Ended(NamedTuple):
    """How a command ended, of several ranks: the codes and what each printed."""

    codes: list[int]
    out: list[str]
    err: list[str]


def run_command(*arguments: object, ranks: int = 1, signals: Callable[[list[int]], None] | None = None) -> Ended:
    """Run `yayi-train` in forks of this process, one a rank, so that torch is not imported anew each time.

    `signals` is called with the process IDs while they run.
    """
    import deepspeed  # noqa: F401 - inherited by the forks
    import transformers  # noqa: F401

    place = Path(tempfile.mkdtemp())
    port = str(_free_port())
    pids = [_fork([str(a) for a in arguments], rank, ranks, port, place) for rank in range(ranks)]
    if signals:
        signals(pids)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    out, err = ([(place / f"{kind}{rank}").read_text() for rank in range(ranks)] for kind in ("out", "err"))
    return Ended(codes, out, err)


def _fork(arguments: list[str], rank: int, ranks: int, port: str, place: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for number, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(place / f"{kind}{rank}", os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        one = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in one.items()}, MASTER_ADDR="127.0.0.1")
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
