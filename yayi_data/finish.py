"""The end of a pack: the units of all partitions become one folder, the manifest last."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from yayi_data import manifest
from yayi_data.atomic import fsync_path, write_atomically, writing
from yayi_data.errors import DataError
from yayi_data.index import INDEX, domain_counts, merge_index, read_index
from yayi_data.manifest import MANIFEST, FileFacts, Ledger, Manifest
from yayi_data.partition import Unit, drops_file
from yayi_data.remote.urls import bare
from yayi_data.shard.datasets import datasets_files
from yayi_data.shard.write import index_part
from yayi_data.tokenizer import Tokenizer

TOKENIZER = "tokenizer"
DROPPED = "dropped.jsonl"


class Limits(NamedTuple):
    """How large a share of the records of `paths` may be dropped; None is any."""

    paths: tuple[str, ...]
    max_drop: float | None


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> list[FileFacts]:
    """Write the tokenizer into the folder, to the disk, and return its files."""
    with writing(folder / TOKENIZER):
        (folder / TOKENIZER).mkdir(exist_ok=True)
        tokenizer.write(folder / TOKENIZER)
        for path in (folder / TOKENIZER).iterdir():
            fsync_path(path)
    return [manifest.file_facts(folder, f"{TOKENIZER}/{name}") for name in tokenizer.files]


def finish(
    folder: Path, facts: Manifest, units: Sequence[Unit], tokenizer: Sequence[FileFacts], limits: Limits
) -> Manifest:
    """Put the units together: index, drops, what `datasets` needs; then the manifest, which comes last.

    The files of the tokenizer are there already.

    Raises DataError where nothing is left or more was dropped than is allowed.
    """
    ledger = add_up(units)
    refuse_losses(ledger, limits)
    paths = [folder / unit.shard.file for unit in units]
    merge_index([index_part(path) for path in paths], folder / INDEX)
    write_atomically(folder / DROPPED, b"".join(drops_file(path).read_bytes() for path in paths))
    described = datasets_files([unit.shard for unit in units])
    for name, content in described.items():
        write_atomically(folder / name, content)
    others = [manifest.file_facts(folder, name) for name in (INDEX, DROPPED, *described)]
    files = sorted([*others, *tokenizer], key=lambda file: file.path)
    whole = replace(_whole(folder, facts, units), ledger=ledger, files=files)
    manifest.write(folder, whole)
    clear(folder, whole)
    return whole


def clear(folder: Path, whole: Manifest) -> None:
    """Remove what the manifest does not list: marks of wholeness, parts of the index, scraps."""
    listed = {MANIFEST, *(shard.file for shard in whole.shards), *(file.path for file in whole.files)}
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in listed:
            path.unlink(missing_ok=True)


def add_up(units: Sequence[Unit]) -> Ledger:
    """Return where the records of all units went."""
    dropped: Counter[str] = Counter()
    for unit in units:
        dropped.update(unit.dropped)
    kept = sum(unit.shard.rows for unit in units)
    truncated = sum(unit.truncated for unit in units)
    return Ledger(sum(unit.read for unit in units), kept, dict(sorted(dropped.items())), truncated)


def refuse_losses(ledger: Ledger, limits: Limits) -> None:
    """Raise DataError where nothing is left, or more was dropped than --max-drop allows."""
    lost = ledger.read - ledger.kept
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.dropped.items())
    if not ledger.kept:
        found = (
            f"all {ledger.read} records were dropped ({reasons})" if ledger.read else "there are no records"
        )
        raise DataError(f"{' '.join(map(bare, limits.paths))}: {found}; nothing was written")
    if limits.max_drop is not None and lost > limits.max_drop * ledger.read:
        raise DataError(
            f"{lost} of {ledger.read} records ({lost / ledger.read:.2%}) were dropped ({reasons}), "
            f"--max-drop allows {limits.max_drop:.2%}; nothing was written; "
            "yayi-data validate shows what is wrong"
        )


def _whole(folder: Path, facts: Manifest, units: Sequence[Unit]) -> Manifest:
    """Return the manifest with what the units add up to."""
    shards = [unit.shard for unit in units]
    return replace(
        facts,
        domains=domain_counts(read_index(folder / INDEX)),
        rows=sum(shard.rows for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        supervised_tokens=sum(shard.supervised_tokens for shard in shards),
        straddling_tokens=sum(unit.straddling for unit in units),
        shards=shards,
    )
