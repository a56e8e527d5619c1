import json
import re
from pathlib import Path

import pytest

from yayi_data.checking import ValidateOptions, validate_paths
from yayi_data.errors import YayiError
from yayi_data.rules import ERROR_RULES, RULES
from yayi_data.validate.ruleset import selected

NOT_A_RECORD = {"too-large", "compression"}


def found(path: Path, example: str) -> set[str]:
    """Return the rules that an example breaks; \\xNN and \\ufeff in it are meant as that byte and character."""
    raw = re.sub(r"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]).decode("latin-1"), example)
    data = raw.encode("latin-1") if raw != example and "GBK" in raw else example.encode()
    path.write_bytes(data.replace(b"\\ufeff", "\ufeff".encode()))
    return set(validate_paths(ValidateOptions((str(path),), workers=1)).counts)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NOT_A_RECORD])
def test_bad_example_breaks_its_rule_and_good_one_none(rule: str, tmp_path: Path) -> None:
    if rule == "encoding-utf8":
        bad = RULES[rule].bad.encode().replace(b"\\xc4\\xe3\\xba\\xc3", b"\xc4\xe3\xba\xc3")
        (tmp_path / "bad.jsonl").write_bytes(bad)
        assert set(validate_paths(ValidateOptions((str(tmp_path / "bad.jsonl"),), workers=1)).counts) == {
            rule
        }
    else:
        assert found(tmp_path / "bad.jsonl", RULES[rule].bad) == {rule}
    assert found(tmp_path / "good.jsonl", RULES[rule].good) == set()


def test_errors_are_what_breaks_structure() -> None:
    warnings = set(RULES) - ERROR_RULES
    assert {rule.split("-")[0] for rule in warnings} == {
        "unknown", "blank", "control", "tag", "duplicate", "conflicting", "replacement", "mojibake"
    }  # fmt: skip


def test_rules_are_selected_by_id_or_by_first_word() -> None:
    assert selected(["schema"], ["schema-empty"]) == {"schema-missing", "schema-type", "schema-value"}
    assert selected([], []) == set(RULES)
    assert "syntax" not in selected([], ["syntax"])
    with pytest.raises(YayiError, match="did you mean duplicate-key"):
        selected(["duplicate-keys"], [])


def test_examples_are_records_but_for_their_fault() -> None:
    for rule in RULES.values():
        if rule.id not in NOT_A_RECORD:
            for line in rule.good.splitlines():
                json.loads(line)
