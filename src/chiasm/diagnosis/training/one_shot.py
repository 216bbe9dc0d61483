"""Training of the weights of all classifiers' fusions at once, and the judgement of one of them."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.diagnosis.batch import modalities_of, moved, without
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.dataset import Views
from chiasm.fusion.evolution import FusionSpace
from chiasm.fusion.genotype import Genotype, concatenation
from chiasm.fusion.one_shot import OneShotFusion, taking
from chiasm.metrics.classification import macro_f1

WHOLE = 0.25  # share of the steps that train the concatenation of everything


class ClassOneShotTraining(ClassTraining):
    """Training of a ``OneShotFusion``: each step trains one architecture, drawn from the space.

    Args:
        network: with a ``OneShotFusion``; its norms are those of samples, which any path may take.
        space: of the architectures.
        settings: of ``ClassTraining``.

    References:
        Guo et al., Single Path One-Shot Neural Architecture Search, ECCV 2020.
    """

    def __init__(self, network: FusedClassifier, *, space: FusionSpace, **settings: Any) -> None:
        super().__init__(network, **settings)
        self.space = space
        self.fusion = cast(OneShotFusion, network.fusion)

    def training_step(self, batch: Views, number: int) -> Tensor:
        """Train one architecture for a step; which one depends on seed and step alone."""
        rng = random.Random(self.seed * 1_000_003 + self.global_step)
        whole = rng.random() < WHOLE
        path = concatenation(self.space.pools) if whole else self.space.draw(rng)
        with taking(self.fusion, path):
            return super().training_step(batch, number)


@torch.inference_mode()
def judge_classes(
    network: FusedClassifier,
    genotype: Genotype,
    batches: DataLoader[Any],
    *,
    alone: bool,
) -> dict[str, float]:
    """Return figures of an architecture with shared weights on validation recordings.

    Args:
        network: with a trained ``OneShotFusion``, in evaluation mode.
        genotype: to judge.
        batches: of validation recordings.
        alone: whether ``validation_score`` is the mean of the macro-F1 with all modalities and with
            each one absent, as for a training with modality dropout; else it is that with all.
    """
    logits: dict[str | None, list[Tensor]] = {}
    labels: list[Tensor] = []
    with taking(cast(OneShotFusion, network.fusion), genotype):
        for (view,) in batches:
            view = moved(view, network.device)
            assert view.label is not None
            modalities = modalities_of(view)
            dropouts = [None, *modalities] if alone and len(modalities) > 1 else [None]
            for dropped in dropouts:
                answer = network(without(view, dropped), density=False).logits.float()
                logits.setdefault(dropped, []).append(answer)
            labels.append(view.label)
    truth = torch.cat(labels)
    joined = {dropped: torch.cat(values) for dropped, values in logits.items()}
    scores = [macro_f1(truth.cpu(), x.argmax(dim=1).cpu(), x.shape[1]) for x in joined.values()]
    return {
        "validation_score": float(np.mean(scores)),
        "validation_loss": float(F.cross_entropy(joined[None], truth)),
    }
