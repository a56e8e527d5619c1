"""What the rules find in one record that parses: exact and unhurried, for records that look suspicious."""

from typing import Any

from yayi_data.schema import explain
from yayi_data.validate import content, tags, turns
from yayi_data.validate.finding import Finding
from yayi_data.validate.ruleset import RuleSet
from yayi_data.validate.texts import TEXTS


def find(value: Any, dialect: str, rules: RuleSet, *, valid: bool = False) -> list[Finding]:
    """Return all findings in a parsed record; what needs a valid record is looked for in one only.

    `valid` tells that the schema is known to accept the record.
    """
    broken = [] if valid else [Finding(*violation) for violation in explain(dialect, value)]
    found = broken + list(content.unknown_members(value, dialect))
    if not broken:
        found += turns.out_of_place(value, dialect)
        texts = list(TEXTS[dialect](value))
        found += [finding for text in texts for finding in content.in_text(text, rules)]
        found += tags.misused(texts, rules.registry) if rules.registry else []
    return [finding for finding in found if finding.rule in rules.enabled]
