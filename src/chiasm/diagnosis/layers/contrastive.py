"""Supervised contrastive loss over views and modalities, and its position between its bounds."""

from __future__ import annotations

import math

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from chiasm.errors import ConfigurationError


class SupervisedContrast(nn.Module):
    """Vectors of one class attract each other, vectors of different classes repel each other.

    The paper's Equation 1 divided by the number of anchors, so that batches of any size are
    comparable; anchors without a positive do not count. A batch of a single class gives 0.

    Args:
        temperature: of the similarities; 0.5 in the paper.

    References:
        MAD, Equation 1; Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, Equation 2.
    """

    def __init__(self, *, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss = SupConLoss(temperature=temperature)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean loss over anchors, nats.

        Args:
            features: ``(N, V, P)``: V views or modalities of each sample, of any length.
            labels: ``(N,)`` int64.
        """
        if features.dim() != 3 or labels.shape != features.shape[:1]:
            raise ConfigurationError(
                f"Contrast takes features (samples, views, channels) and one label for each "
                f"sample, not {tuple(features.shape)} and {tuple(labels.shape)}."
            )
        vectors = features.float().flatten(0, 1)  # (N V, P)
        out: Tensor = self.loss(vectors, labels.repeat_interleave(features.shape[1]))
        return out

    def monitor(self, loss: Tensor, labels: Tensor, *, views: int) -> Tensor:
        """Scale the loss to 0 at its floor and 1 for vectors that are all equal.

        ``(loss - floor) / (log(n - 1) - floor)`` for ``n`` vectors; NaN if the batch has one
        class only. Comparable between batch sizes, numbers of views and temperatures.
        """
        repeated = labels.repeat_interleave(views)
        floor = contrast_floor(repeated, temperature=self.temperature)
        chance = math.log(max(len(repeated) - 1, 1))
        # With one class, floor and chance are equal up to rounding: the ratio is undefined.
        span = chance - floor
        return torch.where(span > 1e-6, (loss.detach() - floor) / span, math.nan)


def contrast_floor(labels: Tensor, *, temperature: float) -> Tensor:
    """Compute the loss when each class is one point and the K points form a regular simplex.

    Mean over anchors with positives of ``log(p + q exp(-K / ((K - 1) temperature)))``, with p
    positives and q negatives of the anchor. For balanced classes in at least K - 1 dimensions this
    is the minimum; for unbalanced ones it is close to the minimum.

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
    negative_term = math.exp(-classes / ((classes - 1) * temperature)) if classes > 1 else 1.0
    anchors = (positives + negatives * negative_term)[positives > 0]
    return anchors.log().mean().float()
