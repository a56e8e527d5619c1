"""What differs between two sets of data, as values and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something named that is one thing in A and another in B; None where it is absent."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Example:
    """A record or row that differs: where it stands in A and in B (one is None for added and removed).

    `figures` are numbers of it that differ, `texts` the text of either side.
    """

    kind: str
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    texts: tuple[str | None, str | None]
    figures: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs; `counts` has every kind of `unit`, `domains` the counts of A and of B by name.

    `uncompared` are the faults of A and of B whose bytes belong to no record that could be compared.
    """

    unit: Literal["records", "rows"]
    names: tuple[str, str]
    facts: list[Fact]
    counts: Counts
    reordered: bool
    domains: dict[str, tuple[Counts, Counts]]
    examples: list[Example]
    uncompared: tuple[int, int] = (0, 0)

    @property
    def same(self) -> bool:
        """Tell whether everything was compared, and nothing differs."""
        moved = any(count for kind, count in self.counts.items() if kind != "same")
        apart = any(a != b for a, b in self.domains.values())
        return not (self.facts or moved or self.reordered or apart or any(self.uncompared))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that scripts rely on."""
        return {
            "same": self.same,
            "a": self.names[0],
            "b": self.names[1],
            "facts": [asdict(fact) for fact in self.facts],
            self.unit: self.counts,
            "reordered": self.reordered,
            "uncompared": dict(zip("ab", self.uncompared, strict=True)),
            "domains": {name: {"a": a, "b": b} for name, (a, b) in self.domains.items()},
            "examples": [asdict(example) for example in self.examples],
        }
