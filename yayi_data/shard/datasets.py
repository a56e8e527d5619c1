"""What the library `datasets` needs beside the shards."""

import hashlib
from collections.abc import Sequence
from typing import Any

from yayi_data.manifest import ShardFacts, canonical


def datasets_files(shards: Sequence[ShardFacts]) -> dict[str, bytes]:
    """Return the two small files, by name, that let `datasets.load_from_disk` open the folder."""
    fingerprint = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()[:16]
    state: dict[str, Any] = {
        "_data_files": [{"filename": shard.file} for shard in shards],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    return {"dataset_info.json": canonical({}), "state.json": canonical(state)}
