"""Batch norms of exported networks, folded into the convolutions before them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chiasm.errors import ConfigurationError
from chiasm.fusion.projection import Projection


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm of a network in evaluation mode, in place.

    Raises:
        ConfigurationError: a batch norm follows no convolution, so that it cannot be folded.
    """
    for module in list(network.modules()):
        if isinstance(module, Projection):
            _fold_projection(module)
        elif isinstance(module, nn.Sequential):
            _fold_sequence(module)
    remaining = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if remaining:
        raise ConfigurationError(
            f"The batch norms {', '.join(remaining)} follow no convolution and cannot be folded: "
            "this network cannot be exported."
        )


def _fold_sequence(layers: nn.Sequential) -> None:
    for number in range(len(layers) - 1):
        layer, norm = layers[number], layers[number + 1]
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[number] = fuse_conv_bn_eval(layer, norm)
            layers[number + 1] = nn.Identity()


@torch.no_grad()
def _fold_projection(projection: Projection) -> None:
    """Fold the norm of a sum of resized convolutions: each takes the scale, the first the shift.

    The weights of resizing sum to 1, so that it leaves a constant unchanged.
    """
    norm = projection.norm
    if not isinstance(norm, nn.BatchNorm2d):
        return
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    for number, layer in enumerate(projection.layers):
        assert isinstance(layer, nn.Conv2d)
        layer.weight.mul_(scale.view(-1, 1, 1, 1))
        layer.bias = nn.Parameter(shift.clone() if number == 0 else torch.zeros_like(shift))
    projection.norm = nn.Identity()
