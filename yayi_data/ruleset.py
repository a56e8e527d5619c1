"""Which rules run, and what they look for."""

from dataclasses import dataclass

from yayi_data.domains import Registry
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
