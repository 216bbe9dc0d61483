"""Supervised contrast over views and modalities, and how far it has come between its bounds."""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from chiasm.errors import ConfigurationError


class SupervisedContrast(nn.Module):
    """Vectors of one class attract, of different classes repel each other.

    The paper's Equation 1 divided by the number of anchors, so that batches of any size compare;
    anchors without a positive do not count. A batch of a single class gives 0.

    Args:
        temperature: of the similarities; the paper's is 0.5.

    References:
        MAD, Equation 1; Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, Equation 2.
    """

    def __init__(self, *, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss = SupConLoss(temperature=temperature)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over anchors, nats.

        Args:
            features: ``(N, V, P)``: V views or modalities of each sample, of any length.
            labels: ``(N,)`` int64.
        """
        if features.dim() != 3 or labels.shape != features.shape[:1]:
            raise ConfigurationError(
                f"Contrast takes features (samples, views, channels) and one label for each "
                f"sample, not {tuple(features.shape)} and {tuple(labels.shape)}."
            )
        every = features.float().flatten(0, 1)  # (N V, P)
        out: Tensor = self.loss(every, labels.repeat_interleave(features.shape[1]))
        return out

    def monitor(self, loss: Tensor, labels: Tensor, *, views: int) -> Tensor:
        """The loss as a share of the way from its floor (0) to vectors that are all alike (1).

        ``(loss - floor) / (log(n - 1) - floor)`` for ``n`` vectors; NaN where the batch has one
        class only. Comparable between batch sizes, numbers of views and temperatures.
        """
        every = labels.repeat_interleave(views)
        floor = contrast_floor(every, temperature=self.temperature)
        chance = math.log(max(len(every) - 1, 1))
        # At one class floor and chance coincide, up to rounding, and nothing can be said.
        room = chance - floor
        return torch.where(room > 1e-6, (loss.detach() - floor) / room, math.nan)


def contrast_floor(labels: Tensor, *, temperature: float) -> Tensor:
    """The loss when each class is one point and the K points form a regular simplex.

    Mean over anchors with positives of ``log(p + q exp(-K / ((K - 1) temperature)))``, with p
    positives and q negatives of the anchor. For balanced classes in at least K - 1 dimensions
    nothing is lower; for unbalanced ones it is a mark close to the least.

    Args:
        labels: ``(n,)`` int64, one for each vector.
        temperature: of the loss.

    References:
        Graf et al., Dissecting Supervised Contrastive Learning, ICML 2021.
    """
    _, numbers, counts = labels.unique(return_inverse=True, return_counts=True)
    positives = (counts[numbers] - 1).double()
    negatives = len(labels) - 1 - positives
    classes = len(counts)
    apart = math.exp(-classes / ((classes - 1) * temperature)) if classes > 1 else 1.0
    anchors = (positives + negatives * apart)[positives > 0]
    return anchors.log().mean().float()
