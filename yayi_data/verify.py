"""Compare a packed folder with its manifest: every byte, every count, and the index with its rows."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yayi_data.errors import DataError, YayiError
from yayi_data.finish import DROPPED, TOKENIZER
from yayi_data.index import Index, domain_counts, mapped, open_index
from yayi_data.manifest import MANIFEST, FileFacts, Manifest, ShardFacts, load
from yayi_data.shard import Shard

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; `file` is relative to the folder."""

    file: str
    message: str


def verify(folder: Path, progress: Progress | None = None) -> list[Finding]:
    """Return everything in which a packed folder differs from its manifest; an empty list means it is whole.

    `progress` is told the size in bytes of each file that was read. Any changed byte, a missing, truncated,
    swapped or extra file is found. Raises YayiError where there is no packed folder.
    """
    try:
        manifest = load(folder)
    except DataError as error:
        return [Finding(MANIFEST, str(error).removeprefix(f"{folder / MANIFEST}: "))]
    findings = list(_files(folder, manifest, progress or (lambda size: None)))
    if not findings:
        findings = list(_contents(folder, manifest))
    return [*findings, *_extra_files(folder, manifest), *_totals(manifest)]


def _listed(manifest: Manifest) -> dict[str, FileFacts]:
    shards = [FileFacts(shard.file, shard.bytes, shard.sha256) for shard in manifest.shards]
    return {file.path: file for file in [*shards, *manifest.files]}


def _files(folder: Path, manifest: Manifest, progress: Progress) -> Iterator[Finding]:
    """Find listed files whose bytes are missing or are not those that the manifest lists."""
    listed = _listed(manifest)
    for path in (DROPPED, f"{TOKENIZER}/tokenizer.json"):
        if path not in listed:
            yield Finding(path, "is not listed in the manifest; pack the data again")
    owner = {file.sha256: path for path, file in listed.items()}
    for path, facts in listed.items():
        if not (folder / path).exists():
            yield Finding(path, f"is missing; the manifest lists it with {facts.bytes} bytes")
            continue
        try:
            data = mapped(folder / path)
        except YayiError as error:
            yield Finding(path, str(error))
            continue
        sha256 = hashlib.sha256(data).hexdigest()
        progress(data.size)
        if sha256 in owner and sha256 != facts.sha256:
            yield Finding(path, f"has the content of {owner[sha256]}: the two were swapped or copied")
        elif data.size != facts.bytes:
            yield Finding(path, f"has {data.size} bytes, the manifest says {facts.bytes}")
        elif sha256 != facts.sha256:
            yield Finding(path, f"has the sha256 {sha256}, the manifest says {facts.sha256}")


def _extra_files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    listed = {MANIFEST, *_listed(manifest)}
    folders = {str(parent) for path in listed for parent in Path(path).parents}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and path.is_dir():
            yield Finding(name, "is a link to a folder, which may hold anything; put the folder itself here")
        elif name not in (folders if path.is_dir() else listed):
            yield Finding(name, "is not in the manifest; remove it")


def _contents(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Find disagreements between files that are each as the manifest lists them."""
    try:
        index = open_index(folder, manifest)
        start = 0
        for number, facts in enumerate(manifest.shards):
            shard = Shard(folder / facts.file, facts, checked=True)
            yield from _rows(shard, number, facts, index, start)
            yield from _bounds(shard, facts.file, manifest)
            start += facts.rows
    except DataError as error:
        yield Finding(MANIFEST, str(error))
        return
    yield from _drops(folder, manifest)
    yield from _domains(manifest, index)


def _rows(shard: Shard, number: int, facts: ShardFacts, index: Index, start: int) -> Iterator[Finding]:
    """Find the first row of a shard about which the index says something else."""
    part = shard.index_part()
    here = slice(start, start + facts.rows)
    names = np.array([*index.names, ""], object)[index.domain[here]]
    pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
        ("shard", np.full(facts.rows, number), index.shard[here]),
        ("row", np.arange(facts.rows), index.row[here]),
        ("tokens", part["tokens"].to_numpy(), index.tokens[here]),
        ("supervised tokens", part["supervised_tokens"].to_numpy(), index.supervised_tokens[here]),
        ("content hash", part["content_hash"].to_numpy(), index.content_hash[here]),
        ("domain", part["domain"].to_numpy(), names),
    ]
    for what, found, listed in pairs:
        wrong = np.flatnonzero(found != listed)
        if len(wrong):
            row = int(wrong[0])
            yield Finding(
                facts.file,
                f"row {row} has the {what} {found[row]}, the index says {listed[row]} ({len(wrong)} rows)",
            )


def _bounds(shard: Shard, file: str, manifest: Manifest) -> Iterator[Finding]:
    """Find token ids and sources that the manifest does not know."""
    token, source = shard.highest()
    if token >= manifest.tokenizer.vocabulary:
        yield Finding(
            file, f"has the token id {token}, the manifest's vocabulary {manifest.tokenizer.vocabulary} ids"
        )
    if source >= len(manifest.sources):
        yield Finding(
            file, f"has rows of source {source} (from 0), the manifest lists {len(manifest.sources)} sources"
        )


def _drops(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Find a list of drops that is not as long as the ledger says."""
    listed = (folder / DROPPED).read_bytes().count(b"\n")
    dropped = sum(manifest.ledger.dropped.values())
    if listed != dropped:
        yield Finding(DROPPED, f"lists {listed} records, the ledger says that {dropped} were dropped")


def refuse_unsound(folder: Path, manifest: Manifest, index: Index) -> None:
    """Raise DataError where the manifest's sums do not add up, or are not those of the index."""
    for finding in (*_totals(manifest), *_domains(manifest, index)):
        raise DataError(f"{folder / MANIFEST}: {finding.message}; it was changed: pack the data again")


def _domains(manifest: Manifest, index: Index) -> Iterator[Finding]:
    if domain_counts(index) != manifest.domains:
        yield Finding(MANIFEST, "its counts of the domains are not those of the index")


def _totals(manifest: Manifest) -> Iterator[Finding]:
    """Find sums in the manifest that do not add up."""
    for name in ("rows", "tokens", "supervised_tokens"):
        total = getattr(manifest, name)
        for parts, what in ((manifest.shards, "shards"), (manifest.domains.values(), "domains")):
            found = sum(getattr(part, name) for part in parts)
            if found != total:
                yield Finding(MANIFEST, f"says {total} {name}, its {what} have {found}")
    ledger = manifest.ledger
    records = sum(source.records for source in manifest.sources)
    if records != ledger.read and manifest.options.get("limit") is None:
        yield Finding(MANIFEST, f"says {ledger.read} records were read, its sources have {records}")
    if ledger.kept != manifest.rows or ledger.read != ledger.kept + sum(ledger.dropped.values()):
        dropped = sum(ledger.dropped.values())
        yield Finding(
            MANIFEST, f"its ledger does not add up: {ledger.read} read, {ledger.kept} kept, {dropped} dropped"
        )
