"""Operations of a classifier per recording, counted as in the paper and in full."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.layers.attention import CrossAttention
from chiasm.diagnosis.layers.expert_encoder import SelfAttention
from chiasm.errors import ConfigurationError
from chiasm.samples import RecordingBatch


def flops(
    model: Classifier,
    convention: Literal["paper", "true"] = "paper",
    *,
    batch: RecordingBatch | None = None,
) -> int:
    """Count the floating-point operations of a pass, two per multiply-accumulate.

    Nothing is computed: the tensors have shapes only. ``"paper"`` omits attention, including its
    four linear maps. Only this count meets the published figures; two popular counters also omit
    it: thop, and torch's own for fused attention. ``"true"`` adds ``2 (4 T D^2 + 2 T^2 D)`` for
    each layer of T tokens, ``2 (2 T D^2 + 2 S D^2 + 2 T S D)`` if they attend to S others.
    Element-wise operations and the projection head, which classification does not use, are not
    counted.

    Args:
        model: on any device; it is not changed.
        convention: see above.
        batch: input of the pass; by default one standard recording.
    """
    if convention not in ("paper", "true"):
        raise ConfigurationError(f"convention must be 'paper' or 'true', not {convention!r}.")
    meta_model = _on_meta(model).eval()
    inputs = meta_model.example_batch() if batch is None else _batch_on_meta(batch)
    analytic: list[int] = []

    def record(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        tokens, *context = arguments
        analytic.append(
            attention_flops(*tokens.shape, context=context[0].shape[1] if context else None)
        )

    types = (SelfAttention, CrossAttention)
    attention = {name: m for name, m in meta_model.named_modules() if isinstance(m, types)}
    for module in attention.values():
        module.register_forward_pre_hook(record)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        meta_model(inputs)
    counted = counter.get_flop_counts()
    root = type(meta_model).__name__
    inside = sum(sum(counted.get(f"{root}.{name}", {}).values()) for name in attention)
    rest = counter.get_total_flops() - inside
    return rest + (sum(analytic) if convention == "true" else 0)


def attention_flops(count: int, tokens: int, width: int, *, context: int | None = None) -> int:
    """Count the operations of attention: four linear maps and two products.

    Args:
        count, tokens, width: N, T and D of the queries.
        context: number of keys; by default that of the queries.
    """
    keys = tokens if context is None else context
    return 2 * count * (2 * (tokens + keys) * width**2 + 2 * tokens * keys * width)


def _on_meta(model: Classifier) -> Classifier:
    """Return a copy whose tensors have shapes only; no weight is copied."""
    memo: dict[int, Any] = {id(p): _meta_parameter(p) for p in model.parameters()}
    memo |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, memo)


def _meta_parameter(parameter: nn.Parameter) -> nn.Parameter:
    # FlopCounterMode fails on parameters that require gradients.
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=False)


def _batch_on_meta(batch: RecordingBatch) -> RecordingBatch:
    def on_meta(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to("meta")

    return RecordingBatch(image=on_meta(batch.image), series=on_meta(batch.series))
