"""Cross entropy over supervised tokens only: the head sees nothing else, a chunk of it at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from yayi_data.errors import YayiError
from yayi_train.attention import Inputs, base_model
from yayi_train.batch import IGNORE, Batch

CHUNK_LOGITS = 2**25
"""Logits in memory at once: 128 MB in fp32, which is 133 positions of a 250,880-row head."""

_AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Config entries of models that compute on their logits after the head."""


class SupervisedLoss(NamedTuple):
    """The summed loss of a batch, to be divided by the supervised tokens of the global batch.

    `sum` is an fp32 scalar with gradient; `token_losses` (fp32, no gradient) and `domains` have one entry a
    supervised label.
    """

    sum: Tensor
    token_losses: Tensor
    domains: Tensor


def supervised_loss(model: nn.Module, batch: Batch, inputs: Inputs) -> SupervisedLoss:
    """Run the model on a batch and return the summed cross entropy of its supervised labels.

    `model` may be wrapped (PEFT, a DeepSpeed engine); `inputs` is what `isolate(model)` or `plain` made of
    the batch. A batch without supervised labels gives a sum of 0 that still backpropagates, so that every
    rank joins every collective.
    """
    base = base_model(model)
    check_head(base)
    selected = batch.labels != IGNORE
    labels = batch.labels[selected]
    with _head_that_sums(base.get_output_embeddings(), selected, labels) as losses:
        total: Tensor = model(input_ids=batch.input_ids, **inputs).logits
    (token_losses,) = losses
    return SupervisedLoss(total, token_losses, batch.domains[selected])


def check_head(model: Any) -> None:
    """Raise YayiError for a transformers model that computes on its logits after the head."""
    altered = [name for name in _AFTER_HEAD if getattr(model.config, name, None) not in (None, 1.0)]
    if altered:
        raise YayiError(
            f"a {model.config.model_type!r} model changes its logits after the head ({altered[0]}), "
            "which the supervised loss does not follow: this architecture cannot be trained"
        )


@contextmanager
def _head_that_sums(head: nn.Module, selected: Tensor, labels: Tensor) -> Iterator[list[Tensor]]:
    """Make the head answer hidden states (rows, length, size) with their summed loss; list the token losses.

    It stays the module that the model calls, so that the hooks by which ZeRO-3 gathers its weight still run.
    """
    losses: list[Tensor] = []
    original = head.__dict__.get("forward")

    def forward(hidden: Tensor) -> Tensor:
        inputs: tuple[Tensor | None, ...] = (hidden[selected], labels, *_parameters(head))
        if not torch.is_grad_enabled():  # torch still says that gradients are needed
            inputs = tuple(None if one is None else one.detach() for one in inputs)
        total, token_losses = _summed_loss(*inputs)
        losses.append(token_losses)
        return total

    head.forward = forward
    try:
        yield losses
    finally:
        del head.forward
        if original is not None:
            head.forward = original


def _parameters(head: Any) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return a head's weight and bias, and the rows that PEFT trains in their place, with their ids."""
    adapter = getattr(head, "token_adapter", None)
    if adapter is None:
        return head.weight, getattr(head, "bias", None), None, None
    base = adapter.base_layer
    (name,) = adapter.active_adapters
    ids = torch.tensor(adapter.token_indices[name], device=base.weight.device)
    return base.weight, getattr(base, "bias", None), adapter.trainable_tokens_delta[name], ids


class _SummedLoss(torch.autograd.Function):
    """Summed cross entropy of hidden states (n, size) against labels (n,), gradients made in the forward.

    A chunk's logits give its losses and, at once, their gradients, so logits are neither kept nor computed
    twice. The gradients are those of the sum; backward multiplies them by what it is given, once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        labels: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor | None,
        ids: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, labels, weight, bias, rows, ids)]
        hidden = hidden.to(weight.dtype)
        rows = None if rows is None else rows.to(weight.dtype)
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        inputs = (hidden, labels, weight, bias, rows, ids)
        ctx.sums = [
            torch.zeros_like(t, dtype=torch.float32) if needed and t is not None else None
            for t, needed in zip(inputs, ctx.needs_input_grad, strict=True)
        ]
        step = max(1, CHUNK_LOGITS // len(weight))
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            log_p = _log_probabilities(hidden[part], weight, bias, rows, ids)
            losses[part] = -log_p.gather(1, labels[part, None]).squeeze(1)
            if any(ctx.needs_input_grad):
                slopes = log_p.exp_()
                slopes.scatter_add_(1, labels[part, None], slopes.new_full((len(slopes), 1), -1))
                _add_gradients(ctx.sums, part, slopes.to(weight.dtype), (hidden[part], weight, rows, ids))
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        sums, ctx.sums = ctx.sums, None
        return tuple(
            None if total is None else total.mul_(gradient).to(dtype)
            for total, dtype in zip(sums, ctx.dtypes, strict=True)
        )


_summed_loss = cast("Callable[..., tuple[Tensor, Tensor]]", _SummedLoss.apply)


def _log_probabilities(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor | None, ids: Tensor | None
) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if rows is not None and ids is not None:
        logits[:, ids] = hidden @ rows.T
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


def _add_gradients(
    sums: list[Tensor | None],
    part: slice,
    slopes: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
) -> None:
    """Add a chunk's share to the gradients, from the slopes of its loss by its logits."""
    of_hidden, _, of_weight, of_bias, of_rows, _ = sums
    hidden, weight, rows, ids = inputs
    if rows is not None and ids is not None:
        of_replaced = slopes[:, ids]
        slopes.index_fill_(1, ids, 0)
        if of_rows is not None:
            of_rows += of_replaced.T @ hidden
        if of_hidden is not None:
            of_hidden[part] = of_replaced @ rows
    if of_hidden is not None:
        of_hidden[part] += slopes @ weight
    if of_weight is not None:
        _add_product(of_weight, slopes.T, hidden)
    if of_bias is not None:
        of_bias += slopes.sum(0)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a matrix product to an fp32 total, in one pass and without a copy of its size where types allow."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
