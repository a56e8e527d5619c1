"""What a run would do and need, told without loading weights."""

from typing import Any

import numpy as np

from yayi_train.config import Config
from yayi_train.data import Corpus, Layout
from yayi_train.skeleton import parameters
from yayi_train.start import Start
from yayi_train.vocabulary import Vocabulary

GB = 1e9
_BYTES = {"fp32": (4, 4, 8), "bf16": (2, 2, 12), "fp16": (2, 2, 12)}
"""Bytes of a trained parameter: weight, gradient, optimizer (with an fp32 copy where halved)."""


def plan_of(start: Start) -> dict[str, Any]:
    """Return the facts of a run: steps, rows, tokens, utilisation of the rows, conversations per step."""
    corpus, layout, data = start.corpus, start.layout, start.config.data
    index = corpus.index
    batches = start.order.epoch(0)
    rows = [row for batch in batches for row in batch]
    entries = np.concatenate(rows)
    tokens = int(index.tokens[entries].sum())
    padded = sum(_padded(corpus, batch, layout) for batch in batches)
    held = len(rows) * data.seq_len if data.packing else padded
    return {
        "processes": layout.world_size,
        "rows_per_process": layout.rows,
        "accumulation": layout.accumulation,
        "steps": start.file.total_steps,
        "steps_per_epoch": len(batches),
        "rows_per_epoch": len(rows),
        "conversations_per_epoch": len(entries),
        "conversations_per_step": round(len(entries) / len(batches), 1),
        "tokens_per_epoch": tokens,
        "supervised_tokens_per_epoch": int(index.supervised_tokens[entries].sum()),
        "utilisation": round(tokens / held, 4),
        "test_conversations": len(corpus.test),
    }


def _padded(corpus: Corpus, batch: list[Any], layout: Layout) -> int:
    """Return the positions of a batch of single conversations, each forward pass padded to its longest."""
    lengths = [int(corpus.index.tokens[row].sum()) for row in batch]
    cuts = range(0, len(lengths), layout.rows)
    return sum(max(part) * len(part) for part in (lengths[i : i + layout.rows] for i in cuts))


def memory_by_stage(config: Config, vocabulary: Vocabulary, world_size: int) -> dict[str, float]:
    """Return the estimated GB per GPU for weights, gradients and optimizer at ZeRO 0 to 3."""
    total, trained = parameters(config, vocabulary)
    weight, gradient, optimizer = _BYTES[config.model.precision]
    offloaded = bool(config.deepspeed["zero_optimization"].get("offload_optimizer"))

    def held(stage: int) -> float:
        shares = [world_size if stage >= least else 1 for least in (3, 2, 1)]
        states = 0 if offloaded and stage > 0 else optimizer * trained / shares[2]
        return weight * total / shares[0] + gradient * trained / shares[1] + states

    return {f"zero{stage}": round(held(stage) / GB, 3) for stage in range(4)}


def as_text(facts: dict[str, Any], memory: dict[str, float]) -> str:
    """Return the facts as aligned lines."""
    lines = [f"{name.replace('_', ' '):<28} {value:>14,}" for name, value in facts.items()]
    estimates = "  ".join(f"{stage} {size:,.3f}" for stage, size in memory.items())
    return "\n".join([*lines, f"GB per GPU, activations apart:  {estimates}"])
