"""Training on a packed folder that is in S3-compatible storage, through the local mirror."""

import json
from pathlib import Path
from typing import Any

import pytest

from yayi_data.manifest import load
from yayi_data.pipeline import PackOptions, pack
from yayi_data.remote.mirror import packed_at
from yayi_train.run_folder import read_run
from yayi_train.trace import trace

DATA = Path(__file__).parents[2] / "data"
FLAGS = ("--max-steps", 4, "--test-size", 6, "--eval-steps", 2, "--per-device-train-batch-size")


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local packed folder of forty conversations in two shards."""
    folder = tmp_path_factory.mktemp("two")
    lines = (DATA / "yayi_train_example.json").read_bytes().splitlines(keepends=True)
    for i in range(2):
        (folder / f"{i}.jsonl").write_bytes(b"".join(lines[20 * i : 20 * (i + 1)]))
    paths = tuple(str(folder / f"{i}.jsonl") for i in range(2))
    pack(PackOptions(paths, str(DATA / "tiny"), folder / "packed", workers=1, tokenizer_engine="reference"))
    return folder / "packed"


@pytest.fixture
def remote(s3: Any, two_shards: Path) -> str:
    """The same in the bucket."""
    for path in two_shards.rglob("*"):
        if path.is_file():
            s3.put(f"data/{path.relative_to(two_shards).as_posix()}", path.read_bytes())
    return f"{s3.url}/data"


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("eval_loss")) for line in lines]


def test_losses_are_those_of_the_local_folder_and_then_without_the_server_too(
    s3: Any, two_shards: Path, remote: str, train: Any, tmp_path: Path
) -> None:
    local = losses(train(*FLAGS, 2, folder=tmp_path / "local", data=two_shards))
    assert len(local) == 6
    both = train(*FLAGS, 1, folder=tmp_path / "both", data=remote, ranks=2)
    assert losses(both) == pytest.approx(local, rel=1e-4)
    fetched = [path for method, path in s3.seen if method == "GET" and "/data-" in path]
    assert len(fetched) == len(set(fetched)) == 2  # the ranks of a node fetch a shard once
    s3.stop()
    offline = train(*FLAGS, 2, folder=tmp_path / "offline", data=remote)
    s3.start()
    assert losses(offline) == local
    assert read_run(offline).data == remote
    assert trace(offline, 2)["ranks"] == trace(tmp_path / "local", 2)["ranks"]


def test_a_damaged_copy_is_fetched_again(
    s3: Any, two_shards: Path, remote: str, train: Any, tmp_path: Path
) -> None:
    folder = packed_at(remote)
    for name in ("data-00000.arrow", "index.arrow", "tokenizer/tokenizer.json"):
        damaged = bytearray((two_shards / name).read_bytes())
        damaged[len(damaged) // 2] ^= 255
        (folder / name).write_bytes(damaged)
    train(*FLAGS, 2, folder=tmp_path / "run", data=remote)
    for file in load(two_shards).files:
        assert (folder / file.path).read_bytes() == (two_shards / file.path).read_bytes()
    assert (folder / "data-00000.arrow").read_bytes() == (two_shards / "data-00000.arrow").read_bytes()


def test_raw_data_behind_a_secret_leaves_the_secret_nowhere(s3: Any, train: Any, tmp_path: Path) -> None:
    s3.put(
        "raw.jsonl", b"".join((DATA / "yayi_train_example.json").read_bytes().splitlines(keepends=True)[:20])
    )
    query = f"X-Amz-Credential={s3.key}&X-Amz-Signature=HIDDEN-SIGNATURE"
    url = f"http://a:HIDDEN-PASSWORD@127.0.0.1:{s3.port}/{s3.bucket}/raw.jsonl?{query}"
    train("--max-steps", 1, folder=tmp_path / "run", data=url)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [data for data in written if b"HIDDEN" in data or s3.secret.encode() in data]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://{bucket}/nothing", "s3://{bucket}/nothing: cannot be opened: no such file"),
        ("s3://not-a-bucket/data", "s3://not-a-bucket/data/manifest.json: cannot be opened: there is no such bucket"),
        ("s3://a:HIDDEN@{bucket}/data", "s3://{bucket}/data: an s3 URL holds no credentials"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_in_one_line(
    s3: Any, attempt: Any, tmp_path: Path, place: str, expected: str
) -> None:
    ended = attempt(folder=tmp_path / "run", data=place.format(bucket=s3.bucket))
    assert ended.codes == [2]
    *_, told = ended.err[0].splitlines()
    assert told.startswith(f"error: {expected.format(bucket=s3.bucket)}")
    assert "HIDDEN" not in ended.err[0]
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_to_a_url(attempt: Any, packed: Path) -> None:
    ended = attempt(folder="s3://bucket/run", data=packed)
    assert (ended.codes, ended.err[0].count("\n")) == ([2], 1)
    assert "s3://bucket/run: only pack writes to a URL" in ended.err[0]
