"""What every detector offers to whoever predicts with it, evaluates it or exports it.

What the rivals have in common: they learn from normal parts in steps that they name themselves.

A rival says *what* it learns in each step; the training room does it. So every rival is one file,
and none of them knows a trainer, a file or a progress bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from chiasm.detection.layers.maps import MapPostprocessing
from chiasm.samples import RGBDBatch


class Detector(nn.Module):
    """A network that turns a batch into maps and image-level scores.

    A built detector with its weights loaded is complete: nothing about its data or its training is
    needed to use it.

    Attributes:
        maps: operations on anomaly maps; export replaces them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps = MapPostprocessing()

    @property
    def pretrained_weights(self) -> str | None:
        """Which published weights its frozen features have, in words; None where it has none."""
        return None

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load saved weights; raises ``RuntimeError`` or ``KeyError`` where they do not fit."""
        self.load_state_dict(state)

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
        return self.maps.image_score(maps)


Described = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Observe:
    """One pass over the normal parts without gradient: statistics, memory banks, decision layers.

    ``Baseline.observe(name, ...)`` gets every batch once, in the order of the parts; then
    ``Baseline.finish(name)`` is called.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Learn:
    """Epochs of gradient steps that reduce ``Baseline.loss(name, ...)``.

    Attributes:
        name: of the step.
        modules: attributes of the rival whose parameters learn; the others stay as they are.
        epochs: passes over the normal parts; a budget of minutes may end them earlier.
        learning_rate: of Adam at the start; it falls to a hundredth along half a cosine.
        batch: parts per step.
        weight_decay: of AdamW.
        synthetic: learn from parts with synthetic anomalies, made afresh each epoch; ``loss`` then
            gets an ``RGBDBatch`` with masks instead of what ``describe`` returned.
        exact: compute in float32 also where the processor multiplies bfloat16.
        clip: norm to which gradients are clipped; None does not clip.
    """

    name: str
    modules: tuple[str, ...]
    epochs: int
    learning_rate: float = 1e-3
    batch: int = 8
    weight_decay: float = 0.0
    synthetic: bool = False
    exact: bool = False
    clip: float | None = None


Step = Observe | Learn


@dataclass(frozen=True, slots=True, eq=False)
class BaselineOutput:
    """What a rival says about a batch.

    Attributes:
        raw: ``(N, 1, h, w)`` distances from normal, at least 0, at the method's own resolution.
        image: ``(N,)`` image-level scores where the method has its own rule, else None.
    """

    raw: Tensor
    image: Tensor | None = None


class Baseline(Detector):
    """A detector that learns in ``steps`` and judges what ``describe`` says about a batch.

    Attributes:
        steps: in the order in which they are learnt.
        modalities: what it looks at, of ``("rgb", "geometry")``.
        smoothing: standard deviation of the map's Gaussian as a share of the crop's side; 0 leaves
            the map as it is. Papers that smooth use 4 pixels of 224.
    """

    steps: tuple[Step, ...] = ()
    modalities: tuple[str, ...] = ("rgb", "geometry")
    smoothing: float = 4 / 224

    def describe(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Frozen features of a batch, computed once per part and kept while the rival learns.

        Every tensor has the parts along its first axis. ``batch.xyz`` and ``batch.valid`` hold the
        points where the data have any; ``batch.foreground`` should be among what is returned where
        ``observe`` or ``loss`` is to know the object.
        """
        raise NotImplementedError

    def observe(self, step: str, described: Described, index: Tensor) -> None:
        """See one batch of normal parts; ``index`` ``(N,)`` are their numbers."""
        raise NotImplementedError

    def finish(self, step: str) -> None:
        """End the pass of an ``Observe`` step."""

    def loss(self, step: str, batch: Described | RGBDBatch) -> Tensor:
        """What a ``Learn`` step reduces, a scalar; see ``Learn.synthetic`` for the argument."""
        raise NotImplementedError

    def judge(self, described: Described) -> BaselineOutput:
        """Distances from normal of parts that were described."""
        raise NotImplementedError

    def forward(self, batch: RGBDBatch) -> BaselineOutput:
        """Describe and judge."""
        return self.judge(self.describe(batch))

    def scores(self, output: BaselineOutput, foreground: Tensor) -> Tensor:
        """Bring the raw map to size, smooth it, and zero it away from the object."""
        size = foreground.shape[-2:]
        maps = self.maps.resize(output.raw, size)
        if self.smoothing > 0:
            maps = self.maps.smooth(maps, sigma=self.smoothing * size[0])
        return maps * self.maps.dilated_foreground(foreground)

    def image_scores(self, output: BaselineOutput, maps: Tensor) -> Tensor:
        """The method's own image-level scores where it has them, else the largest local mean."""
        return output.image if output.image is not None else super().image_scores(output, maps)
