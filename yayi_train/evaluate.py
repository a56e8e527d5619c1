"""The loss over a set of rows, in all and per domain."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from yayi_train.batch import Batch
from yayi_train.data import Corpus, Entries, Layout, passes
from yayi_train.feed import read_batch
from yayi_train.loss import SupervisedLoss, supervised_loss
from yayi_train.metrics import Totals

Inputs = Callable[[Batch], dict[str, Any]]
"""What makes a batch's forward arguments: `attention.isolate(model)`, or `attention.plain`."""


def evaluate(model: Any, inputs: Inputs, corpus: Corpus, rows: Sequence[Entries], eval_rows: int) -> Totals:
    """Return the totals over rows of the corpus; all ranks take part and get the same."""
    device = model.device  # that of its parameters may be the CPU, where ZeRO-3 offloads them
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    layout = Layout(ranks, eval_rows, -(-len(rows) // (eval_rows * ranks)))
    sums = torch.zeros(2, len(corpus.index.names), dtype=torch.float64, device=device)
    model.eval()
    with torch.no_grad():
        for part in passes(rows, layout, rank):
            batch = read_batch(corpus, part, device)
            add_by_domain(sums, supervised_loss(model, batch, inputs(batch)))
    model.train()
    if ranks > 1:
        dist.all_reduce(sums)
    losses, supervised = sums.cpu().numpy()
    tokens = int(corpus.index.tokens[np.concatenate(rows)].sum())
    return Totals(losses, supervised, tokens)


def add_by_domain(sums: Tensor, loss: SupervisedLoss) -> None:
    """Add a batch's losses and its number of supervised tokens to `sums` (2, domains), in float64."""
    domains = loss.domains.long()
    sums[0].index_add_(0, domains, loss.token_losses.detach().double())
    sums[1] += torch.bincount(domains, minlength=sums.shape[1])


def eval_line(step: int, totals: Totals, names: list[str]) -> dict[str, Any]:
    """Return the line of metrics.jsonl for an evaluation."""
    return {"step": step, "eval_loss": totals.loss, "eval_loss_by_domain": totals.by_domain(names)}
