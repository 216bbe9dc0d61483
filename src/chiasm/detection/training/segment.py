"""Training of a detector with a fixed fusion: weights only."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from chiasm.detection.layers.features import SourcedFeatures, clean_images_of
from chiasm.detection.layers.segmentation import reconstruction_loss, segmentation_loss
from chiasm.detection.models.adnas import AdnasDetector, DetectorOutput
from chiasm.detection.training.feature_store import StoredBatch
from chiasm.metrics.ranking import average_precision
from chiasm.samples import RGBDBatch
from chiasm.training.schedule import (
    OPTIMISERS,
    SCHEDULES,
    Optimiser,
    Schedule,
    set_learning_rate,
    training_progress,
)
from chiasm.training.trainer import Budget


class PixelScores:
    """Scores and masks of an epoch, and their pixel-level average precision."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._masks: list[Tensor] = []

    def add(self, logits: Tensor, mask: Tensor) -> None:
        """Add a batch of logits ``(N, 2, s, s)`` and masks ``(N, 1, s, s)``."""
        logits = logits.detach().float()  # before the difference, which bfloat16 would round
        self._scores.append((logits[:, 1] - logits[:, 0]).flatten())
        self._masks.append(mask.detach().bool().flatten())

    def average_precision(self) -> float:
        """Compute the pixel AP and reset; NaN without anomalous pixels."""
        scores = torch.cat(self._scores).cpu().numpy()
        masks = torch.cat(self._masks).cpu().numpy()
        self._scores, self._masks = [], []
        return average_precision(scores, masks) if masks.any() else math.nan


class SegmentationTraining(LightningModule):
    """Training of fusion and head, and of a source that learns.

    Args:
        detector: trained in place.
        budget: whose spent fraction lowers the learning rate.
        epochs: planned; the schedule follows epochs or budget, whichever has advanced further.
        learning_rate, weight_decay: at the start.
        optimiser, schedule: of the weights, by name in ``chiasm.training.schedule``.
    """

    def __init__(
        self,
        detector: AdnasDetector,
        *,
        budget: Budget,
        epochs: int,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        optimiser: Optimiser = "adamw",
        schedule: Schedule = "cosine",
    ) -> None:
        super().__init__()
        self.detector = detector
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimiser = OPTIMISERS[optimiser]
        self.schedule = SCHEDULES[schedule]
        self._pixels = PixelScores()
        self.validation_ap: list[float] = []

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Run one step of the weights at the current learning rate."""
        done = training_progress(self.trainer, number, epochs=self.epochs, budget=self.budget)
        set_learning_rate(self.trainer.optimizers[0], self.learning_rate * self.schedule(done))
        loss = total_loss(run(self.detector, batch), batch, dice=self.detector.dice)
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the figures of all epochs with the weights."""
        checkpoint["validation_ap"] = self.validation_ap

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the figures of the epochs before."""
        self.validation_ap = list(checkpoint["validation_ap"])

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to a device."""
        return to_device(batch, device)

    def configure_optimizers(self) -> Any:
        """Optimise every parameter that requires a gradient."""
        parameters = [p for p in self.detector.parameters() if p.requires_grad]
        return self.optimiser(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


Batch = StoredBatch | RGBDBatch

Record = TypeVar("Record", bound=StoredBatch | RGBDBatch | SourcedFeatures)


def to_device(record: Record, device: torch.device) -> Record:
    """Copy a record to a device; Lightning does not move frozen dataclasses."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, dict):
            return {name: move(item) for name, item in value.items()}
        if isinstance(value, SourcedFeatures):
            return to_device(value, device)
        return value

    return replace(record, **{f.name: move(getattr(record, f.name)) for f in fields(record)})


def run(detector: AdnasDetector, batch: Batch) -> DetectorOutput:
    """Run a detector on stored features or on a batch of pictures."""
    if isinstance(batch, StoredBatch):
        return detector.fuse(batch.features)
    output: DetectorOutput = detector(batch)
    return output


def mean_relative(output: DetectorOutput, size: torch.Size | None = None) -> Tensor:
    """Average the modalities' relative distances from normal ``(N, 1, h, w)``.

    Args:
        output: of a detector with a frozen source.
        size: h and w; None takes that of the first modality.
    """
    maps = list(output.relative.values())
    size = maps[0].shape[-2:] if size is None else size
    scaled = [torch.nn.functional.interpolate(m, size=tuple(size), mode="bilinear") for m in maps]
    return torch.stack(scaled).mean(0)


def mask_at(batch: Batch, size: torch.Size) -> Tensor:
    """Resize the mask: a coarser pixel is anomalous if any of its pixels is."""
    assert batch.mask is not None
    return torch.nn.functional.adaptive_max_pool2d(batch.mask, tuple(size))


def total_loss(
    output: DetectorOutput, batch: Batch, *, dice: bool, with_reconstruction: bool = True
) -> Tensor:
    """Add the segmentation loss and the reconstruction terms of a source that reconstructs.

    The target of a reconstruction is the part without its synthetic anomaly: the network is to
    restore what is abnormal to normal.

    References:
        3D-ADNAS, Preliminaries; Chen et al., EasyNet, ACM MM 2023.
    """
    loss = segmentation_loss(output.logits, mask_at(batch, output.logits.shape[-2:]), dice=dice)
    if with_reconstruction and isinstance(batch, RGBDBatch):
        for modality, reconstruction in output.reconstructions.items():
            loss = loss + reconstruction_loss(
                reconstruction, clean_images_of(batch, modality), structural=modality == "rgb"
            )
    return loss
