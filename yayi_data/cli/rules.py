"""`yayi-data rules`."""

import difflib
import sys
from typing import Annotated

import typer


def rules(
    rule: Annotated[str | None, typer.Argument(metavar="[RULE]", help="Explain this one.")] = None,
) -> int:
    """List the rules of validate, or explain one with a bad and a good record.

    Example: yayi-data rules duplicate-key
    """
    from yayi_data.errors import YayiError
    from yayi_data.report.text import rule_page, rule_table
    from yayi_data.rules import RULES

    if rule is not None and rule not in RULES:
        near = difflib.get_close_matches(rule, RULES, 1)
        hint = f"did you mean {near[0]}?" if near else "yayi-data rules lists them"
        raise YayiError(f"unknown rule {rule!r}: {hint}")
    sys.stdout.write(rule_table() if rule is None else rule_page(rule))
    return 0
