"""What one recording costs a classifier, in the paper's way of counting and in full."""

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
    """Floating-point operations of a pass, two to a multiply-accumulate; nothing is computed.

    ``"paper"`` leaves out attention altogether, its four linear maps included. The published
    figures can only be met so, and two popular counters do so by accident: thop, and torch's own
    where attention takes its fused path. ``"true"`` adds it: ``2 (4 T D^2 + 2 T^2 D)`` for each
    layer of T tokens, ``2 (2 T D^2 + 2 S D^2 + 2 T S D)`` where they read S others. Element-wise
    work is not counted, as is usual, nor the projection head,
    which classification does not ask.

    Args:
        model: on any device; it is left as it was.
        convention: see above.
        batch: whose shapes are counted, as one number; one usual recording unless told.
    """
    if convention not in ("paper", "true"):
        raise ConfigurationError(f"convention must be 'paper' or 'true', not {convention!r}.")
    ghost = _without_data(model).eval()
    inputs = ghost.example_batch() if batch is None else _batch_without_data(batch)
    analytic: list[int] = []

    def remember(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
        tokens, *context = arguments
        analytic.append(
            attention_flops(*tokens.shape, context=context[0].shape[1] if context else None)
        )

    kinds = (SelfAttention, CrossAttention)
    attention = {name: m for name, m in ghost.named_modules() if isinstance(m, kinds)}
    for module in attention.values():
        module.register_forward_pre_hook(remember)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost(inputs)
    counted = counter.get_flop_counts()
    root = type(ghost).__name__
    inside = sum(sum(counted.get(f"{root}.{name}", {}).values()) for name in attention)
    rest = counter.get_total_flops() - inside
    return rest + (sum(analytic) if convention == "true" else 0)


def attention_flops(count: int, tokens: int, width: int, *, context: int | None = None) -> int:
    """Operations of attention: queries, keys, values and outputs are linear, then two products.

    Args:
        count, tokens, width: N, T and D of what asks.
        context: tokens that are asked; the same ones unless told.
    """
    asked = tokens if context is None else context
    return 2 * count * (2 * (tokens + asked) * width**2 + 2 * tokens * asked * width)


def _without_data(model: Classifier) -> Classifier:
    """A copy whose tensors have shapes only; weights are never copied."""
    ghosts: dict[int, Any] = {id(p): _ghost(p) for p in model.parameters()}
    ghosts |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, ghosts)


def _ghost(parameter: nn.Parameter) -> nn.Parameter:
    # Gradients are none of its business, and the counter stumbles over them.
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=False)


def _batch_without_data(batch: RecordingBatch) -> RecordingBatch:
    def ghost(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to("meta")

    return RecordingBatch(image=ghost(batch.image), series=ghost(batch.series))
