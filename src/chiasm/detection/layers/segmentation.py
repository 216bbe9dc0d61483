"""The head that turns fused features into anomaly logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chiasm.fusion.recomputation import run_layer
from chiasm.training.ranks import mean, ratio, sum_over_ranks

OBJECT_WEIGHT = 5.0  # of a pixel on the object, beyond that of any pixel

Loss = Literal["focal", "focal_dice", "object"]


class SegmentationHead(nn.Sequential):
    """Point-wise head P(C -> a), P(a -> b), P(b -> 2), P = 1x1 conv, batch norm, LeakyReLU(0.2).

    Input ``(N, channels, S, S)``, output ``(N, 2, S, S)``: logits of good and anomalous. As in
    EasyNet, normalisation and LeakyReLU also follow the two logits; ``final_activation=False``
    omits them, so that negative logits are not flattened to a fifth of their slope.

    Attributes:
        recompute: whether activations are computed again for the gradients, see ``run_layer``.

    References:
        Chen et al., EasyNet, ACM MM 2023, the multi-layer segmentation head.
    """

    def __init__(
        self,
        *,
        channels: int,
        hidden: tuple[int, int] = (512, 256),
        final_activation: bool = True,
    ) -> None:
        first, second = hidden
        self.recompute = False
        super().__init__(
            point_wise(channels, first),
            point_wise(first, second),
            point_wise(second, 2) if final_activation else nn.Conv2d(second, 2, 1),
        )

    def forward(self, fused: Tensor) -> Tensor:
        """Compute logits ``(N, 2, S, S)``."""
        logits: Tensor = run_layer(self, fused, recompute=self.recompute, call=super().forward)
        return logits


def point_wise(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 1x1 convolution, batch norm and LeakyReLU(0.2)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=True),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )


def focal_loss(
    logits: Tensor, mask: Tensor, *, gamma: float = 2.0, inside: Tensor | None = None
) -> Tensor:
    """Compute the focal loss on the softmax of two logits, alpha 1, mean over pixels.

    Args:
        logits: ``(N, 2, S, S)``.
        mask: ``(N, 1, S, S)``, 1 on anomalous pixels.
        gamma: how strongly easy pixels are discounted.
        inside: ``(N, 1, S, S)``, 1 where pixels count; None counts all.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, Eq. 4.
    """
    log_p = F.log_softmax(logits, dim=1)
    log_pt = torch.where(mask[:, 0] > 0.5, log_p[:, 1], log_p[:, 0])
    return _mean(-(1 - log_pt.exp()).pow(gamma) * log_pt, inside)


def dice_loss(
    logits: Tensor, mask: Tensor, *, smooth: float = 1.0, inside: Tensor | None = None
) -> Tensor:
    """Compute one minus the soft Dice overlap of probability and mask, over the whole batch.

    Over the batch and not per image: an image without a defect has no overlap. ``inside`` as in
    ``focal_loss``.

    References:
        Milletari et al., V-Net, 3DV 2016.
    """
    p = logits.softmax(dim=1)[:, 1:]
    if inside is not None:
        p, mask = p * inside, mask * inside
    overlap, predicted, anomalous = sum_over_ranks(
        torch.stack([(p * mask).sum(), p.sum(), mask.sum()])
    ).unbind()
    return 1 - (2 * overlap + smooth) / (predicted + anomalous + smooth)


def cross_entropy(logits: Tensor, mask: Tensor, *, inside: Tensor | None = None) -> Tensor:
    """Compute the mean cross-entropy of logits ``(N, 2, S, S)`` and a mask ``(N, 1, S, S)``.

    ``inside`` as in ``focal_loss``.
    """
    target = (mask[:, 0] > 0.5).long()
    return _mean(F.cross_entropy(logits, target, reduction="none"), inside)


def _mean(values: Tensor, inside: Tensor | None) -> Tensor:
    """Return the mean of values ``(N, S, S)``, of those inside alone."""
    if inside is None:
        return mean(values)
    weight = inside[:, 0].to(values.dtype)
    return ratio((values * weight).sum(), weight.sum(), least=1)


def structural_dissimilarity(a: Tensor, b: Tensor, *, window: int = 8, stride: int = 4) -> Tensor:
    """Compute one minus the mean SSIM over average-pooled windows, for images in [0, 1].

    The windows are boxes instead of the 11 x 11 Gaussian: on a CPU the Gaussian in float32 costs as
    much as the network, and boxes train as well (measured; see docs/decisions).

    References:
        Wang et al., Image Quality Assessment, IEEE TIP 2004, Eq. 13.
    """

    def pooled(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride)

    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = pooled(a), pooled(b)
    variance_a = pooled(a * a) - mean_a**2
    variance_b = pooled(b * b) - mean_b**2
    covariance = pooled(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return 1 - mean(similarity)


def reconstruction_loss(
    reconstruction: Tensor, target: Tensor, *, structural: bool, inside: Tensor | None = None
) -> Tensor:
    """Compute EasyNet's reconstruction terms: MSE, plus ``1 - SSIM`` if ``structural`` (RGB).

    In float32 always: SSIM's variances are differences of squares, which bfloat16 rounds away.

    Args:
        reconstruction, target: ``(N, C, S, S)``.
        structural: whether to add the dissimilarity of structure.
        inside: ``(N, 1, S, S)``, 1 on the object, whose pixels then weigh six times as much. Off
            the object all is black: with equal weights, a small network stays for long at a black
            picture (decision 17). None weighs all pixels alike, as published.
    """
    reconstruction, target = reconstruction.float(), target.float()
    if inside is None:
        loss = mean((reconstruction - target).square())
    else:
        weight = (1 + OBJECT_WEIGHT * inside).expand_as(target)
        loss = ratio((weight * (reconstruction - target).square()).sum(), weight.sum())
    if structural:
        loss = loss + structural_dissimilarity(reconstruction, target)
    return loss


def segmentation_loss(
    logits: Tensor, mask: Tensor, *, dice: bool, inside: Tensor | None = None
) -> Tensor:
    """Compute the focal loss, plus cross-entropy and Dice if ``dice``.

    The paper uses the focal loss alone; on a short budget it stays near chance, the sum does not.

    Args:
        logits: ``(N, 2, s, s)``.
        mask: ``(N, 1, s, s)``, 1 on anomalous pixels.
        dice: whether to add cross-entropy and Dice.
        inside: ``(N, 1, s, s)``, 1 on the object, whose pixels alone count; None counts all.
    """
    logits = logits.float()  # also where the head is computed in bfloat16
    loss = focal_loss(logits, mask, inside=inside)
    if dice:
        loss = loss + cross_entropy(logits, mask, inside=inside)
        loss = loss + dice_loss(logits, mask, inside=inside)
    return loss
