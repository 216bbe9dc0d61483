"""Training of the weights of all architectures at once, and the judgement of one of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import (
    Batch,
    SegmentationTraining,
    mask_at,
    run,
    to_device,
)
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.fusion.one_shot import OneShotFusion, batch_statistics, taking
from chiasm.metrics.ranking import average_precision
from chiasm.training.device import device_of

WHOLE = 0.25  # share of the steps that train the concatenation of everything


class OneShotTraining(SegmentationTraining):
    """Training of a ``OneShotFusion``: each step trains one architecture, drawn from the space.

    A quarter of the steps train the hand-made concatenation, so that the weights of which others
    take a part are trained together, too.

    Args:
        detector: with a ``OneShotFusion``.
        space: of the architectures.
        seed: of the draws.
        settings: of ``SegmentationTraining``.

    References:
        Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV
        2020; Yu, Huang, Universally Slimmable Networks, ICCV 2019 (the largest one in any case).
    """

    def __init__(
        self, detector: AdnasDetector, *, space: FusionSpace, seed: int, **settings: Any
    ) -> None:
        super().__init__(detector, **settings)
        if not isinstance(detector.fusion, OneShotFusion):
            raise ValueError("Only a detector with the weights of all architectures can be drawn.")
        self.space = space
        self.seed = seed

    @property
    def fusion(self) -> OneShotFusion:
        """The weights of all architectures."""
        return cast(OneShotFusion, self.detector.fusion)

    def training_step(self, batch: Batch, number: int) -> None:
        """Train one architecture for a step; which one depends on seed and step alone."""
        rng = random.Random(self.seed * 1_000_003 + self.global_step)
        whole = rng.random() < WHOLE
        path = concatenation(self.space.pools) if whole else self.space.draw(rng)
        with taking(self.fusion, path):
            super().training_step(batch, number)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect the scores of the hand-made concatenation."""
        with batch_statistics(self.detector):
            super().validation_step(batch, number)


class ArchitectureJudge:
    """The pixel AP of architectures with shared weights, on held-out normals.

    Args:
        detector: with a trained ``OneShotFusion``.
        batches: of held-out parts, in a fixed order.
        families: of each of these parts the family of its synthetic anomaly, "" for a good one.
    """

    def __init__(
        self,
        detector: AdnasDetector,
        *,
        batches: DataLoader[Any],
        families: Sequence[str],
    ) -> None:
        self.detector = detector.eval()
        self.batches = batches
        self.families = np.asarray(families)

    @torch.inference_mode()
    def __call__(self, genotype: Genotype) -> dict[str, float]:
        """Return the AP of each family, as ``ap:FAMILY``, and their mean as ``validation_ap``."""
        fusion = cast(OneShotFusion, self.detector.fusion)
        scores, masks = [], []
        lowest = np.finfo(np.float32).min  # beside the object, where the map is zero
        with taking(fusion, genotype), batch_statistics(self.detector):
            for batch in self.batches:
                batch = to_device(batch, device_of(self.detector))
                logits = run(self.detector, batch).logits.float()
                size = logits.shape[-2:]
                odds = (logits[:, 1] - logits[:, 0]).cpu().numpy()
                inside = cells_inside(batch.foreground, size).cpu().numpy()
                scores.append(np.where(inside, odds, lowest))
                masks.append(inside & (mask_at(batch, size)[:, 0].cpu().numpy() > 0))
        return family_precisions(np.concatenate(scores), np.concatenate(masks), self.families)


def family_precisions(
    scores: np.ndarray, masks: np.ndarray, families: np.ndarray
) -> dict[str, float]:
    """Return the pixel AP of each family of anomalies, and their mean as ``validation_ap``.

    The AP of a family is that of its parts and the good ones.

    Args:
        scores, masks: ``(N, s, s)``.
        families: ``(N,)`` names, "" for a part without an anomaly.
    """
    good = families == ""
    precisions = {}
    for family in sorted(set(families) - {""}):
        chosen = good | (families == family)
        if masks[chosen].any():
            precisions[f"ap:{family}"] = average_precision(
                scores[chosen].ravel(), masks[chosen].ravel()
            )
    mean = float(np.mean(list(precisions.values()))) if precisions else float("nan")
    return {"validation_ap": mean, **precisions}
