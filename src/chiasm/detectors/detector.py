"""What every detector offers to whoever predicts with it, evaluates it or exports it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from chiasm.detectors.maps import image_score
from chiasm.samples import RGBDBatch


class Detector(nn.Module):
    """A network that turns a batch into maps and image-level scores.

    A built detector with its weights loaded is complete: nothing about its data or its training is
    needed to use it.
    """

    @property
    def pretrained_weights(self) -> str | None:
        """Which published weights its frozen features have, in words; None where it has none."""
        return None

    def forward(self, batch: RGBDBatch) -> Any:
        """What ``scores`` turns into a map; each detector has its own record."""
        raise NotImplementedError

    def scores(self, output: Any, foreground: Tensor) -> Tensor:
        """Anomaly maps ``(N, 1, S, S)``, at least 0, larger is more anomalous, 0 off the object.

        Args:
            output: of ``forward``.
            foreground: ``(N, 1, S, S)``, 1 on the object.
        """
        raise NotImplementedError

    def image_scores(self, output: Any, maps: Tensor) -> Tensor:
        """Image-level scores ``(N,)``: the largest local mean, unless a method has its own rule.

        Args:
            output: of ``forward``.
            maps: of ``scores``.
        """
        return image_score(maps)
