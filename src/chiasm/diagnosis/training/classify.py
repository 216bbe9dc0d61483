"""Second stage of a classifier: cross-entropy, evaluated by macro-F1 on validation recordings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from chiasm.diagnosis.augmentation.views import drop_modality
from chiasm.diagnosis.batch import modalities_of, moved, without
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.training.contrast import follow_schedule, log_gates
from chiasm.diagnosis.training.dataset import Views, counted
from chiasm.metrics.classification import macro_f1
from chiasm.training.ranks import gather_rows, sharing
from chiasm.training.schedule import decayed_adamw
from chiasm.training.trainer import Budget


class ClassTraining(LightningModule):
    """Cross-entropy on random views of the training recordings.

    Logs macro-F1 and cross-entropy of the validation recordings as ``validation_f1`` and
    ``validation_loss``. ``validation_score``, by which the best epoch is chosen, is macro-F1 or,
    with modality dropout, its mean with all modalities and with each one alone.

    Args:
        network: trained in place.
        budget: its spent fraction lowers the learning rate.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: highest value.
        modality_dropout: probability that a batch lacks one modality.
        smoothing: share of the label that goes to all classes alike.
        seed: of every random number.
    """

    def __init__(
        self,
        network: Classifier,
        *,
        budget: Budget,
        epochs: int,
        learning_rate: float,
        modality_dropout: float = 0.15,
        smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.modality_dropout = modality_dropout
        self.smoothing = smoothing
        self.seed = seed
        self._validation: dict[str | None, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def training_step(self, batch: Views, number: int) -> Tensor:
        """Train on one view of each recording."""
        follow_schedule(self, number)
        rng = np.random.default_rng([self.seed, self.current_epoch, number])
        (view,) = batch
        dropped = drop_modality(modalities_of(view), self.modality_dropout, rng)
        assert view.label is not None
        with sharing(counted(view)):
            output = self.network(without(view, dropped), density=False)
            logits, labels = gather_rows(output.logits.float()), gather_rows(view.label)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        log_gates(self, output, number)
        return loss

    def validation_step(self, batch: Views, number: int) -> None:
        """Collect logits of validation recordings, unchanged and without each modality."""
        (view,) = batch
        assert view.label is not None
        modalities = modalities_of(view)
        dropouts: list[str | None] = [None]
        if self.modality_dropout > 0 and len(modalities) > 1:
            dropouts += modalities
        for dropped in dropouts:
            logits = self.network(without(view, dropped)).logits.float()
            self._validation[dropped].append((logits, view.label))

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all validation recordings."""
        f1 = {}
        for dropped, values in self._validation.items():
            logits, labels = (torch.cat(parts) for parts in zip(*values))
            f1[dropped] = macro_f1(labels.cpu(), logits.argmax(dim=1).cpu(), logits.shape[1])
            if dropped is None:
                self.log("validation_loss", F.cross_entropy(logits, labels), prog_bar=True)
                self.log("validation_f1", f1[None], prog_bar=True)
        self._validation.clear()
        self.log("validation_score", float(np.mean(list(f1.values()))))

    def transfer_batch_to_device(
        self, batch: Views, device: torch.device, dataloader_idx: int
    ) -> Views:
        """Move the tensors of the views."""
        return tuple(moved(view, device) for view in batch)

    def configure_optimizers(self) -> Any:
        """Return AdamW; the projection of the first stage has no gradient in this stage."""
        return decayed_adamw(self.network, learning_rate=self.learning_rate)
