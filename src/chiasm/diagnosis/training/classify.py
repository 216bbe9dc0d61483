"""Second stage of a classifier: cross-entropy, judged by macro-F1 on held-out recordings."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from chiasm.diagnosis.augmentation.views import drop_modality
from chiasm.diagnosis.classifier import Classifier
from chiasm.diagnosis.training.contrast import follow_schedule, log_gates, present, without
from chiasm.diagnosis.training.dataset import Views, moved
from chiasm.metrics.classification import macro_f1
from chiasm.training.schedule import decayed_adamw
from chiasm.training.trainer import Budget


class ClassTraining(LightningModule):
    """Cross-entropy on random views of the training recordings.

    Logs the macro-F1 and the cross-entropy of the held-out ones, as ``validation_f1`` and
    ``validation_loss``; and as ``validation_score`` what the best epoch is chosen by: where
    modalities are dropped, the mean macro-F1 with all of them and with each one alone.

    Args:
        network: to be trained in place.
        budget: whose spent fraction brings the learning rate down.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: at its highest.
        modality_dropout: probability that a batch lacks one modality.
        smoothing: share of the label that goes to all classes alike.
        seed: of everything random.
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
        """One step on one view of each recording."""
        follow_schedule(self, number)
        rng = np.random.default_rng([self.seed, self.current_epoch, number])
        (view,) = batch
        dropped = drop_modality(present(view), self.modality_dropout, rng)
        output = self.network(without(view, dropped), density=False)
        assert view.label is not None
        loss = F.cross_entropy(output.logits.float(), view.label, label_smoothing=self.smoothing)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        log_gates(self, output, number)
        return loss

    def validation_step(self, batch: Views, number: int) -> None:
        """Collect logits of held-out recordings, plain ones, also without each modality."""
        (view,) = batch
        assert view.label is not None
        there = present(view)
        absent: list[str | None] = [None]
        if self.modality_dropout > 0 and len(there) > 1:
            absent += there
        for dropped in absent:
            logits = self.network(without(view, dropped)).logits.float()
            self._validation[dropped].append((logits, view.label))

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all held-out recordings."""
        found = {}
        for dropped, values in self._validation.items():
            logits, labels = (torch.cat(parts) for parts in zip(*values))
            found[dropped] = macro_f1(labels.cpu(), logits.argmax(dim=1).cpu(), logits.shape[1])
            if dropped is None:
                self.log("validation_loss", F.cross_entropy(logits, labels), prog_bar=True)
                self.log("validation_f1", found[None], prog_bar=True)
        self._validation.clear()
        self.log("validation_score", float(np.mean(list(found.values()))))

    def transfer_batch_to_device(
        self, batch: Views, device: torch.device, dataloader_idx: int
    ) -> Views:
        """Move the views' tensors."""
        return tuple(moved(view, device) for view in batch)

    def configure_optimizers(self) -> Any:
        """AdamW; the projection of the first stage has no gradient any more."""
        return decayed_adamw(self.network, learning_rate=self.learning_rate)
