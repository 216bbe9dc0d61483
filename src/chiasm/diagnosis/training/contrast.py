"""First stage of a classifier: contrast pulls vectors of a class together and classes apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from chiasm.diagnosis.augmentation.views import drop_modality
from chiasm.diagnosis.batch import modalities_of, moved, without
from chiasm.diagnosis.classifier import Classifier, ClassifierOutput
from chiasm.diagnosis.layers.contrastive import SupervisedContrast
from chiasm.diagnosis.training.dataset import Views, counted
from chiasm.training.ranks import gather_rows, sharing
from chiasm.training.schedule import (
    WARM_UP,
    cosine,
    decayed_adamw,
    set_learning_rate,
    training_progress,
)
from chiasm.training.trainer import Budget


class ContrastTraining(LightningModule):
    """Supervised contrast of random views, and optionally the flows' likelihood.

    Logs the entropy of the gates and, of training and of validation, the share of the contrast
    between its floor and chance: 0 if the classes are as far apart as possible, 1 if all vectors
    are equal. The loss itself grows with the number of vectors, and rows of other modalities have
    others.

    Args:
        network: trained in place.
        budget: its spent fraction lowers the learning rate.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: highest value.
        flow_weight: of the flows' negative log-likelihood; 0 does not compute it.
        modality_dropout: probability that a view of a batch lacks one modality.
        parts: vectors to contrast: ``"joint"``, as in the paper, and names of modalities.
        temperature: of the contrast.
        seed: of every random number.
    """

    def __init__(
        self,
        network: Classifier,
        *,
        budget: Budget,
        epochs: int,
        learning_rate: float,
        flow_weight: float = 0.0,
        modality_dropout: float = 0.15,
        parts: Sequence[str] = ("joint",),
        temperature: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.contrast = SupervisedContrast(temperature=temperature)
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.flow_weight = flow_weight
        self.modality_dropout = modality_dropout
        self.parts = tuple(parts)
        self.seed = seed
        self._validation: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Views, number: int) -> Tensor:
        """Contrast the views of a batch."""
        follow_schedule(self, number)
        # The flows' noise depends on the step alone, so that a resumed run has the same noise.
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        rng = np.random.default_rng([self.seed, self.current_epoch, number])
        labels = batch[0].label
        assert labels is not None
        with sharing(counted(batch[0])):
            outputs = [
                self.network(
                    without(view, drop_modality(modalities_of(view), self.modality_dropout, rng)),
                    density=self.flow_weight > 0,
                )
                for view in batch
            ]
            vectors = torch.cat([self.network.project(o, self.parts) for o in outputs], dim=1)
            vectors, labels = gather_rows(vectors), gather_rows(labels)
            penalty = _flow_penalty(self, outputs)
        loss = self.contrast(vectors, labels)
        share = self.contrast.monitor(loss, labels, views=vectors.shape[1])
        self.log("contrast_share", share, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        log_gates(self, outputs[-1], number)
        return loss + penalty

    def validation_step(self, batch: Views, number: int) -> None:
        """Collect the vectors of validation recordings, in fixed views."""
        labels = batch[0].label
        assert labels is not None
        vectors = [self.network.project(self.network(view), self.parts) for view in batch]
        self._validation.append((torch.cat(vectors, dim=1), labels))

    def on_validation_epoch_end(self) -> None:
        """Log the contrast of the validation recordings of all batches together."""
        # Recordings that lack a modality have fewer vectors; each vector is an anchor of its own.
        vectors = torch.cat([rows.flatten(0, 1) for rows, _ in self._validation])
        labels = torch.cat([y.repeat_interleave(rows.shape[1]) for rows, y in self._validation])
        self._validation.clear()
        loss = self.contrast(vectors[:, None], labels)
        self.log("validation_contrast", loss, prog_bar=True)
        self.log("validation_contrast_share", self.contrast.monitor(loss, labels, views=1))

    def transfer_batch_to_device(
        self, batch: Views, device: torch.device, dataloader_idx: int
    ) -> Views:
        """Move the tensors of the views."""
        return tuple(moved(view, device) for view in batch)

    def configure_optimizers(self) -> Any:
        """Return AdamW; the head of the second stage has no gradient in this stage."""
        return decayed_adamw(self.network, learning_rate=self.learning_rate)


def follow_schedule(module: Any, number: int) -> float:
    """Set the learning rate of a step, and return the share of the training that is done.

    That is the share of the epochs or of the budget, whichever is larger.
    """
    done = training_progress(module.trainer, number + 1, epochs=module.epochs, budget=module.budget)
    rate = module.learning_rate * cosine(done, warm_up=WARM_UP)
    set_learning_rate(module.trainer.optimizers[0], rate)
    return done


def _flow_penalty(module: Any, outputs: Sequence[ClassifierOutput]) -> Tensor | float:
    """Return the weighted negative log-likelihood of all outputs and modalities."""
    if not module.flow_weight:
        return 0.0
    terms = [gather_rows(nll).mean() for output in outputs for nll in output.flow_nll.values()]
    if not terms:  # a network without flows
        return 0.0
    nll = torch.stack(terms).mean()
    module.log("flow_nll", nll, on_step=False, on_epoch=True, batch_size=1)
    penalty: Tensor = module.flow_weight * nll
    return penalty


def log_gates(module: Any, output: ClassifierOutput, number: int) -> None:
    """Log once an epoch how undecided the gates are and how evenly they use the experts, 0 to 1.

    The figures go to the loggers alone: they are too many for a line of progress.
    """
    if number:
        return
    shares = {
        f"{name}_{figure}": float(getattr(gates, figure).detach().mean())
        / math.log(gates.usage.shape[-1])
        for name, gates in output.gates.items()
        for figure in ("token_entropy", "usage_entropy")
        if gates.usage.shape[-1] > 1
    }
    for logger in module.loggers:
        logger.log_metrics(shares, step=module.global_step)
