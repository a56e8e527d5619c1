"""Domain tags such as 【媒宣领域任务】: the registry of known wordings; finding, adding and removing a tag.

A tag's wording does not follow from its domain's name, so the registry is data: `domains.toml`, which a
user's file extends.
"""

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import orjson

from yayi_data.errors import YayiError
from yayi_data.types import Conversation

GENERAL = "general"
"""The domain of a conversation without a tag."""

# Bracketed text longer than this is a sentence, not a tag.
_TAG = re.compile(r"【([^【】\r\n]{1,32})】")

# Every wording ends alike (领域任务), so only one character in six may differ before a hint misleads.
_NEAR = 0.8


class Tag(NamedTuple):
    """A tag at the start of a text: what stands between the brackets, and the offset behind them."""

    name: str
    end: int


@dataclass(frozen=True, slots=True)
class Registry:
    """The known domains: each with its wordings, the first of which is the one that is written."""

    domains: Mapping[str, tuple[str, ...]]
    domain_by_wording: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The sha256 of which wording belongs to which domain."""
        return hashlib.sha256(orjson.dumps(self.domain_by_wording, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def domain_of(self, conversation: Conversation) -> str:
        """Return the conversation's domain: of its tag, `general` without one, an unknown tag's own text."""
        text = _first_user_text(conversation)
        if not text.startswith("【"):
            return GENERAL
        end = text.find("】")
        if end > 0 and (known := self.domain_by_wording.get(text[1:end])):
            return known  # nearly every tag, in a third of the time that parsing takes
        tag = self.parse(text)
        return self.domain_by_wording.get(tag.name, tag.name) if tag else GENERAL

    def parse(self, text: str) -> Tag | None:
        """Find the tag at the very start of a text; None where there is none, or its brackets hold no tag."""
        match = _TAG.match(text)
        name = match[1].strip() if match else ""
        return Tag(name, match.end()) if match and name else None

    def knows(self, name: str) -> bool:
        """Tell whether a tag's name is a known wording."""
        return name in self.domain_by_wording

    def nearest(self, name: str) -> str | None:
        """Return the known wording that an unknown one was probably meant to be."""
        return next(iter(difflib.get_close_matches(name, self.domain_by_wording, 1, _NEAR)), None)

    def add(self, text: str, domain: str) -> str:
        """Put the domain's tag before a text; a tag of that domain in another wording is rewritten to it.

        A tag of another domain, or an unknown one, stays as it is.
        """
        written = f"【{self.domains[self.find(domain)][0]}】"
        tag = self.parse(text)
        if tag is None:
            return written + text
        if self.domain_by_wording.get(tag.name) == self.find(domain):
            return written + text[tag.end :]
        return text

    def strip(self, text: str) -> str:
        """Remove a known tag from the start of a text; what the registry lacks may be text, and stays."""
        tag = self.parse(text)
        return text[tag.end :] if tag and self.knows(tag.name) else text

    def find(self, name: str) -> str:
        """Return the domain for its name or one of its wordings; raise YayiError where there is none."""
        if name in self.domains:
            return name
        if name in self.domain_by_wording:
            return self.domain_by_wording[name]
        raise YayiError(
            f"unknown domain {name!r}: expected one of {', '.join(self.domains)}, or one of a --domains file"
        )


def load_registry(path: str | None = None) -> Registry:
    """Load the registry of the package, extended by the user's file where one is given.

    A domain that the file names again keeps its wordings, after the new ones; a wording that the file
    gives to another domain moves there.
    """
    shipped = resources.files("yayi_data").joinpath("domains.toml").read_text(encoding="utf-8")
    domains = _domains(shipped, "domains.toml")
    if path is not None:
        domains = _extend(domains, _domains(_read(path), path))
    return Registry(domains, {wording: name for name, wordings in domains.items() for wording in wordings})


def _extend(known: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    given = {wording for wordings in new.values() for wording in wordings}
    rest = {name: tuple(w for w in wordings if w not in given) for name, wordings in known.items()}
    merged = {name: new.get(name, ()) + rest.get(name, ()) for name in known | new}
    return {name: wordings for name, wordings in merged.items() if wordings}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise YayiError(f"{path}: cannot read the domain file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YayiError(f"{path}: cannot read the domain file: it is not UTF-8: save it as UTF-8") from error


def _domains(text: str, path: str) -> dict[str, tuple[str, ...]]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise YayiError(f"{path}: not valid TOML: {error}") from error
    domains = {name: _wordings(name, table, path) for name, table in tables.items()}
    owners: dict[str, str] = {}
    for name, wordings in domains.items():
        for wording in wordings:
            if owners.setdefault(wording, name) != name:
                raise YayiError(
                    f"{path}: the tag 【{wording}】 stands under {owners[wording]} and {name}: keep one"
                )
    return domains


def _wordings(name: str, table: object, path: str) -> tuple[str, ...]:
    if name == GENERAL:
        raise YayiError(f"{path}: {GENERAL!r} is the name of conversations without a tag: choose another")
    tags = table.get("tags") if isinstance(table, dict) and len(table) == 1 else None
    if not isinstance(tags, list) or not tags:
        raise YayiError(
            f'{path}: domain {name}: expected tags = ["…"] with at least one tag, and nothing else'
        )
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(f"【{tag}】") or tag != tag.strip():
            raise YayiError(
                f"{path}: domain {name}: the tag {tag!r} must be one line of 1 to 32 characters, "
                "without 【, 】 and surrounding spaces"
            )
    return tuple(dict.fromkeys(tags))


def _first_user_text(conversation: Conversation) -> str:
    turns = conversation.turns
    if turns and turns[0].role == "user":
        return turns[0].text
    return next((turn.text for turn in turns if turn.role == "user"), "")
