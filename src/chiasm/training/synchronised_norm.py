"""Batch norms that see the rows of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from chiasm.training.ranks import has_rows


class SynchronisedBatchNorm(_BatchNorm):
    """A batch norm of the whole batch, of which each rank has some rows or none.

    ``nn.SyncBatchNorm`` refuses tensors that are not on a GPU, and ranks without rows. Values,
    gradients and running statistics are those of one process with the batch, whatever the shares.
    Parameters and buffers have the names of a plain batch norm.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(N, C, ...)`` by mean and variance of the batch; in evaluation as usual."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        ones = input.new_ones(self.num_features, dtype=torch.float32)
        weight = ones if self.weight is None else self.weight
        bias = torch.zeros_like(ones) if self.bias is None else self.bias
        normalised, mean, variance, count = _Normalised.apply(input, weight, bias, self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            factor = self.momentum
            if factor is None:  # the mean of all batches
                factor = 1.0 / float(self.num_batches_tracked)
            unbiased = variance * (count / (count - 1))
            self.running_mean.lerp_(mean.to(self.running_mean), factor)
            self.running_var.lerp_(unbiased.to(self.running_var), factor)
        result: Tensor = normalised
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"A batch norm takes at least two axes, not {input.dim()}.")


class _Normalised(torch.autograd.Function):
    """Values, and mean, variance and number of those that were normalised together.

    References:
        Ioffe, Szegedy, Batch Normalization, ICML 2015; Chan et al., Updating Formulae and a
        Pairwise Algorithm for Computing Sample Variances, 1979.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        count = x.numel() // x.shape[1]
        wide = _exact(x)
        moments = torch.var_mean(wide, dim=axes, correction=0)
        variance, mean = (value.double() for value in moments)
        ctx.counts = has_rows()
        count = count if ctx.counts else 0
        message = torch.cat([mean, variance * count, mean.new_tensor([count])])
        parts = [torch.empty_like(message) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, message)
        means, squares, counts = torch.stack(parts).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        if float(total) < 2:
            raise ValueError("A batch norm needs more than one value of each channel in training.")
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        scale = (variance + eps).rsqrt().to(wide.dtype)
        ctx.save_for_backward(x, weight, mean.to(wide.dtype), scale, total.to(wide.dtype))
        ctx.axes = axes
        ctx.mark_non_differentiable(mean, variance, total)
        normalised = (wide - _wide(mean.to(wide.dtype), x)) * _wide(weight * scale, x)
        return (normalised + _wide(bias, x)).to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight, mean, scale, total = ctx.saved_tensors
        gradient = _exact(gradients[0])
        standard = (_exact(x) - _wide(mean, x)) * _wide(scale, x)
        of_bias = gradient.sum(ctx.axes)
        of_weight = (gradient * standard).sum(ctx.axes)
        sums = torch.stack([of_bias, of_weight])
        dist.all_reduce(sums)
        shift, slope = (sums / total).unbind()
        if not ctx.counts:
            return torch.zeros_like(x), of_weight, of_bias, None
        changed = gradient - _wide(shift, x) - standard * _wide(slope, x)
        return (changed * _wide(weight * scale, x)).to(x.dtype), of_weight, of_bias, None


def _exact(values: Tensor) -> Tensor:
    """Return values in single precision at least."""
    return values if values.dtype == torch.float64 else values.float()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """Return values ``(C,)`` in a shape that is multiplied with ``(N, C, ...)``."""
    return values.view(1, -1, *(1 for _ in like.shape[2:]))


def synchronise_norms(
    network: nn.Module, *, device: torch.device, empty_shares: bool = False
) -> None:
    """Let the batch norms of a network see the rows of all ranks, in place.

    Parameters and buffers stay the same tensors, so that weights are saved and loaded as before.

    Args:
        network: that is trained.
        device: of the network; a GPU has faster ones of PyTorch.
        empty_shares: whether ranks have no rows of some batches.
    """
    if device.type == "cuda" and not empty_shares:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for name, child in list(network.named_children()):
        if isinstance(child, _BatchNorm) and not isinstance(child, SynchronisedBatchNorm):
            setattr(network, name, _synchronised(child))
        else:
            synchronise_norms(child, device=device, empty_shares=empty_shares)


def _synchronised(norm: _BatchNorm) -> SynchronisedBatchNorm:
    made = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    made.training = norm.training
    return made
