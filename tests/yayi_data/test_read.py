import errno
import gzip
import io
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard

from yayi_data import read
from yayi_data.errors import YayiError
from yayi_data.read import Chunk, Partition, arrays, chunks, chunks_of, lines, open_sources, partitions
from yayi_data.read.records import first_chunks

RECORDS = [{"instruction": f"问{i}", "output": "答🙂" * (i % 7 + 1)} for i in range(50)]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()
ARRAY = json.dumps(RECORDS, ensure_ascii=False).encode()
PRETTY = json.dumps(RECORDS, ensure_ascii=False, indent=2).encode()

LAYOUTS = {
    "lines": LINES,
    "lines without a last line break": LINES.rstrip(),
    "lines with CRLF": LINES.replace(b"\n", b"\r\n"),
    "lines with blank ones": LINES.replace(b"\n", b"\n \t\n\n"),
    "one-line array": ARRAY,
    "pretty array": PRETTY,
    "pretty array with CRLF": PRETTY.replace(b"\n", b"\r\n"),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yayi_data.read.sources.BLOCK_BYTES", 100)
    monkeypatch.setattr("yayi_data.read.arrays.BLOCK_BYTES", 100)


def write(folder: Path, data: bytes, name: str = "a.json") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def one(path: str) -> read.Source:
    return open_sources([path])[0]


def taken(found: list[Chunk]) -> list[tuple[int, int, int, bytes]]:
    return [
        (record.number, record.line, record.start, record.raw)
        for chunk in found
        for record in chunk.records()
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_records_are_found_with_number_line_and_byte_range(tmp_path: Path, layout: str) -> None:
    data = LAYOUTS[layout]
    found = taken(list(chunks_of(one(write(tmp_path, data)))))
    assert [json.loads(raw) for *_, raw in found] == RECORDS
    for i, (number, line, start, raw) in enumerate(found):
        assert number == i
        assert data[start:].startswith(raw)
        assert line == data[:start].count(b"\n") + 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 300, 10_000])
def test_partitions_cover_the_records_whatever_their_size(tmp_path: Path, layout: str, size: int) -> None:
    source = one(write(tmp_path, LAYOUTS[layout]))
    parts, facts = partitions(source, 7, size)
    assert [part.index for part in parts] == list(range(7, 7 + len(parts)))
    assert facts.records == len(RECORDS)
    assert facts.bytes == len(LAYOUTS[layout])
    in_parts = [chunk for part in parts for chunk in chunks(part)]
    assert taken(in_parts) == taken(list(chunks_of(source)))
    assert not [problem for chunk in in_parts for problem in chunk.problems]


@pytest.mark.parametrize("layout", ["lines", "one-line array", "pretty array"])
def test_columns_are_those_of_the_records_first_byte(tmp_path: Path, layout: str) -> None:
    data = LAYOUTS[layout]
    for chunk in chunks_of(one(write(tmp_path, data))):
        for i, start in enumerate(chunk.starts):
            column = len(data[data.rfind(b"\n", 0, start) + 1 : start].decode()) + 1
            assert (chunk.columns[i] if chunk.columns else 1) == column


@pytest.mark.parametrize("layout", ["lines", "pretty array"])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_files_read_as_they_are(tmp_path: Path, layout: str, compress: Any) -> None:
    plain, stored = one(write(tmp_path, LAYOUTS[layout])), compress(LAYOUTS[layout])
    source = one(write(tmp_path, stored + compress(b"\n"), "b.json.gz"))
    assert taken(list(chunks_of(source))) == taken(list(chunks_of(plain)))
    parts, facts = partitions(source, 0, 500, spool=tmp_path)
    assert len(parts) > 1
    assert facts.bytes == len(stored + compress(b"\n"))
    assert taken([c for part in parts for c in chunks(part)]) == taken(list(chunks_of(plain)))
    assert taken([c for p in partitions(source, 0, 500)[0] for c in chunks(p)]) == taken(
        list(chunks_of(plain))
    )


@pytest.mark.parametrize(
    "stored",
    [
        gzip.compress(LINES) + bytes(70_000),
        gzip.compress(LINES[:20]) + bytes(512) + gzip.compress(LINES[20:]),
        b"\x53\x2a\x4d\x18\x03\0\0\0abc" + zstandard.ZstdCompressor().compress(LINES),
    ],
    ids=["padded gzip", "gzip padded inside", "zstd behind a skippable frame"],
)
def test_what_is_no_data_in_a_compressed_file_is_passed_over(tmp_path: Path, stored: bytes) -> None:
    source = one(write(tmp_path, stored, "b.jsonl"))
    assert taken(list(chunks_of(source))) == taken(list(chunks_of(one(write(tmp_path, LINES)))))


@pytest.mark.parametrize("layout", ["lines", "pretty array"])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_compressed_file_that_was_cut_gives_what_it_holds_and_one_problem(
    tmp_path: Path, layout: str, compress: Any
) -> None:
    big = (
        LAYOUTS[layout]
        if layout != "lines"
        else b"".join(
            json.dumps({"instruction": str(zlib.crc32(bytes([i % 256, i // 256]))), "output": "x"}).encode()
            + b"\n"
            for i in range(9000)
        )
    )
    stored = compress(big)
    found = list(chunks_of(one(write(tmp_path, stored[: len(stored) // 2]))))
    assert [p.rule for chunk in found for p in chunk.problems] == ["compression"]
    good = [raw for chunk in found for raw in chunk.raws if raw]
    assert all(json.loads(raw) for raw in good)


def test_limit_counts_records(tmp_path: Path) -> None:
    for data in (LINES, ARRAY, PRETTY):
        source = one(write(tmp_path, data))
        for limit in (1, 13, 50, 99):
            assert len(taken(list(chunks_of(source, limit)))) == min(limit, 50)


def test_byte_order_mark_is_a_problem_and_reading_goes_on(tmp_path: Path) -> None:
    for data in (LINES, PRETTY):
        found = list(chunks_of(one(write(tmp_path, b"\xef\xbb\xbf" + data))))
        problems = [problem for chunk in found for problem in chunk.problems]
        assert [(p.rule, p.line, p.column) for p in problems] == [("encoding-bom", 1, 1)]
        assert [json.loads(raw) for *_, raw in taken(found)] == RECORDS


def test_a_record_that_is_too_large_is_a_problem_and_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 2_000)
    monkeypatch.setattr(arrays, "MAX_RECORD_BYTES", 2_000)
    records = [*RECORDS[:3], {"instruction": "x" * 9_000, "output": "y"}, *RECORDS[3:]]
    text = [json.dumps(record, ensure_ascii=False) for record in records]
    for data in ("\n".join(text), "[" + ",\n".join(text) + "]"):
        found = list(chunks_of(one(write(tmp_path, data.encode()))))
        problems = [problem for chunk in found for problem in chunk.problems]
        assert [(p.rule, p.line, p.record) for p in problems] == [("too-large", 4, 3)]
        assert [json.loads(raw) for *_, raw in taken(found) if raw] == RECORDS
        assert len(taken(found)) == len(records)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"instruction":"a"},^]', None), ('[^,{"instruction":"a"}]', None), ('[{"instruction":"a"},^,{"instruction":"b"}]', None),
        ('[{"instruction":"a"} ^{"instruction":"b"}]', None), ('[{"instruction":"a"}^', None), ("[^", None),
        ('[{"instruction":"a"}]\n^[{"instruction":"b"}]', None), ('[{"instruction":"a"}]^x', None),
        ('[{"instruction":"a"}^x,{"instruction":"b"}]', 0), ('[{"instruction":"a^\n"},{"instruction":"b"}]', 0),
        ('[{"instruction":"a},{"^instruction":"b"},{"instruction":"c"}]', 0),
        ('[{"instruction":"a",^{"instruction":"b"}]', 0), ('[{"instruction":"a"},"instruction"^:"b"},{"instruction":"c"}]', 1),
        ('[{"instruction":"a" "output":"b"},{"instruction":"c"', 0),
    ],
)  # fmt: skip
def test_faults_of_an_array_are_reported_once_and_reading_goes_on(
    tmp_path: Path, text: str, place: int | None
) -> None:
    if "^" not in text:
        return
    at, data = text.index("^"), text.replace("^", "")
    found = list(chunks_of(one(write(tmp_path, data.encode()))))
    problem, *more = [problem for chunk in found for problem in chunk.problems]
    assert more == []
    assert (problem.line, problem.column) == (data[:at].count("\n") + 1, at - data.rfind("\n", 0, at))
    assert (problem.rule, problem.record) == ("syntax", place)
    good = [json.loads(raw)["instruction"] for *_, raw in taken(found) if raw]
    expected = [c for i, c in enumerate(x for x in "abc" if f'"{x}' in data) if i != place]
    assert good == expected


def test_partitions_of_a_damaged_array_read_as_the_whole_does(tmp_path: Path) -> None:
    for at in range(0, len(PRETTY), 97):
        source = one(write(tmp_path, PRETTY[:at] + b'"' + PRETTY[at:]))
        whole = taken(list(chunks_of(source)))
        parts, facts = partitions(source, 0, 200)
        assert taken([chunk for part in parts for chunk in chunks(part)]) == whole
        assert facts.records == len(whole)


def test_stdin_can_be_looked_at_first_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ARRAY)))
    source = one("-")
    assert (source.kind, source.name, source.one_shot) == ("array", "stdin", True)
    assert taken(list(first_chunks(source))) == taken(list(chunks_of(source)))


def test_stdin_is_cut_into_partitions_by_way_of_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(LINES))))
    source = one("-")
    with pytest.raises(YayiError, match="once only"):
        partitions(source, 0, 500)
    parts, facts = partitions(source, 0, 500, spool=tmp_path)
    assert facts.records == sum(len(chunk) for part in parts for chunk in chunks(part)) == 50


def test_inputs_are_files_folders_and_globs_in_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", "deep/c.json.gz", "deep/d.txt", ".cache/e.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, gzip.compress(LINES) if name.endswith("gz") else LINES, name)
    assert [s.name for s in open_sources([str(tmp_path)])] == ["a.jsonl", "b.json", "deep/c.json.gz"]
    assert [s.name for s in open_sources([str(tmp_path / "*.json*")])] == ["a.jsonl", "b.json"]
    assert [s.name for s in open_sources([str(tmp_path / "b.json")])] == ["b.json"]


@pytest.mark.parametrize(
    ("path", "said"),
    [("missing.json", "no such file"), ("", "an empty text"), ("*.nothing", "no file matches"), ("folder", "holds no .json"),
     ("memory://x/missing.json", "missing.json: cannot be"), ("nonsense://u:secret@h/x?t=secret", "nonsense://h/x: cannot be opened")],
)  # fmt: skip
def test_a_missing_input_is_told_and_no_secret_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YayiError, match=said) as raised:
        open_sources([path])
    assert "secret" not in str(raised.value)


def test_a_folder_inside_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    write(tmp_path, LINES)
    listed = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("closed"):  # no mode of a folder stops root
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(YayiError, match="closed: the folder cannot be read: Permission denied"):
        open_sources([str(tmp_path)])


def test_urls_are_read(tmp_path: Path) -> None:
    import fsspec

    with fsspec.open("memory://corpus/a.jsonl", "wb") as file:
        file.write(LINES)
    source = one("memory://corpus/a.jsonl")
    assert source.name == "memory://corpus/a.jsonl"
    found = partitions(source, 0, 500, spool=tmp_path)[0]
    assert len(found) > 1


def test_empty_and_blank_files_hold_no_records(tmp_path: Path) -> None:
    for data in (b"", b"\n \n", b"[]", b" [ ] \n"):
        source = one(write(tmp_path, data))
        assert taken(list(chunks_of(source))) == []
        assert partitions(source, 0)[1].records == 0


def test_a_partition_is_a_value_any_process_can_read() -> None:
    assert Partition.__dataclass_params__.frozen  # type: ignore[attr-defined]
