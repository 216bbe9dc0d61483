"""The head that turns fused features into anomaly logits."""

from __future__ import annotations

from torch import Tensor, nn


class SegmentationHead(nn.Sequential):
    """Point-wise head P(C -> a), P(a -> b), P(b -> 2), P = 1x1 conv, batch norm, LeakyReLU(0.2).

    Input ``(N, channels, S, S)``, output ``(N, 2, S, S)``: logits of good and anomalous. As in
    EasyNet, normalisation and LeakyReLU also follow the two logits; ``final_activation=False``
    leaves them off, so that logits have no floor at a fifth of their slope.

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
        layers = [_point_wise(channels, first), _point_wise(first, second)]
        layers.append(_point_wise(second, 2) if final_activation else nn.Conv2d(second, 2, 1))
        super().__init__(*layers)

    def forward(self, fused: Tensor) -> Tensor:
        """Return logits ``(N, 2, S, S)``."""
        return super().forward(fused)


def _point_wise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=True), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
    )
