"""S3-compatible storage: read, written, refused, broken and repaired, against a real server on this machine."""

import gzip
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yayi_data import cli, pipeline
from yayi_data.manifest import MANIFEST, load
from yayi_data.pipeline import PackOptions, pack
from yayi_data.remote import mirror
from yayi_data.remote.failures import why
from yayi_data.remote.mirror import cache_folder, fetch_shard, packed_at
from yayi_data.shard import Shards

DATA = Path(__file__).parents[2] / "data"
PACK = ("--tokenizer", str(DATA / "tiny"), "--tokenizer-engine", "reference", "--workers", "1")
LINES = (DATA / "yayi_train_example.json").read_bytes().splitlines(keepends=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run `yayi-data` and return (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["yayi-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return command


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put_inputs(s3: Any) -> str:
    s3.put("in/a.jsonl", b"".join(LINES[:12]))
    s3.put("in/b.jsonl", b"".join(LINES[12:20]))
    s3.put("in/notes.md", b"not data")
    return f"{s3.url}/in"


def local_pack(place: str, folder: Path) -> dict[str, bytes]:
    options = PackOptions((place,), str(DATA / "tiny"), folder, workers=1, tokenizer_engine="reference")
    pack(options)
    return files(folder)


@pytest.fixture
def packed(s3: Any, run: Callable[..., Any]) -> str:
    """A packed folder of two shards in the bucket."""
    code, _, said = run("pack", put_inputs(s3), *PACK, "--output", f"{s3.url}/out")
    assert code == 0, said
    return f"{s3.url}/out"


def test_a_pack_from_s3_to_s3_is_the_local_pack_byte_for_byte(s3, run, tmp_path) -> None:
    place = put_inputs(s3)
    code, out, _ = run("pack", place, *PACK, "--output", f"{s3.url}/deep/out", "--json")
    assert (code, json.loads(out)["output"]) == (0, f"{s3.url}/deep/out")
    assert s3.objects("deep/out") == local_pack(place, tmp_path / "local")
    writes = [path for method, path in s3.seen if method == "PUT"]
    assert writes[-1] == f"/{s3.bucket}/deep/out/{MANIFEST}"
    assert sum(path.endswith(MANIFEST) for path in writes) == 1
    assert not any(p.is_file() for p in cache_folder().rglob("*"))


def test_shards_do_not_depend_on_where_the_input_was(s3, packed, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name, data in s3.objects("in").items():
        (tmp_path / "in" / name).write_bytes(data)
    here = local_pack(str(tmp_path / "in"), tmp_path / "local")
    there = s3.objects("out")
    assert all(there[name] == here[name] for name in here if name.endswith(".arrow"))


@pytest.mark.parametrize("how", ["503", "reset", "cut"])
def test_what_fails_once_is_tried_again(s3, run, tmp_path, how) -> None:
    place = put_inputs(s3)
    failed = set()

    def once(method: str, path: str) -> str | None:
        wanted = method in ("GET" if how == "cut" else "GET PUT") and path.endswith((".jsonl", "index.arrow"))
        first = wanted and (method, path) not in failed and not failed.add((method, path))
        return how if first else None

    s3.fault = once
    code, _, said = run("pack", place, *PACK, "--output", f"{s3.url}/out")
    assert code == 0, said
    assert len(failed) >= 2
    assert s3.objects("out") == local_pack(place, tmp_path / "local")


def test_a_server_that_dies_leaves_no_manifest_and_a_repeat_finishes(s3, run, tmp_path, monkeypatch) -> None:
    place = put_inputs(s3)
    arguments = ("pack", place, *PACK, "--output", f"{s3.url}/out")
    expected = local_pack(place, tmp_path / "local")
    s3.fault = lambda method, path: s3.die() if sum(m == "PUT" for m, _ in s3.seen) > 3 else None
    code, out, said = run(*arguments)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "the connection broke off" in said or "server cannot be reached" in said
    assert 0 < len(s3.objects("out")) < len(expected)
    assert MANIFEST not in s3.objects("out")
    s3.fault = lambda method, path: None
    s3.start()
    s3.seen.clear()
    monkeypatch.setattr(pipeline, "pack_partition", None)  # what was packed is not packed again
    already = set(s3.objects("out"))
    assert run(*arguments)[0] == 0
    assert s3.objects("out") == expected
    sent = {path.removeprefix(f"/{s3.bucket}/out/") for method, path in s3.seen if method == "PUT"}
    assert sent == expected.keys() - already


def test_a_run_with_other_options_does_not_continue_one_that_broke_off(s3, run, tmp_path) -> None:
    place = put_inputs(s3)
    s3.fault = lambda method, path: "503" if method == "PUT" else None
    assert run("pack", place, *PACK, "--output", f"{s3.url}/out")[0] == 2
    s3.fault = lambda method, path: None
    assert run("pack", place, *PACK, "--output", f"{s3.url}/out", "--limit", 5)[0] == 0
    assert json.loads(s3.objects("out")[MANIFEST])["rows"] == 5


def test_at_no_moment_a_manifest_lists_what_is_not_there(s3, run, packed) -> None:
    told = []

    def whole() -> None:
        there = s3.objects("out")
        if MANIFEST not in there:
            told.append("none")
            return
        listed = json.loads(there[MANIFEST])
        hashes = {f["file"]: f["sha256"] for f in listed["shards"]}
        hashes |= {f["path"]: f["sha256"] for f in listed["files"]}
        told.append(listed["rows"])
        for name, sha256 in hashes.items():
            assert hashlib.sha256(there[name]).hexdigest() == sha256, name

    s3.watch = whole
    code, _, said = run("pack", f"{s3.url}/in/b.jsonl", *PACK, "--output", packed, "--overwrite")
    assert code == 0, said
    assert list(dict.fromkeys(told)) == [20, "none", 8]
    assert "data-00001.arrow" not in s3.objects("out")
    assert run("verify", packed)[0] == 0


def test_what_is_there_is_not_overwritten_unasked(s3, run, packed) -> None:
    before = s3.objects("out")
    code, _, said = run("pack", f"{s3.url}/in", *PACK, "--output", packed)
    assert (code, "--overwrite" in said, s3.objects("out") == before) == (2, True, True)
    code, _, said = run("pack", f"{s3.url}/in", *PACK, "--output", f"{s3.url}/in", "--overwrite")
    assert (code, "which pack did not write" in said, len(s3.objects("in"))) == (2, True, 3)


def test_bad_data_uploads_nothing(s3, run) -> None:
    s3.put("in/bad.jsonl", LINES[0] + b"{broken\n")
    code, _, said = run("pack", f"{s3.url}/in/bad.jsonl", *PACK, "--output", f"{s3.url}/out")
    assert (code, said.startswith(f"error: {s3.url}/in/bad.jsonl:2:"), s3.objects("out")) == (1, True, {})
    assert not any(p.is_file() for p in cache_folder().rglob("*"))


def no_credentials(s3, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def wrong_credentials(s3, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another-key")


def always(how: str) -> Callable[..., None]:
    def fail(s3, monkeypatch) -> None:
        s3.fault = lambda method, path: how if method == "GET" and path.endswith(".jsonl") else None

    return fail


FAILURES = [
    ("no credentials", no_credentials, "in/a.jsonl", "no usable credentials"),
    ("wrong credentials", wrong_credentials, "in/a.jsonl", "access is denied"),
    ("refused", lambda s3, monkeypatch: s3.stop(), "in/a.jsonl", "server cannot be reached"),
    ("no key", lambda s3, monkeypatch: None, "in/no.jsonl", "no such file"),
    ("no prefix", lambda s3, monkeypatch: None, "no", "no such file"),
    ("no match", lambda s3, monkeypatch: None, "no/*.jsonl", "nothing matches"),
    ("busy", always("503"), "in/a.jsonl", "the server says (503|SlowDown|ServiceUnavailable)"),
    ("truncated", always("cut"), "in/a.jsonl", "the connection broke off"),
]


@pytest.mark.parametrize(("name", "break_it", "path", "expected"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_failure_is_one_line_and_leaves_nothing(
    s3, run, tmp_path, monkeypatch, name, break_it, path, expected
) -> None:
    put_inputs(s3)
    break_it(s3, monkeypatch)
    code, out, said = run("pack", f"{s3.url}/{path}", *PACK, "--output", tmp_path / "out")
    if name == "refused":
        s3.start()
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert said.startswith(f"error: {s3.url}/{path}: ")
    assert re.search(expected, said), said
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet"])
def test_a_connection_that_breaks_is_no_damage_of_the_data(s3, run, tmp_path, ending) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(LINES))
    run("convert", tmp_path / "a.jsonl", "--to", "messages", "--output", tmp_path / "a.parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(LINES)))
    s3.put(f"a.{ending}", (tmp_path / f"a.{ending}").read_bytes())
    whole = iter(["the first look"])
    s3.fault = lambda method, path: "cut" if method == "GET" and not next(whole, None) else None
    place = f"{s3.url}/a.{ending}"
    code, out, said = run("pack", place, *PACK, "--output", tmp_path / "out", "--on-problem", "drop")
    assert (code, out, said.count("\n")) == (2, "", 1), said
    assert "the connection broke off" in said
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("break_it", "bucket", "expected"),
    [
        (no_credentials, None, "no usable credentials"),
        (wrong_credentials, None, "access is denied"),
        (lambda s3, monkeypatch: None, "no-such-bucket", "no such bucket"),
    ],
)
def test_an_output_that_cannot_be_is_told_before_anything_is_packed(
    s3, run, monkeypatch, break_it, bucket, expected
) -> None:
    break_it(s3, monkeypatch)
    monkeypatch.setattr(pipeline, "open_sources", None)
    place = f"s3://{bucket or s3.bucket}/out"
    code, _, said = run("pack", DATA / "yayi_train_example.json", *PACK, "--output", place)
    assert (code, said.count("\n"), expected in said) == (2, 1, True), said


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "in.jsonl", "--to", "messages", "--output"),
        ("export", "packed", "--labels", "--output"),
        ("validate", "in.jsonl", "--output"),
        ("dedup", "in.jsonl", "--output"),
        ("pack", "in.jsonl", *PACK, "--output"),
    ],
)
def test_a_url_that_nothing_is_written_to_is_refused(run, tmp_path, monkeypatch, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = run(*arguments, "gs://user:hidden@bucket/place?token=hidden")
    assert (code, said.count("\n"), "hidden" in said) == (2, 1, False)
    assert said.startswith("error: gs://bucket/place: only ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("Protocol not known: foo"), "fsspec knows no such kind of URL; expected s3://"),
        (type("ConnectError", (Exception,), {})(), "its server cannot be reached; check the network"),
    ],
)
def test_what_a_backend_raises_is_told_in_our_words(error: Exception, told: str) -> None:
    assert why(error, "foo://x/y").startswith(told)


def test_a_missing_package_is_named(s3, run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")
    code, _, said = run("validate", f"{s3.url}/in/a.jsonl")
    assert (code, said.count("\n")) == (2, 1)
    assert 'pip install "yayi-tune[s3]"' in said


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::https://a:HIDDEN@127.0.0.1:9/x.jsonl?HIDDEN",
        "zip://x.jsonl::https://a:HIDDEN@127.0.0.1:9/x.zip?HIDDEN",
        "s3://[HIDDEN/x.jsonl",
        "nosuch://a:HIDDEN@host/x.jsonl?HIDDEN",
    ],
)
def test_a_strange_url_is_told_in_one_line_without_its_secrets(run, url) -> None:
    code, _, said = run("validate", url)
    assert (code, said.count("\n"), "HIDDEN" in said) == (2, 1, False), said


SECRETS = ("TOP-SECRET", "HIDDEN-SIGNATURE", "HIDDEN-PASSWORD")


def test_no_secret_is_in_any_byte_that_is_written_or_said(s3, run, tmp_path) -> None:
    put_inputs(s3)
    query = f"?X-Amz-Credential={s3.key}&X-Amz-Signature=HIDDEN-SIGNATURE"
    web = f"http://somebody:HIDDEN-PASSWORD@127.0.0.1:{s3.port}/{s3.bucket}/in"
    source = f"{web}/a.jsonl{query}"
    s3.put("in/bad.jsonl", b'{"instruction": "a", "input": "", "output": ""}\n{broken\n')
    ended = [
        run("pack", source, *PACK, "--output", tmp_path / "packed", "--json"),
        run("pack", source, f"{s3.url}/in/b.jsonl", *PACK, "--output", f"{s3.url}/out"),
        run("pack", f"{web}/bad.jsonl{query}", *PACK, "--output", tmp_path / "bad", "--on-problem", "drop"),
        run("pack", f"{web}/bad.jsonl{query}", *PACK, "--output", f"{s3.url}/bad"),
        run("validate", f"{web}/bad.jsonl{query}", "--format", "json", "--output", tmp_path / "report.json"),
        run("convert", source, "--to", "messages", "--output", tmp_path / "messages.jsonl"),
        run("inspect", source, "--tokenizer", DATA / "tiny"),
        run("verify", f"{s3.url}/out"),
        run("validate", f"{web}/missing.jsonl{query}"),
        run("inspect", f"s3://somebody:HIDDEN-PASSWORD@{s3.bucket}/out"),
        run("pack", source, *PACK, "--output", f"s3://somebody:HIDDEN-PASSWORD@{s3.bucket}/o?a=HIDDEN-SIGNATURE"),
    ]  # fmt: skip
    assert [code for code, _, _ in ended] == [0, 0, 1, 1, 1, 0, 0, 0, 2, 2, 2]
    s3.fault = lambda method, path: "cut" if path.endswith("a.jsonl") else None
    ended.append(run("pack", source, *PACK, "--output", f"{s3.url}/again"))
    assert ended[-1][0] == 2
    written = [*files(tmp_path).values(), *s3.objects("out").values(), *s3.objects("bad").values()]
    said = [text.encode() for _, out, err in ended for text in (out, err)]
    assert len(written) > 20
    for secret in SECRETS:
        assert not [text for text in [*written, *said] if secret.encode() in text]


def test_a_traceback_holds_no_secret_either(s3, run, capsys, monkeypatch) -> None:
    import traceback

    url = f"http://a:HIDDEN-PASSWORD@127.0.0.1:{s3.port}/x.jsonl?X-Amz-Signature=HIDDEN-SIGNATURE"
    monkeypatch.setattr(sys, "argv", ["yayi-data", "--debug", "validate", url])
    with pytest.raises(Exception, match="cannot be") as raised:
        cli.main()
    shown = "".join(traceback.format_exception(raised.value))
    assert "HIDDEN" not in shown


def test_verify_sees_what_the_server_holds_not_the_cache(s3, run, packed) -> None:
    assert run("inspect", packed, "--row", 0)[0] == 0
    assert run("verify", packed)[0] == 0
    damaged = bytearray(s3.objects("out")["data-00000.arrow"])
    damaged[-20] ^= 1
    s3.put("out/data-00000.arrow", bytes(damaged))
    s3.put("out/extra.txt", b"x")
    code, out, _ = run("verify", packed)
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["data-00000.arrow", "extra.txt"]
    assert not list((cache_folder() / "scratch").iterdir())


def test_verify_writes_nowhere_else(s3, run, packed, tmp_path) -> None:
    s3.put("out//somewhere.txt", b"x")
    s3.put("out/../../../evil.txt", b"x")
    before = set(tmp_path.rglob("*"))
    code, _, said = run("verify", packed)
    assert (code, said.count("\n")) == (1, 1)
    assert {p for p in set(tmp_path.rglob("*")) - before if p.name != "scratch"} == set()


def test_a_version_that_is_asked_for_is_the_one_that_is_read(s3, run) -> None:
    s3.keep_versions()
    s3.put("in.jsonl", LINES[0])
    first = s3.version("in.jsonl")
    s3.put("in.jsonl", LINES[0] + LINES[1])
    code, out, said = run("validate", f"{s3.url}/in.jsonl?versionId={first}")
    assert (code, "1 record in" in out + said) == (0, True), out + said


def test_a_folder_without_a_name_is_no_mirror(s3, run, tmp_path, monkeypatch) -> None:
    local_pack(put_inputs(s3), tmp_path / "local")
    monkeypatch.chdir(tmp_path / "local")
    assert run("inspect", ".", "--row", 0)[0] == 0


def test_inspect_and_export_read_through_the_cache(s3, run, packed, tmp_path) -> None:
    here = tmp_path / "local"
    local_pack(f"{s3.url}/in", here)
    s3.seen.clear()
    assert run("inspect", packed, "--row", 0)[1] == run("inspect", here, "--row", 0)[1]
    assert not [path for _, path in s3.seen if path.endswith("data-00001.arrow")]
    there = run("export", packed, "--messages", "--output", tmp_path / "there.jsonl")
    assert there[0] == 0, there
    run("export", here, "--messages", "--output", tmp_path / "here.jsonl")
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    s3.stop()
    offline = run("export", packed, "--messages", "--output", tmp_path / "offline.jsonl")
    s3.start()
    assert offline[0] == 0, offline
    assert "going on with the copy" in offline[2]
    assert (tmp_path / "offline.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_diff_compares_packed_folders_wherever_they_are(s3, run, packed, tmp_path) -> None:
    local_pack(f"{s3.url}/in", tmp_path / "same")
    local_pack(f"{s3.url}/in/a.jsonl", tmp_path / "half")
    code, out, said = run("diff", packed, tmp_path / "same")
    assert (code, said) == (0, ""), out
    assert out.startswith(f"A: {packed}\n")
    found = json.loads(run("diff", tmp_path / "half", packed, "--json")[1])
    assert (found["b"], found["rows"]["added"]) == (packed, 8)
    assert all(example["texts"][1] for example in found["examples"])
    assert run("diff", packed, f"{s3.url}/in")[0] == 2


def test_diff_of_urls_repeats_no_secret(s3, run) -> None:
    s3.keep_versions()
    urls = []
    for line in LINES[:2]:
        s3.put("in.jsonl", line)
        urls.append(f"{s3.url}/in.jsonl?versionId={s3.version('in.jsonl')}")
    for arguments in (urls, (*urls, "--json")):
        code, out, said = run("diff", *arguments)
        assert (code, "versionId" in out + said) == (1, False), out + said


def test_report_reads_through_the_cache(s3, run, packed, tmp_path) -> None:
    code, _, said = run("report", packed, "--output", tmp_path / "there.html")
    assert code == 0, said
    local_pack(f"{s3.url}/in", tmp_path / "out")
    run("report", tmp_path / "out", "--output", tmp_path / "here.html")
    there = (tmp_path / "there.html").read_bytes()
    assert there.replace(packed.encode(), b"out") == (tmp_path / "here.html").read_bytes()
    assert run("report", f"{s3.url}/in", "--output", tmp_path / "no.html")[0] == 2


@pytest.mark.parametrize("how", ["changed", "cut", "emptied", "gone"])
def test_a_corrupt_cache_entry_is_fetched_again(s3, packed, how) -> None:
    folder = packed_at(packed)
    manifest = load(folder)
    expected = Shards(folder, manifest).row(0, 3).ids.tolist()
    shard, index = folder / "data-00000.arrow", folder / "index.arrow"
    for path in (shard, index):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.unlink()
        if how != "gone":
            path.write_bytes({"changed": bytes(data), "cut": data[:-9], "emptied": b""}[how])
    assert Shards(packed_at(packed), manifest).row(0, 3).ids.tolist() == expected
    assert shard.read_bytes() == s3.objects("out")["data-00000.arrow"]
    assert index.read_bytes() == s3.objects("out")["index.arrow"]


def test_a_shard_that_is_not_the_manifests_is_refused_and_not_kept(s3, packed) -> None:
    folder = packed_at(packed)
    s3.put("out/data-00000.arrow", s3.objects("out")["data-00001.arrow"])
    with pytest.raises(Exception, match=r"data-00000\.arrow: has \d+ bytes .* its manifest says"):
        Shards(folder, load(folder)).row(0, 0)
    assert not list(folder.glob("data-*"))


def test_several_who_want_a_shard_fetch_it_once(s3, packed) -> None:
    folder = packed_at(packed)
    facts = load(folder).shards[0]
    s3.seen.clear()
    together = threading.Barrier(4)
    found = []

    def want() -> None:
        together.wait()
        found.append(fetch_shard(folder, facts))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [folder / facts.file] * 4
    assert [method for method, path in s3.seen if path.endswith(facts.file)].count("GET") == 1


def test_what_a_killed_download_left_is_removed(s3, packed) -> None:
    folder = packed_at(packed)
    scrap = folder / "data-00000.arrow.1-abc.tmp"
    scrap.write_bytes(b"half")
    Shards(folder, load(folder)).fetch([0, 1])
    assert not scrap.exists()
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_mirror_with_all_its_shards_is_a_packed_folder(s3, run, packed) -> None:
    folder = packed_at(packed)
    Shards(folder, load(folder)).fetch([0, 1])
    s3.stop()
    code, out, _ = run("verify", folder)
    s3.start()
    assert (code, "clean" in out) == (0, True)


def test_a_whole_mirror_may_be_read_only(s3, run, packed, monkeypatch) -> None:
    assert run("export", packed, "--messages", "--output", cache_folder().with_name("a.jsonl"))[0] == 0

    def written(*_: object, **__: object) -> None:
        raise AssertionError("the cache was written to")

    for name in ("write_atomically", "AtomicFile", "FileLock"):
        monkeypatch.setattr(mirror, name, written)
    assert run("inspect", packed, "--row", 15)[0] == 0


def test_another_manifest_under_the_url_is_another_mirror(s3, run, packed) -> None:
    first = packed_at(packed)
    assert run("pack", f"{s3.url}/in/b.jsonl", *PACK, "--output", packed, "--overwrite")[0] == 0
    second = packed_at(packed)
    assert first != second
    assert load(second).rows == 8


@pytest.mark.parametrize("name", ["tokenizer/vocab.json", "state.json", "data-00000.arrow", ".yayi-upload"])
def test_what_looks_like_the_rest_of_an_upload_is_not_taken_for_one(s3, run, name) -> None:
    place = put_inputs(s3)
    s3.put(f"out/{name}", b"mine")
    for more in ((), ("--overwrite",)):
        code, _, said = run("pack", place, *PACK, "--output", f"{s3.url}/out", *more)
        assert (code, "which pack did not write" in said) == (2, True), said
    assert s3.objects("out") == {name: b"mine"}


def test_overwrite_removes_what_the_old_manifest_lists_only(s3, run, packed) -> None:
    s3.put("out/tokenizer/mine.jsonl", b"mine")
    code, _, said = run("pack", f"{s3.url}/in/b.jsonl", *PACK, "--output", packed, "--overwrite")
    assert (code, "tokenizer/mine.jsonl, which pack did not write" in said) == (2, True), said
    assert s3.objects("out")["tokenizer/mine.jsonl"] == b"mine"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("out/dropped.jsonl", "out/dropped.jsonl: is an input and lies in the output"),
        ("out/drop*", "out/dropped.jsonl: is an input and lies in the output"),
        ("*/*.jsonl", "out/dropped.jsonl: is an input and lies in the output"),
        ("out", "is an input; choose another --output"),
        ("", "is an input; choose another --output"),
    ],
)
def test_an_input_below_the_output_is_refused(s3, run, packed, given, expected) -> None:
    before = s3.objects("out")
    code, _, said = run("pack", f"{s3.url}/{given}", *PACK, "--output", packed, "--overwrite")
    assert (code, said.count("\n"), expected in said) == (2, 1, True), said
    assert s3.objects("out") == before


def test_a_run_that_broke_off_after_its_manifest_is_finished_by_a_repeat(s3, run, tmp_path) -> None:
    place = put_inputs(s3)
    arguments = ("pack", place, *PACK, "--output", f"{s3.url}/out")
    s3.fault = lambda method, path: "503" if method in ("DELETE", "POST") else None
    assert run(*arguments)[0] == 2
    assert MANIFEST in s3.objects("out")
    s3.fault = lambda method, path: None
    assert run(*arguments)[0] == 0
    assert s3.objects("out") == local_pack(place, tmp_path / "local")


def test_verify_tells_of_an_object_that_is_a_folder_too(s3, run, packed) -> None:
    s3.put("out/a", b"x")
    s3.put("out/a/b", b"x")
    code, _, said = run("verify", packed)
    assert (code, "holds an object named a;" in said) == (1, True), said
