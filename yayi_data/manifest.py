"""The manifest of a packed folder: what the folder holds, byte for byte, and what it was made from.

Nothing of time, place or manner of the run stands in it: the same input and options give the same bytes.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from yayi_data import __version__
from yayi_data.atomic import write_atomically
from yayi_data.errors import DataError, YayiError
from yayi_data.schema import load_schema

MANIFEST = "manifest.json"
FORMAT = "yayi-packed"
VERSION = 1


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One input; `bytes` and `sha256` are of the file as it is stored, compressed or not."""

    name: str
    bytes: int
    sha256: str
    records: int
    dialect: str


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """The template that rendered the conversations."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """The tokenizer that made the ids; `vocabulary` is the number of ids, control tokens included."""

    fingerprint: str
    control_ids: dict[str, int]
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every record went: `read` = `kept` + the sum of `dropped` (by reason).

    Of those kept, `truncated` lost exchanges at their end.
    """

    read: int
    kept: int
    dropped: dict[str, int]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of something there is."""

    rows: int
    tokens: int
    supervised_tokens: int


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """One shard as it was written."""

    file: str
    rows: int
    tokens: int
    supervised_tokens: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file beside the shards; `path` is relative to the folder, with forward slashes."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The facts of a packed folder, as schemas/manifest.schema.json describes them."""

    sources: list[SourceFacts]
    options: dict[str, Any]
    template: TemplateFacts
    tokenizer: TokenizerFacts
    ledger: Ledger
    domains: dict[str, Counts]
    rows: int
    tokens: int
    supervised_tokens: int
    straddling_tokens: int
    shards: list[ShardFacts]
    files: list[FileFacts]
    order_version: int
    format: str = FORMAT
    version: int = VERSION
    tool: str = f"yayi-data {__version__}"
    digest: str = field(default="", compare=False)

    def to_bytes(self) -> bytes:
        """Return the manifest's file: canonical JSON with the digest of its own content."""
        content = orjson.loads(orjson.dumps(self))
        return canonical(content | {"digest": digest_of(content)})


def canonical(value: Any) -> bytes:
    """Return a JSON value in the one form we write: keys sorted, indented by two, UTF-8, a last newline."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options)


def digest_of(content: dict[str, Any]) -> str:
    """Return the sha256 of a manifest's canonical bytes, its own `digest` member left out."""
    return hashlib.sha256(canonical({k: v for k, v in content.items() if k != "digest"})).hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder`: the last file, which makes it a packed folder."""
    write_atomically(folder / MANIFEST, manifest.to_bytes())


def file_facts(folder: Path, path: str) -> FileFacts:
    """Read the file at `path` in `folder` once and return its size and hash."""
    with (folder / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFacts(path, file.tell(), sha256)


def listed(manifest: Manifest, path: str) -> FileFacts:
    """Return what the manifest says of a file beside the shards; DataError where it lists none."""
    for facts in manifest.files:
        if facts.path == path:
            return facts
    raise DataError(f"{MANIFEST}: lists no {path}; pack the data again")


def read_listed(folder: Path, manifest: Manifest, path: str) -> bytes:
    """Return the bytes of one of the files beside the shards, checked against the manifest."""
    facts = listed(manifest, path)
    refuse_resized(folder / path, facts.bytes)
    data = (folder / path).read_bytes()
    refuse_changed(folder / path, data, facts.bytes, facts.sha256)
    return data


def refuse_changed(path: Path, data: Any, size: int, sha256: str) -> None:
    """Raise DataError unless the file's `data` (any buffer) are the bytes that the manifest lists."""
    found = memoryview(data).nbytes
    if found != size:
        raise DataError(_changed(path, f"has {found} bytes", size))
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise DataError(_changed(path, f"has the sha256 {digest}", sha256))


def refuse_resized(path: Path, size: int) -> None:
    """Raise DataError unless the file is there and as large as the manifest says; its content is not read."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(_changed(path, f"cannot be read ({error.strerror})", f"{size} bytes")) from error
    if found != size:
        raise DataError(_changed(path, f"has {found} bytes", size))


def _changed(path: Path, found: str, expected: object) -> str:
    folder = next((parent for parent in path.parents if (parent / MANIFEST).exists()), path.parent)
    next_step = f"see `yayi-data verify {folder}`, then pack again"
    return f"{path}: {found}, the manifest says {expected}; {next_step}"


def load(folder: Path) -> Manifest:
    """Return the manifest of `folder`, checked against its schema and its digest.

    Raises YayiError where there is no packed folder or a newer one, DataError where the manifest is damaged.
    """
    return parse(_read(folder), str(folder / MANIFEST))


def parse(data: bytes, place: str) -> Manifest:
    """Return the manifest whose file's bytes are `data`; `place` names it in the errors, those of `load`."""
    try:
        content = orjson.loads(data)
    except ValueError as error:
        raise DataError(f"{place}: is not JSON ({error}); it was changed: pack the data again") from None
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise YayiError(
            f"{place}: has version {version}, this yayi-data reads up to {VERSION}; install a newer one"
        )
    fault = next(iter(_schema().iter_errors(content)), None)
    if fault is not None:
        pointer = "/".join(["", *map(str, fault.instance_path)]) or "/"
        raise DataError(f"{place}: {pointer} {fault.message[:200]}; it was changed: pack the data again")
    digest = digest_of(content)
    if content["digest"] != digest or data != canonical(content):
        raise DataError(
            f"{place}: its digest is {content['digest']}, its content's is {digest} (in canonical form); "
            "it was changed after packing: pack the data again"
        )
    manifest = from_json(content)
    names = [MANIFEST, *(shard.file for shard in manifest.shards), *(file.path for file in manifest.files)]
    if len(set(names)) < len(names):
        raise DataError(f"{place}: lists a file twice; pack the data again")
    return manifest


def _read(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise YayiError(f"{folder / MANIFEST}: cannot be read: {error.strerror}") from error
    if not folder.exists():
        raise YayiError(f"{folder}: there is no such folder; `yayi-data pack --output {folder}` makes one")
    raise YayiError(
        f"{folder}: holds no {MANIFEST}, so it is not a packed folder; make one with `yayi-data pack`"
    )


@cache
def _schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(load_schema("manifest"))


def from_json(content: dict[str, Any]) -> Manifest:
    """Return the manifest that a JSON object describes, unchecked."""
    made = {
        "sources": [SourceFacts(**entry) for entry in content["sources"]],
        "template": TemplateFacts(**content["template"]),
        "tokenizer": TokenizerFacts(**content["tokenizer"]),
        "ledger": Ledger(**content["ledger"]),
        "domains": {name: Counts(**counts) for name, counts in content["domains"].items()},
        "shards": [ShardFacts(**entry) for entry in content["shards"]],
        "files": [FileFacts(**entry) for entry in content["files"]],
    }
    return Manifest(**(content | made))
