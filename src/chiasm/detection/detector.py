"""The interface of every detector, and of the baselines that it is compared with.

A baseline states *what* it fits or trains in each of its steps; ``detection.training.baseline``
runs them. Therefore every baseline is one file that knows no trainer, file or progress bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from chiasm.detection.layers.image_score import ImageScoreRule, Link, map_statistics
from chiasm.detection.layers.maps import MapPostprocessing
from chiasm.samples import RGBDBatch


class Detector(nn.Module):
    """A network that maps a batch to anomaly maps and image-level scores.

    A built detector with its weights loaded is complete: prediction needs neither its data nor its
    training.

    Attributes:
        maps: operations on anomaly maps; export replaces them.
        map_link: ``softplus`` where the maps went through it, which a rule of the image's score may
            undo.
        image_rule: how a map becomes the score of its part; part of the contract.
    """

    map_link: Link = "identity"

    def __init__(self) -> None:
        super().__init__()
        self.maps = MapPostprocessing()
        self.image_rule = ImageScoreRule()

    @property
    def export_obstacle(self) -> str | None:
        """Why it is no graph of tensor operations, as the end of a sentence; None if it is one."""
        return "its memory or its steps are no graph of tensors"

    @property
    def pretrained_weights(self) -> str | None:
        """Published weights of the frozen features, in words; None without frozen features."""
        return None

    @property
    def refits_agree(self) -> bool:
        """Whether two fits to nearly the same normals give a part nearly the same score.

        Then scores of several fits may be pooled, as a cross calibration does. A fusion, a head or
        a network that is trained by gradient steps ends at scores of another scale each time
        (decision 18).
        """
        return False

    @property
    def core(self) -> Detector:
        """The network itself, without what looks at its input in tiles."""
        return self

    @property
    def windowed_rule(self) -> ImageScoreRule:
        """The rule of the image's score, with windows as shares of the map's side."""
        return self.image_rule

    @property
    def keeps_products_apart(self) -> bool:
        """Whether one network serves several products, each with normals of its own.

        So it is where what was learnt of a product's normals lies in memories and statistics.
        """
        return False

    def frozen_pass(self, batch: RGBDBatch) -> None:
        """Compute the frozen features of a batch, for who times that; nothing where all learn."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load saved weights; raises ``RuntimeError`` or ``KeyError`` where they do not fit."""
        self.load_state_dict(state)

    def forward(self, batch: RGBDBatch) -> Any:
        """Compute what ``scores`` turns into a map; each detector has its own record."""
        raise NotImplementedError

    def scores(self, output: Any, foreground: Tensor) -> Tensor:
        """Compute anomaly maps ``(N, 1, S, S)``, at least 0, larger is more anomalous.

        Maps are 0 off the object.

        Args:
            output: of ``forward``.
            foreground: ``(N, 1, S, S)``, 1 on the object.
        """
        raise NotImplementedError

    def published_scores(self, output: Any) -> Tensor | None:
        """Return image-level scores ``(N,)`` by the method's own rule; None where it has none.

        Args:
            output: of ``forward``.
        """
        return None

    def image_scores(self, output: Any, maps: Tensor, foreground: Tensor) -> Tensor:
        """Compute image-level scores ``(N,)``, by the method's own rule or by ``image_rule``.

        Args:
            output: of ``forward``.
            maps: of ``scores``.
            foreground: ``(N, 1, S, S)``, 1 on the object.
        """
        published = self.published_scores(output)
        if published is not None:
            return published
        rule = self.windowed_rule
        return map_statistics(
            maps,
            foreground,
            terms=rule.terms,
            background=rule.reads_background,
            operations=self.maps,
        ).score(rule)


Features = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class FitStep:
    """One pass over the normal parts without gradient: statistics, memory banks, decision layers.

    ``Baseline.partial_fit(name, ...)`` receives every batch once, in the order of the parts; then
    ``Baseline.finish_fit(name)`` is called.
    """

    name: str


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Epochs of gradient steps that reduce ``Baseline.loss(name, ...)``.

    Attributes:
        name: of the step.
        modules: attributes of the baseline whose parameters are trained; the others are frozen.
        epochs: passes over the normal parts; a budget of minutes may end them earlier.
        learning_rate: of Adam at the start; it falls to a hundredth along half a cosine.
        batch: parts per step.
        weight_decay: of AdamW.
        synthetic: train on parts with synthetic anomalies, drawn anew in each epoch; ``loss`` then
            receives an ``RGBDBatch`` with masks and clean pictures instead of the result of
            ``extract_features``.
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


Step = FitStep | TrainStep


@dataclass(frozen=True, slots=True, eq=False)
class BaselineOutput:
    """Output of a baseline for a batch.

    Attributes:
        raw: ``(N, 1, h, w)`` distances from normal, at least 0, at the method's own resolution.
        image: ``(N,)`` image-level scores where the method has its own rule, else None.
    """

    raw: Tensor
    image: Tensor | None = None


class Baseline(Detector):
    """A detector that is fitted in ``steps`` and scores the features of a batch.

    Attributes:
        steps: in the order in which they run.
        modalities: the sensors that it reads, of ``("rgb", "geometry")``.
        smoothing: standard deviation of the map's Gaussian as a share of the crop's side; 0 leaves
            the map unsmoothed. Papers that smooth use 4 pixels of 224.
    """

    steps: tuple[Step, ...] = ()
    modalities: tuple[str, ...] = ("rgb", "geometry")
    smoothing: float = 4 / 224

    @property
    def refits_agree(self) -> bool:
        """True of statistics and memories alone: all steps are passes without gradient."""
        return all(isinstance(step, FitStep) for step in self.steps)

    @property
    def keeps_products_apart(self) -> bool:
        """True of statistics and memories alone, whose frozen features are those of any product."""
        return self.refits_agree

    def extract_features(self, batch: RGBDBatch) -> dict[str, Tensor]:
        """Extract frozen features of a batch; they are computed once per part, before the steps.

        Every tensor has the parts along its first axis. ``batch.xyz`` and ``batch.valid`` hold the
        points where the data have any; return ``batch.foreground`` as well where ``partial_fit``
        or ``loss`` needs the object.
        """
        raise NotImplementedError

    def frozen_pass(self, batch: RGBDBatch) -> None:
        """Extract the features that the steps read."""
        self.extract_features(batch)

    def partial_fit(self, step: str, features: Features, index: Tensor) -> None:
        """Fit to one batch of normal parts; ``index`` ``(N,)`` holds their owners.

        Parts with one owner are copies of one part, or of one group: none is compared with another.
        """
        raise NotImplementedError

    def finish_fit(self, step: str) -> None:
        """End the pass of a ``FitStep``."""

    def loss(self, step: str, batch: Any) -> Tensor:
        """Compute the scalar loss of a ``TrainStep``.

        Args:
            step: its name.
            batch: ``Features``, or an ``RGBDBatch`` with masks and clean pictures where the step is
                ``synthetic``.
        """
        raise NotImplementedError

    def predict(self, features: Features) -> BaselineOutput:
        """Compute distances from normal from the extracted features of parts."""
        raise NotImplementedError

    def forward(self, batch: RGBDBatch) -> BaselineOutput:
        """Extract features and predict."""
        return self.predict(self.extract_features(batch))

    def scores(self, output: BaselineOutput, foreground: Tensor) -> Tensor:
        """Resize the raw map, smooth it, and set it to zero off the object."""
        size = foreground.shape[-2:]
        maps = self.maps.resize(output.raw, size)
        if self.smoothing > 0:
            maps = self.maps.smooth(maps, sigma=self.smoothing * size[0])
        return maps * self.maps.dilated_foreground(foreground)

    def published_scores(self, output: BaselineOutput) -> Tensor | None:
        """Return the method's own image-level scores, if it has any."""
        return output.image
