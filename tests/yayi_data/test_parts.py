"""Parts and their merge: byte for byte the folder of one run, whatever happened to a part on the way."""

import gzip
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from yayi_data import parts, pipeline
from yayi_data.cli import app
from yayi_data.errors import DataError, YayiError
from yayi_data.output import locked
from yayi_data.parts import Part, merge, pack_part, part_of
from yayi_data.pipeline import PackOptions, pack
from yayi_data.verify import verify

CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PARTITION_BYTES", 4000)


def write(path: Path) -> Path:
    """Write 200 records, four of them with an error, in the layout that the name asks for."""
    texts = random.Random(1)
    records: list[object] = [
        {"instruction": f"【媒宣领域任务】第{n}题", "output": "答" * texts.randrange(1, 60)}
        for n in range(200)
    ]
    records[7::50] = [{"instruction": "x"}] * 4
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()
    if path.suffix == ".json":
        lines = json.dumps(records, ensure_ascii=False, indent=1).encode()
    path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "a.jsonl")


def options(source: Path, tokenizer: Path, output: Path, **more: object) -> PackOptions:
    asked: dict[str, object] = {"on_problem": "drop", "max_length": 300} | more
    return PackOptions((str(source),), str(tokenizer), output, **asked)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(output: Path) -> list[str]:
    return [path.name for path in output.parent.glob(f"{output.name}.*")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_parts_in_any_order_and_the_merge_make_the_folder_of_one_run(
    name: str, tmp_path: Path, byte_level: Path
) -> None:
    source = write(tmp_path / name)
    one = pack(options(source, byte_level, tmp_path / "one", max_drop=0.5))
    asked = options(source, byte_level, tmp_path / "out", max_drop=0.5)
    done = [pack_part(asked, Part(i, 3)) for i in (2, 0, 1)]
    merged = merge(tmp_path / "out")
    assert len(one.manifest.shards) >= 6
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert merged.manifest == one.manifest
    assert sum(part.ledger.read for part in done) == one.manifest.ledger.read == 200
    assert sum(sum(part.ledger.dropped.values()) for part in done) == 200 - one.manifest.rows
    assert verify(tmp_path / "out") == []
    assert leftovers(tmp_path / "out") == []


def test_a_missing_or_damaged_part_is_named_and_can_be_run_again(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    output = tmp_path / "out"
    asked = options(source, byte_level, output)
    pack_part(asked, Part(0, 4))
    pack_part(asked, Part(2, 4))
    with pytest.raises(YayiError, match=r"out\.partial: \d+ of \d+ partitions .* --partition 1/4, 3/4, then"):
        merge(output)
    pack_part(asked, Part(1, 4))
    pack_part(asked, Part(3, 4))
    damaged = tmp_path / "out.partial" / "data-00002.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(YayiError, match=r"1 of \d+ partitions .* --partition 2/4, then"):
        merge(output)
    pack_part(asked, Part(2, 4))
    pack(options(source, byte_level, tmp_path / "one"))
    merge(output)
    assert contents(output) == contents(tmp_path / "one")


def test_parts_beyond_the_partitions_have_nothing_to_do(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    asked = options(source, byte_level, tmp_path / "out", limit=3)
    assert [len(pack_part(asked, Part(i, 3)).units) for i in range(3)] == [1, 0, 0]
    assert merge(tmp_path / "out").manifest.ledger.read == 3


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "1/", "/3", "a/b", "1/3/5", "0/0", "1.0/3", "²/3", ""])
def test_a_part_is_a_number_of_how_many(text: str) -> None:
    with pytest.raises(YayiError, match="expected I/N with I from 0 to N-1"):
        part_of(text)


def test_the_last_part_is_one_less_than_their_number() -> None:
    assert part_of("2/3") == Part(2, 3)


@pytest.mark.parametrize(
    ("part", "more"), [(Part(1, 2), {}), (Part(1, 3), {"max_drop": 0.5}), (Part(1, 3), {"max_length": 200})]
)
def test_parts_of_another_run_are_refused(
    part: Part, more: dict[str, object], source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack_part(options(source, byte_level, tmp_path / "out"), Part(0, 3))
    with pytest.raises(YayiError, match="was left by a run with other inputs or options"):
        pack_part(options(source, byte_level, tmp_path / "out", **more), part)


def test_a_run_in_parts_and_a_run_in_one_do_not_mix(source: Path, tmp_path: Path, byte_level: Path) -> None:
    pack_part(options(source, byte_level, tmp_path / "out"), Part(0, 2))
    with pytest.raises(YayiError, match="I/N of --partition among them"):
        pack(options(source, byte_level, tmp_path / "out"))
    assert (tmp_path / "out.partial" / "data-00000.arrow").exists()


def test_a_part_that_is_running_is_not_begun_twice_nor_merged(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    asked = options(source, byte_level, tmp_path / "out")
    for i in range(2):
        pack_part(asked, Part(i, 2))
    with locked(tmp_path / "out", Part(1, 2).mark):
        with pytest.raises(YayiError, match=r"part 1-of-2.* another run is writing it"):
            pack_part(asked, Part(1, 2))
        with pytest.raises(YayiError, match=r"part 1-of-2.* another run is writing it"):
            merge(tmp_path / "out")
        pack_part(asked, Part(0, 2))
    merge(tmp_path / "out")


def test_overwrite_replaces_the_folder_at_the_merge(source: Path, tmp_path: Path, byte_level: Path) -> None:
    output = tmp_path / "out"
    pack(options(source, byte_level, output, limit=3))
    with pytest.raises(YayiError, match="exists already"):
        pack_part(options(source, byte_level, output), Part(0, 1))
    before = contents(output)
    pack_part(options(source, byte_level, output, overwrite=True), Part(0, 1))
    assert contents(output) == before
    merge(output)
    pack(options(source, byte_level, tmp_path / "one"))
    assert contents(output) == contents(tmp_path / "one")
    assert leftovers(output) == []


def test_parts_that_were_deleted_are_not_taken_for_merged(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack(options(source, byte_level, tmp_path / "out", limit=3))
    pack_part(options(source, byte_level, tmp_path / "out", overwrite=True), Part(0, 1))
    shutil.rmtree(tmp_path / "out.partial")
    with pytest.raises(YayiError, match=r"out\.partial: the parts are gone"):
        merge(tmp_path / "out")


def test_too_many_drops_fail_the_merge_and_keep_the_parts(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack_part(options(source, byte_level, tmp_path / "out", max_drop=0.01), Part(0, 1))
    with pytest.raises(DataError, match=r"4 of 200 records \(2.00%\) were dropped"):
        merge(tmp_path / "out")
    assert (tmp_path / "out.partial" / "data-00000.unit").exists()


def test_a_bad_record_fails_its_part_and_leaves_the_others(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    asked = options(source, byte_level, tmp_path / "out", on_problem="fail")
    pack_part(asked, Part(1, 30))
    with pytest.raises(DataError, match=r"a\.jsonl:8:1"):
        pack_part(asked, Part(0, 30))
    assert (tmp_path / "out.partial" / "data-00001.unit").exists()


@pytest.mark.parametrize(
    "content", ["[]", "{}", "", "nonsense", '{"shard": 1, "beside": []}', '{"beside": [1]}']
)
def test_a_malformed_unit_is_not_whole(content: str, source: Path, tmp_path: Path, byte_level: Path) -> None:
    pack_part(options(source, byte_level, tmp_path / "out"), Part(0, 1))
    (tmp_path / "out.partial" / "data-00000.unit").write_text(content)
    with pytest.raises(YayiError, match=r"1 of .* partitions are missing or damaged"):
        merge(tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{}", "", '{"facts": 1}'])
def test_a_malformed_plan_is_told(content: str, source: Path, tmp_path: Path, byte_level: Path) -> None:
    pack_part(options(source, byte_level, tmp_path / "out"), Part(0, 1))
    (tmp_path / "out.partial.parts").write_text(content)
    with pytest.raises(YayiError, match=r"out\.partial\.parts: is damaged; delete it"):
        merge(tmp_path / "out")


def test_a_merge_publishes_what_the_parts_wrote_and_nothing_else(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack(options(source, byte_level, tmp_path / "one"))
    pack_part(options(source, byte_level, tmp_path / "out"), Part(0, 1))
    for name in (".nfs00001", "data-99999.arrow", "tokenizer/more.json"):
        (tmp_path / "out.partial" / name).write_text("foreign")
    merge(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_tokenizer_is_told_and_restored_by_any_part(
    damage: str, source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack(options(source, byte_level, tmp_path / "one"))
    asked = options(source, byte_level, tmp_path / "out")
    for i in range(2):
        pack_part(asked, Part(i, 2))
    tokenizer = tmp_path / "out.partial" / "tokenizer"
    if damage == "removed":
        shutil.rmtree(tokenizer)
    else:
        (tokenizer / "tokenizer_config.json").write_text("{}")
    with pytest.raises(YayiError, match=r"tokenizer/.*json: is missing or was changed; run any part again"):
        merge(tmp_path / "out")
    pack_part(asked, Part(1, 2))
    merge(tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_a_part_of_an_input_that_changes_meanwhile_leaves_nothing_to_merge(
    source: Path, tmp_path: Path, byte_level: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(source, byte_level, tmp_path / "out")
    before = source.read_bytes()
    pack_part(asked, Part(1, 2))
    units = {path.name for path in (tmp_path / "out.partial").glob("*.unit")}
    scan = parts.prepare

    def then_change(*arguments: Any) -> pipeline.Prepared:
        prepared = scan(*arguments)
        source.write_bytes(before.replace("答".encode(), "是".encode()))
        return prepared

    monkeypatch.setattr(parts, "prepare", then_change)
    with pytest.raises(DataError, match=r"a\.jsonl: changed while it was read"):
        pack_part(asked, Part(0, 2))
    assert {path.name for path in (tmp_path / "out.partial").glob("*.unit")} == units


def test_nothing_to_merge_is_told_with_the_next_step(source: Path, tmp_path: Path, byte_level: Path) -> None:
    with pytest.raises(YayiError, match=r"there are no parts: .* makes them"):
        merge(tmp_path / "out")
    pack(options(source, byte_level, tmp_path / "whole"))
    with pytest.raises(YayiError, match="whole is packed already"):
        merge(tmp_path / "whole")
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(YayiError, match="left by a run without --partition"):
        merge(tmp_path / "out")


def test_a_part_prints_its_share_of_the_ledger_and_says_what_comes_next(
    source: Path, tmp_path: Path, byte_level: Path
) -> None:
    output = str(tmp_path / "out")
    call = ["pack", str(source), "--tokenizer", str(byte_level), "--output", output, "--on-problem", "drop"]
    shares = []
    for i in range(2):
        done = CliRunner().invoke(app, [*call, "--partition", f"{i}/2", "--json"])
        assert done.exit_code == 0
        assert f"when every part is done: yayi-data merge-manifests {output}" in done.stderr
        shares.append(json.loads(done.stdout))
    assert [share["partition"] for share in shares] == ["0/2", "1/2"]
    merged = CliRunner().invoke(app, ["merge-manifests", output, "--json"])
    whole = json.loads(merged.stdout)
    for figure in ("rows", "tokens", "supervised_tokens", "shards"):
        assert whole[figure] == sum(share[figure] for share in shares)
    for figure in ("read", "kept"):
        assert whole["ledger"][figure] == sum(share["ledger"][figure] for share in shares)


def test_secrets_of_a_url_are_not_left_beside_the_parts(tmp_path: Path, byte_level: Path) -> None:
    import fsspec

    url = "memory://user:word@secrets/a.jsonl"
    with fsspec.open(url, "w") as file:
        file.write('{"instruction": "q", "output": "a"}\n')
    pack_part(PackOptions((url,), str(byte_level), tmp_path / "out"), Part(0, 1))
    assert b"word" not in (tmp_path / "out.partial.parts").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--partition", "3/3"], "expected I/N"),
        (["--address", "head:6379"], "add --runner ray"),
        (["--runner", "slurm"], "Invalid value for '--runner'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    options: list[str], message: str, source: Path, tmp_path: Path, byte_level: Path
) -> None:
    call = ["pack", str(source), "--tokenizer", str(byte_level), "--output", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(app, call)
    assert message in f"{done.exception}{done.stderr}"
    assert not list(tmp_path.glob("out*"))


def test_a_pipe_is_not_shared_by_parts(tmp_path: Path, byte_level: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    feeder = CONTEXT.Process(target=(tmp_path / "pipe").write_text, args=('{"instruction": "q"}\n',))
    feeder.start()
    with pytest.raises(YayiError, match="can be read by one part only"):
        pack_part(options(tmp_path / "pipe", byte_level, tmp_path / "out"), Part(0, 2))
    feeder.join()


def step(what: str, asked: PackOptions, die_at: int) -> None:
    """Pack part 0/1 or merge; kill this process just before its nth operation on a file or folder."""
    os.fsync = lambda file: None  # type: ignore[assignment]
    pipeline.PARTITION_BYTES = 4000
    count = 0

    def note(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}:
            count += str(asked.output) in str(arguments)
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    if what == "merge":
        merge(asked.output)
    else:
        pack_part(asked, Part(0, 1))
    asked.output.with_name("count").write_text(str(count))


def run(what: str, asked: PackOptions, die_at: int = -1) -> int | None:
    process = CONTEXT.Process(target=step, args=(what, asked, die_at))
    process.start()
    process.join()
    return process.exitcode


def moments_of(what: str, asked: PackOptions) -> list[int]:
    """Run it once undisturbed, and return some of its operations: a few on the way, and the last ones."""
    assert run(what, asked) == 0
    steps = int(asked.output.with_name("count").read_text())
    return [*random.Random(3).sample(range(1, steps - 9), 2), *range(steps - 8, steps + 1, 3)]


def test_a_killed_part_goes_on_where_it_stopped(tmp_path: Path, byte_level: Path) -> None:
    source = write(tmp_path / "a.jsonl.gz")
    asked = options(source, byte_level, tmp_path / "out")
    moments = moments_of("part", options(source, byte_level, tmp_path / "timed"))
    for die_at in moments:
        assert run("part", asked, die_at) in {-signal.SIGKILL, 0}
    pack_part(asked, Part(0, 1))
    merge(tmp_path / "out")
    pack(options(source, byte_level, tmp_path / "one"))
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_merge_can_be_repeated(
    overwrite: bool, source: Path, tmp_path: Path, byte_level: Path
) -> None:
    pack(options(source, byte_level, tmp_path / "one"))
    pack_part(options(source, byte_level, tmp_path / "timed"), Part(0, 1))
    for die_at in moments_of("merge", options(source, byte_level, tmp_path / "timed")):
        output = tmp_path / f"out{die_at}"
        asked = options(source, byte_level, output, overwrite=overwrite)
        if overwrite:
            pack(options(source, byte_level, output, limit=3))
        pack_part(asked, Part(0, 1))
        if run("merge", asked, die_at) != 0 and leftovers(output) != [f"out{die_at}.partial.lock"]:
            merge(output)
        assert contents(output) == contents(tmp_path / "one")
