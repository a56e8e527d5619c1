"""Documents packed into one row never see each other: how each architecture is told, one row a table.

Most architectures hand keyword arguments down to their attention, so the bounds of the documents travel as
flash attention names them (`cu_seq_lens_q`, ...). Without flash attention on a GPU, transformers builds its
block mask from the positions; on a CPU, `by_document` attends one document at a time, which needs no mask and
computes exactly what the document alone would. Bloom hands nothing down and knows no positions: its attention
is replaced on the model, and the bounds travel in the place of its mask.
"""

from collections.abc import Callable
from importlib.util import find_spec
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.bloom.modeling_bloom import build_alibi_tensor, dropout_add

from yayi_data.errors import YayiError
from yayi_train.batch import Batch

Inputs = dict[str, Any]
"""Keyword arguments of a causal language model's forward, beside its input ids."""

_GLOBAL_ROPE = ("dynamic", "longrope")
"""Rotary embeddings that depend on the longest document of a batch, so documents do affect each other."""


class NotIsolated(YayiError):  # noqa: N818 - reads as what it says
    """The documents of a packed row cannot be kept apart in this model."""


def attention_choice(architecture: str, device: torch.device | str, dtype: torch.dtype) -> str | None:
    """Return the attention to load a model with: flash where it runs, else SDPA.

    None, transformers' own choice, for Bloom and for architectures that are not in the table.
    """
    if ARCHITECTURES.get(architecture) is not _by_arguments:
        return None
    half = dtype in (torch.bfloat16, torch.float16)
    return "flash_attention_2" if half and _has_flash(torch.device(device)) else "sdpa"


def _has_flash(device: torch.device) -> bool:
    """Tell whether flash attention is installed and runs on a device: on GPUs since Ampere."""
    return (
        device.type == "cuda"
        and find_spec("flash_attn") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def isolate(model: nn.Module) -> Callable[[Batch], Inputs]:
    """Prepare the model for packed rows and return what makes a batch's forward arguments.

    The model may be wrapped (PEFT, a DeepSpeed engine). Raises NotIsolated where its architecture is not in
    the table: such a model can only run one document a row (`plain`).
    """
    base = base_model(model)
    architecture = base.config.model_type
    ours = type(base).__module__.startswith("transformers.models.")
    if architecture not in ARCHITECTURES or not ours:
        raise NotIsolated(
            f"the documents of a packed row cannot be kept apart in a {architecture!r} model "
            f"(only in {', '.join(ARCHITECTURES)}): train it with --no-packing"
        )
    rope = (getattr(base.config, "rope_parameters", None) or {}).get("rope_type")
    if rope in _GLOBAL_ROPE:
        raise NotIsolated(
            f"{rope!r} rotary embeddings of this {architecture!r} model depend on every document of a row: "
            "train it with --no-packing"
        )
    return ARCHITECTURES[architecture](base)


def plain(batch: Batch) -> Inputs:
    """Return the forward arguments of a batch with one document a row, for any causal language model."""
    if int(batch.segments.max()) > 0:
        raise ValueError("a row with several documents needs isolate()")
    return {"attention_mask": (batch.segments >= 0).long(), "use_cache": False}


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a PEFT or DeepSpeed wrapper."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TypeError(f"no transformers model inside {type(model).__name__}")


def _by_arguments(model: PreTrainedModel) -> Callable[[Batch], Inputs]:
    if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
        model.set_attn_implementation("by_document")
    return _bounds_and_positions


def _bounds_and_positions(batch: Batch) -> Inputs:
    return {
        "position_ids": batch.position_ids,
        "cu_seq_lens_q": batch.bounds,
        "cu_seq_lens_k": batch.bounds,
        "max_length_q": batch.longest,
        "max_length_k": batch.longest,
        "use_cache": False,
    }


def attend_by_document(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend causally inside each document; as SDPA does where no bounds are given (generation).

    The signature is the one that transformers calls. Shapes: (rows, heads, length, head size) in, (rows,
    length, heads, head size) out.
    """
    if cu_seq_lens_q is None:
        kwargs |= {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window}
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    groups = getattr(module, "num_key_value_groups", 1)
    rows, _, length, _ = query.shape
    lengths = cu_seq_lens_q.diff().tolist()
    parts = zip(
        _documents(query, lengths),
        _documents(repeat_kv(key, groups), lengths),
        _documents(repeat_kv(value, groups), lengths),
        strict=True,
    )
    done = [_attend(q, k, v, dropout, scaling, _window(q, sliding_window)) for q, k, v in parts]
    return torch.cat(done, dim=2).transpose(1, 2).reshape(rows, length, query.shape[1], -1), None


def _documents(states: Tensor, lengths: list[int]) -> tuple[Tensor, ...]:
    """Cut (rows, heads, length, size) into one (1, heads, n, size) a document."""
    return torch.split(states.transpose(1, 2).flatten(0, 1).unsqueeze(0).transpose(1, 2), lengths, dim=2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None, mask: Tensor | None
) -> Tensor:
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    )


def _window(query: Tensor, size: int | None) -> Tensor | None:
    """Return the mask of a sliding window where the document is longer than it."""
    length = query.shape[2]
    if size is None or length <= size:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return ones.tril() & ones.triu(1 - size)


def _bloom(model: PreTrainedModel) -> Callable[[Batch], Inputs]:
    model.transformer.build_alibi_tensor = _alibi
    for block in model.transformer.h:
        attention = block.self_attention
        attention.forward = MethodType(_bloom_attention(attention.forward), attention)
    return _bounds_as_mask


def _bounds_as_mask(batch: Batch) -> Inputs:
    return {"attention_mask": batch.bounds[None, None, None], "use_cache": False}


def _alibi(attention_mask: Tensor, num_heads: int, dtype: torch.dtype) -> Tensor:
    """Return ALiBi for a padding mask as Bloom does; for bounds, the causal bias of the longest document.

    Positions restart in every document, so one bias (1, heads, longest, longest) serves all by its corner.
    """
    if attention_mask.ndim == 2:
        return cast(Tensor, build_alibi_tensor(attention_mask, num_heads, dtype))
    longest = int(attention_mask.flatten().diff().max())
    ones = torch.ones(1, longest, dtype=torch.long, device=attention_mask.device)
    causal = torch.full((longest, longest), float("-inf"), dtype=dtype, device=attention_mask.device).triu(1)
    return cast(Tensor, (build_alibi_tensor(ones, num_heads, dtype) + causal)[None])


def _bloom_attention(original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        self: Any,
        hidden_states: Tensor,
        residual: Tensor,
        alibi: Tensor,
        attention_mask: Tensor,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        if alibi.ndim != 4:
            output, _ = original(
                hidden_states, residual, alibi=alibi, attention_mask=attention_mask, **kwargs
            )
            return output, None
        lengths = attention_mask.flatten().diff().tolist()
        states = self._reshape(self.query_key_value(hidden_states))
        dropout = self.attention_dropout.p if self.training else 0.0
        done = [
            _attend(q, k, v, dropout, self.inv_norm_factor, alibi[:, :, : q.shape[2], : q.shape[2]])
            for q, k, v in zip(*(_documents(state, lengths) for state in states), strict=True)
        ]
        context = torch.cat(done, dim=2).transpose(1, 2).reshape(hidden_states.shape)
        output = dropout_add(self.dense(context), residual, self.hidden_dropout, self.training)
        return output, None

    return forward


ARCHITECTURES: dict[str, Callable[[PreTrainedModel], Callable[[Batch], Inputs]]] = {
    "llama": _by_arguments,
    "mistral": _by_arguments,
    "qwen2": _by_arguments,
    "qwen3": _by_arguments,
    "gpt_neox": _by_arguments,
    "bloom": _bloom,
}

AttentionInterface.register("by_document", attend_by_document)
AttentionMaskInterface.register("by_document", sdpa_mask)
