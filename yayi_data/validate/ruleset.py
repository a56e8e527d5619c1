"""Which rules run, and what they look for."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from yayi_data.domains import Registry
from yayi_data.errors import YayiError
from yayi_data.rules import ERROR_RULES, RULES

YAYI_TOKENS = ("<|System|>", "<|Human|>", "<|YaYi|>", "<|End|>")

DOMAIN_RULES = frozenset(["tag-malformed", "tag-unknown", "tag-reply", "tag-several"])
REPEAT_RULES = frozenset(["duplicate-record", "conflicting-reply"])


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The enabled rules, the control tokens that no text should hold, and the domain tags that are known.

    Without a registry the rules for domain tags are silent.
    """

    enabled: frozenset[str] = frozenset(RULES)
    control_tokens: tuple[str, ...] = YAYI_TOKENS
    registry: Registry | None = None

    @classmethod
    def errors_only(cls) -> "RuleSet":
        """Return the rules whose breach leaves a record unusable: what `pack` asks for."""
        return cls(ERROR_RULES)

    @property
    def warns(self) -> bool:
        """Tell whether any rule looks at what the texts say."""
        return not self.enabled <= ERROR_RULES


def selected(select: Sequence[str], ignore: Sequence[str]) -> frozenset[str]:
    """Return the rules that remain: those selected (all, where none is), less those ignored.

    A name is a rule's id or the first word of several (`schema`, `role`, `tag`). Raises YayiError for others.
    """
    chosen = frozenset(RULES) if not select else _named(select)
    return chosen - _named(ignore)


def _named(names: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        matching = [rule for rule in RULES if rule == name or rule.startswith(f"{name}-")]
        if not matching:
            near = difflib.get_close_matches(name, RULES, 1)
            hint = f"did you mean {near[0]}?" if near else "yayi-data rules lists them"
            raise YayiError(f"unknown rule {name!r}: {hint}")
        found.update(matching)
    return frozenset(found)
