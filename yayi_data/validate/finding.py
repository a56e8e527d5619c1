"""One finding in a parsed record, before it has a place in the file."""

from typing import NamedTuple

from yayi_data.read.scan import Path


class Finding(NamedTuple):
    """A breach of a rule at a path; `at_key` places it at the member's key instead of its value."""

    rule: str
    path: Path
    message: str
    at_key: bool = False
