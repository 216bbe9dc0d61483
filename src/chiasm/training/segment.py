"""Training of a detector whose fusion is settled: weights only."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from chiasm.detectors.adnas import AdnasDetector
from chiasm.metrics.ranking import average_precision
from chiasm.training.objective import Batch, mask_at, run, to_device, total_loss
from chiasm.training.trainer import Budget


def cosine(fraction: float, *, floor: float = 0.01) -> float:
    """Learning-rate factor that falls from 1 to ``floor`` along half a cosine."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))


class PixelScores:
    """Collects scores and masks over an epoch and gives the pixel-level average precision."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._masks: list[Tensor] = []

    def add(self, logits: Tensor, mask: Tensor) -> None:
        """Add a batch of logits ``(N, 2, s, s)`` and masks ``(N, 1, s, s)``."""
        self._scores.append((logits[:, 1] - logits[:, 0]).detach().float().flatten())
        self._masks.append(mask.detach().bool().flatten())

    def average_precision(self) -> float:
        """Pixel AP of what was added; NaN without anomalous pixels. Forgets everything."""
        scores = torch.cat(self._scores).numpy()
        masks = torch.cat(self._masks).numpy()
        self._scores, self._masks = [], []
        return average_precision(scores, masks) if masks.any() else math.nan


class SegmentationTraining(LightningModule):
    """Adam on fusion and head (and source, where it learns), cosine learning rate.

    Args:
        detector: to be trained in place.
        budget: whose spent fraction brings the learning rate down.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: at the start.
        dice: add cross-entropy and Dice to the focal loss.
    """

    def __init__(
        self,
        detector: AdnasDetector,
        *,
        budget: Budget,
        epochs: int,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        dice: bool = True,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dice = dice
        self._pixels = PixelScores()
        self.validation_ap: list[float] = []

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """One step of the weights."""
        steps = max(int(self.trainer.num_training_batches), 1)
        done = (self.current_epoch + number / steps) / max(self.epochs, 1)
        factor = cosine(max(done, self.budget.fraction))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate * factor
        loss = total_loss(run(self.detector, batch), batch, dice=self.dice)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect scores on held-out normals with anomalies of other generators."""
        output = run(self.detector, batch)
        self._pixels.add(output.logits, mask_at(batch, output.logits.shape[-2:]))

    def on_validation_epoch_end(self) -> None:
        """Log the pixel-level average precision."""
        ap = self._pixels.average_precision()
        self.validation_ap.append(ap)
        self.log("validation_ap", ap, prog_bar=True)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a record's tensors."""
        return to_device(batch, device)

    def configure_optimizers(self) -> Any:
        """Adam over whatever requires a gradient."""
        parameters = [p for p in self.detector.parameters() if p.requires_grad]
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
