"""Two packed folders: what they were made with, and the rows that were added, removed or made otherwise."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tokenizers
import xxhash
from numpy.typing import NDArray

from yayi_data.diff.match import Hashes, Keys, Numbers, match
from yayi_data.diff.result import Counts, Difference, Example, Fact
from yayi_data.index import INDEX, Index, open_index
from yayi_data.manifest import Manifest, load, read_listed
from yayi_data.shard import Shards, open_shard
from yayi_data.shard.columns import RowFacts
from yayi_data.verify import refuse_unsound

_LEAD = 24  # tokens shown before the first supervised one
_TOKENIZER = "tokenizer/tokenizer.json"
_OF_ROWS = (INDEX, "state.json", "dataset_info.json")  # files that differ where rows do


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    manifest: Manifest
    index: Index
    rows: RowFacts


def diff_folders(folders: tuple[Path, Path], names: tuple[str, str], examples: int) -> Difference:
    """Compare two packed folders, which the person calls `names`: their manifests, then their rows.

    Rows are the same where ids and mask are; `remasked` where the ids are and the mask is not. The rest is
    matched by its record in the source: `rerendered` where the source's bytes are the same, `changed` where
    only its name is.
    """
    first, second = map(_open, folders)
    matches = match(*_keys(first, second))
    masks = first.rows.mask_hash[matches.same[:, 0]] == second.rows.mask_hash[matches.same[:, 1]]
    kept = _shared_sources(first.manifest, second.manifest)
    rerendered = np.isin(first.rows.source[matches.changed[:, 0]], kept)
    pairs = {
        "remasked": matches.same[~masks],
        "rerendered": matches.changed[rerendered],
        "changed": matches.changed[~rerendered],
    }
    counts = {"same": int(masks.sum())} | {kind: len(found) for kind, found in pairs.items()}
    alone = {"removed": matches.removed, "added": matches.added}
    found = Difference(
        unit="rows",
        names=names,
        facts=list(_facts(first.manifest, second.manifest)),
        counts=counts | {kind: len(found) for kind, found in alone.items()},
        reordered=matches.reordered,
        domains=_domains(first.manifest, second.manifest),
        examples=list(_examples(first, second, {**pairs, **alone}, examples)),
    )
    digests = first.manifest.digest, second.manifest.digest
    if found.same and digests[0] != digests[1]:  # such as the lines that the same rows came from
        return replace(found, facts=[Fact("digest of the manifest", *digests)])
    return found


def _open(path: Path) -> _Folder:
    manifest = load(path)
    for file in manifest.files:
        if file.path != INDEX:  # which is checked as it is opened
            read_listed(path, manifest, file.path)
    index = open_index(path, manifest)
    refuse_unsound(path, manifest, index)
    Shards(path, manifest).fetch(range(len(manifest.shards)))
    shards = [open_shard(path, facts).row_facts() for facts in manifest.shards]
    rows = RowFacts(*map(np.concatenate, zip(*shards, strict=True)))
    return _Folder(path, manifest, index, rows)


def _keys(a: _Folder, b: _Folder) -> tuple[Keys, Keys]:
    """Return the hashes to match by: of the ids, and of the source with the number of the record in it.

    A source is known by its bytes where both folders have them, by its name elsewhere.
    """
    shared = {s.sha256 for s in a.manifest.sources} & {s.sha256 for s in b.manifest.sources}
    first, second = (Keys(side.index.content_hash, _positions(side, shared)) for side in (a, b))
    return first, second


def _positions(folder: _Folder, shared: set[str]) -> Hashes:
    names = [s.sha256 if s.sha256 in shared else s.name for s in folder.manifest.sources]
    seeds = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
    return seeds[folder.rows.source] + folder.rows.record.astype(np.uint64) * _ODD


_ODD = np.uint64(0x9E3779B97F4A7C15)


def _shared_sources(a: Manifest, b: Manifest) -> NDArray[np.intp]:
    """Return the sources of A whose bytes B has too."""
    known = {source.sha256 for source in b.sources}
    return np.flatnonzero([source.sha256 in known for source in a.sources])


def _facts(a: Manifest, b: Manifest) -> Iterator[Fact]:
    """Yield what the manifests say of how the folders were made, where they disagree."""
    first, second = _made_with(a), _made_with(b)
    for name in [*first, *(name for name in second if name not in first)]:
        if first.get(name) != second.get(name):
            yield Fact(name, first.get(name), second.get(name))


def _made_with(manifest: Manifest) -> dict[str, Any]:
    template, tokenizer = asdict(manifest.template), asdict(manifest.tokenizer)
    return {
        **{f"option {name}": value for name, value in manifest.options.items()},
        **{f"template {name}": value for name, value in template.items()},
        **{f"tokenizer {name}": value for name, value in tokenizer.items()},
        **{f"source {source.name}": source.sha256 for source in manifest.sources},
        **{f"file {file.path}": file.sha256 for file in manifest.files if file.path not in _OF_ROWS},
        **{f"dropped {reason}": count for reason, count in manifest.ledger.dropped.items()},
        "truncated": manifest.ledger.truncated,
        "order version": manifest.order_version,
        "tool": manifest.tool,
    }


def _domains(a: Manifest, b: Manifest) -> dict[str, tuple[Counts, Counts]]:
    first, second = ({n: asdict(c) for n, c in side.domains.items()} for side in (a, b))
    nothing = {"rows": 0, "tokens": 0, "supervised_tokens": 0}
    return {n: (first.get(n, nothing), second.get(n, nothing)) for n in sorted(first | second)}


def _examples(a: _Folder, b: _Folder, found: dict[str, Numbers], most: int) -> Iterator[Example]:
    first, second = _Side(a), _Side(b)
    for kind, numbers in found.items():
        for entry in numbers[:most].tolist():
            i, j = entry if isinstance(entry, list) else (entry, None)
            if kind == "added":
                i, j = None, entry
            figures = {n: (x, y) for n, x, y in _figures(first, second, i, j) if x != y}
            texts = first.text(i, alone=j is None), second.text(j, alone=i is None)
            yield Example(kind, first.place(i), second.place(j), texts, figures)


def _figures(a: "_Side", b: "_Side", i: int | None, j: int | None) -> Iterator[tuple[str, int, int]]:
    if i is not None and j is not None:
        yield "tokens", int(a.index.tokens[i]), int(b.index.tokens[j])
        yield "supervised", int(a.index.supervised_tokens[i]), int(b.index.supervised_tokens[j])


class _Side:
    """Shows single rows of a folder."""

    def __init__(self, folder: _Folder) -> None:
        self.folder, self.index = folder, folder.index
        self._shards = Shards(folder.path, folder.manifest)
        self._tokenizer: tokenizers.Tokenizer | None = None

    def place(self, i: int | None) -> dict[str, Any] | None:
        if i is None:
            return None
        rows = self.folder.rows
        source = self.folder.manifest.sources[int(rows.source[i])].name
        return {"row": i, "path": source, "line": int(rows.line[i]), "record": int(rows.record[i])}

    def text(self, i: int | None, *, alone: bool) -> str | None:
        """Return a row's text; of one that is shown alone without what many rows begin with."""
        if i is None:
            return None
        if self._tokenizer is None:
            data = read_listed(self.folder.path, self.folder.manifest, _TOKENIZER)
            self._tokenizer = tokenizers.Tokenizer.from_str(orjson.dumps(orjson.loads(data)).decode())
        row = self._shards.row(int(self.index.shard[i]), int(self.index.row[i]))
        start = max(0, int(row.mask.argmax()) - _LEAD) if alone else 0
        return self._tokenizer.decode(row.ids[start:].tolist(), skip_special_tokens=False)
