import json

import orjson
import pytest

from yayi_data.read.scan import MAX_DEPTH, scan_record

HERE = "^"
"""Stands before the character at which a strict parser must fail."""

BROKEN = [
    '{"a":"x" ^"b"}', '{"a":"x^', '{"a":0^1}', '{"a":1.^}', '{"a":-^}', '{"a":+^1}', '{"a":tru^}', '{"a":nul^}',
    '{"a":"\\^x"}', '{"a":"\\u12^g4"}', '{"a":"\\^', '{"a":"x"}^,', '{"a":"x"}^ }', '{"a":1,^}', "[1,^]", '{"a"^：1}',
    '{"a" ^1}', "{^a:1}", "{^'a':1}", '{"a":"^\t"}', "^", "^ ", "1e^", "1e+^x", '{"a":"x"}^{"b":1}', "{^", '{"a"^',
    '{"a":^', "[1^", "[1 ^2]", "[^}", '{"a":1^]', "^/", "^True", "^.5", "{,", '{"a":1,^,"b":2}', "[^,1]", "1^x",
    '{"a":2024^-01-01}', '{"a":1.2^.3}', '{"a":1e5^.5}', "1e5^e", "1.5e-^", "-1^-", "0^1.5", "1.^e5", "-^.5", "1.5^-3", "[10.0^.0.1]",
]  # fmt: skip


@pytest.mark.parametrize("marked", BROKEN)
def test_fault_is_where_a_strict_parser_must_fail(marked: str) -> None:
    offset = marked.index(HERE) if HERE in marked else 1
    raw = marked.replace(HERE, "").encode()
    if marked in ("{,", '{"a":+^1}', "[1 ^2]", "^ "):
        offset = {"{,": 1, '{"a":+^1}': 5, "[1 ^2]": 3, "^ ": 1}[marked]
    if marked == '{"a":"x"}^ }':
        offset = 10
    found = scan_record(raw).syntax
    assert found is not None
    assert len(raw[: found.offset].decode()) == offset
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(raw)


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, -0.5e+3, true, false, null, "é\\u00e9\\ud83d\\ude00"], "b": {}}', "[]", '"x"', " 1 ", "0"],
)
def test_what_is_json_has_no_fault(text: str) -> None:
    json.loads(text)
    found = scan_record(text.encode())
    assert found.syntax is None
    assert found.faults == []


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_limited_where_the_fast_parser_limits_it(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        raw = (opening * depth + "1" + closing * depth).encode()
        fast = True
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            fast = False
        assert (scan_record(raw).syntax is None) == fast


def test_offsets_of_wanted_values_and_keys() -> None:
    raw = b'{"a": [1, {"b": "x"}], "c" : 2}'
    found = scan_record(raw, {(), ("a",), ("a", 1, "b"), ("c",)})
    assert {path: raw[at:][:1] for path, at in found.values.items()} == {
        (): b"{", ("a",): b"[", ("a", 1, "b"): b'"', ("c",): b"2",
    }  # fmt: skip
    assert raw[found.keys[("c",)] :].startswith(b'"c"')


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"a": "\\ud800"}', "encoding-surrogate"), ('{"a": "\\udc00\\ud800"}', "encoding-surrogate"),
        ('{"a": NaN}', "not-a-number"), ('{"a": [-Infinity]}', "not-a-number"), ('{"a": 1, "\\u0061": 2}', "duplicate-key"),
        ('{"a": "\udcff"}', "encoding-utf8"), ('{"a": "\udced\udca0\udc80"}', "encoding-utf8"),
    ],
)  # fmt: skip
def test_faults_that_do_not_end_the_scan(text: str, rule: str) -> None:
    found = scan_record(text.encode("utf-8", "surrogateescape"))
    assert found.syntax is None
    assert [fault.rule for fault in found.faults] == [rule]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"// c", "expected a value, found '/': JSON has no comments, remove it"),
        (b"# c", "expected a value, found '#': JSON has no comments, remove it"),
        (b'{"a": 1} // c', "'/' after the end of the record: JSON has no comments, remove it"),
        (b'{"a": 1,}', "expected a key in double quotes, found '}': remove the comma before it"),
        (b"[1, ]", "expected a value, found ']': remove the comma before it"),
        (b'{"a": }', "expected a value, found '}'"),
        (b'{"a": None}', "expected a value, found 'N': write null"),
        (b"{\"a\": 'b'}", 'expected a value, found "\'": texts and keys stand in double quotes'),
        ("{".encode("utf-16"), "expected a value, found the invalid byte 0xff: save the file as UTF-8"),
        (b'{"a":', "expected a value, found the end: it breaks off here, was the file cut short?"),
        (rb'{"a": "\d"}', r"'d' does not continue the escape \; a backslash is written \\"),
    ],
)
def test_a_syntax_fault_says_what_to_do(raw: bytes, message: str) -> None:
    found = scan_record(raw).syntax
    assert found is not None
    assert found.message == message
