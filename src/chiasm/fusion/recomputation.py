"""Activations that are computed again for the gradients instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@runtime_checkable
class Recomputable(Protocol):
    """A network that may compute the activations of its layers again, see ``run_layer``."""

    recompute: bool


def run_layer(
    layer: nn.Module, *inputs: Any, recompute: bool, call: Callable[..., Any] | None = None
) -> Any:
    """Run a layer; with ``recompute``, keep its inputs alone for the gradients.

    Values, gradients and running statistics are to the bit those of a plain call: the second run
    sees the same batch, and batch norms count it once.

    Args:
        layer: whose batch norms are counted once. It must not draw random numbers.
        inputs: tensors, or records of them.
        recompute: whether the activations are computed again; without effect where there are no
            gradients.
        call: runs the layer, where that is not a plain call of it.

    References:
        Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    call = layer if call is None else call
    if not (recompute and torch.is_grad_enabled()):
        return call(*inputs)
    return checkpoint(
        call,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), unchanged_statistics(layer)),
    )


@contextmanager
def unchanged_statistics(layer: nn.Module) -> Iterator[None]:
    """Let the batch norms of a layer update copies of their running statistics."""
    norms = [module for module in layer.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept):
            for name, value in buffers.items():
                setattr(norm, name, value.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept):
            for name, value in buffers.items():
                setattr(norm, name, value)
