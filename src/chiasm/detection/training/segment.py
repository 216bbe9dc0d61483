"""Training of a detector with a fixed fusion: weights only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import accumulate as running_sums
from typing import Any, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from chiasm.detection.layers.features import SourcedFeatures, clean_images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.segmentation import Loss, reconstruction_loss, segmentation_loss
from chiasm.detection.models.adnas import AdnasDetector, DetectorOutput
from chiasm.detection.training.feature_store import StoredBatch
from chiasm.metrics.ranking import average_precision
from chiasm.samples import RGBDBatch
from chiasm.training.device import placed
from chiasm.training.ranks import Rank, Share, rank_rows, sharing
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
    """Scores and masks of an epoch, and the average precision of the object's pixels.

    Others do not count: the anomaly map is zero there, and a loss of the object's pixels alone
    leaves the network's answer beside it open.
    """

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._masks: list[Tensor] = []

    def add(self, logits: Tensor, batch: Batch) -> None:
        """Add the logits ``(N, 2, s, s)`` of a batch."""
        logits = logits.detach().float()  # before the difference, which bfloat16 would round
        size = logits.shape[-2:]
        inside = cells_inside(batch.foreground, size)
        self._scores.append((logits[:, 1] - logits[:, 0])[inside])
        self._masks.append(mask_at(batch, size)[:, 0].bool()[inside])

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
        accumulate: micro-batches of a step, see ``step_losses``.
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
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step may have several backward passes
        self.accumulate = accumulate
        self.detector = detector
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimiser = OPTIMISERS[optimiser]
        self.schedule = SCHEDULES[schedule]
        self._pixels = PixelScores()
        self.validation_ap: list[float] = []
        self._steps_before = 0

    def training_step(self, batch: Batch, number: int) -> None:
        """Run one step of the weights at the current learning rate."""
        weights = cast(LightningOptimizer, self.optimizers())
        done = training_progress(self.trainer, number, epochs=self.epochs, budget=self.budget)
        set_learning_rate(weights, self.learning_rate * self.schedule(done))
        weights.zero_grad()
        loss = torch.zeros((), device=self.device)
        for part in step_losses(self.detector, batch, accumulate=self.accumulate):
            self.manual_backward(part)
            loss += part.detach()
        weights.step()
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect scores on held-out normals with anomalies of other generators."""
        output = run(self.detector, batch)
        self._pixels.add(output.logits, batch)

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
        self._steps_before = int(checkpoint["global_step"])

    @property
    def steps(self) -> int:
        """Steps of the weights, also where other processes made them."""
        return max(self.global_step, self._steps_before)

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
    return _with_tensors(record, lambda value: placed(value, device))


def _with_tensors(record: Record, change: Callable[[Tensor], Tensor]) -> Record:
    """Return a copy of a record with each of its tensors changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value)
        if isinstance(value, dict):
            return {name: changed(item) for name, item in value.items()}
        if isinstance(value, SourcedFeatures):
            return _with_tensors(value, change)
        return value

    return replace(record, **{f.name: changed(getattr(record, f.name)) for f in fields(record)})


def rows_of(batch: Record, rows: slice) -> Record:
    """Return some parts of a batch."""
    return _with_tensors(batch, lambda value: value[rows])


def micro_batches(batch: Batch, count: int, *, share: Share | None = None) -> list[Batch]:
    """Divide a batch into at most ``count`` of equally many parts, the last with what is left.

    Args:
        batch: of this process.
        count: of micro-batches.
        share: of a batch that lies on several ranks, which divide each micro-batch among them.
    """
    rank = Rank() if share is None else share.rank
    total = len(batch.foreground) if share is None else share.total
    ends = list(running_sums(len(r) for r in rank_rows(total, rank=rank, micro=count)))
    return [rows_of(batch, slice(start, end)) for start, end in zip([0, *ends], ends)]


def run(detector: AdnasDetector, batch: Batch) -> DetectorOutput:
    """Run a detector on stored features or on a batch of pictures."""
    if isinstance(batch, StoredBatch):
        return detector.fuse(batch.features)
    output: DetectorOutput = detector(batch)
    return output


def mask_at(batch: Batch, size: torch.Size) -> Tensor:
    """Resize the mask: a coarser pixel is anomalous if any of its pixels is."""
    assert batch.mask is not None
    return torch.nn.functional.adaptive_max_pool2d(batch.mask, tuple(size))


def step_losses(
    detector: AdnasDetector, batch: Batch, *, accumulate: int, with_reconstruction: bool = True
) -> Iterator[Tensor]:
    """Yield the losses of the micro-batches of a step, weighted by their shares of its parts.

    Differentiate each before the next is computed: the activations of one are then kept at a time.
    The losses are means over parts, so that their sum is the loss of the batch; but Dice, and means
    over the object's pixels, are of a micro-batch, and batch norms in training see the mean and
    variance of a micro-batch. Where several ranks train, batch and micro-batches are those of all
    of them together.
    """
    with sharing(len(batch.foreground)) as share:
        total = share.total
    for micro in micro_batches(batch, accumulate, share=share):
        with sharing(len(micro.foreground)) as share:
            loss = total_loss(
                run(detector, micro),
                micro,
                loss=detector.loss,
                with_reconstruction=with_reconstruction,
            )
        yield loss if accumulate == 1 else loss * (share.total / total)


def total_loss(
    output: DetectorOutput, batch: Batch, *, loss: Loss, with_reconstruction: bool = True
) -> Tensor:
    """Add the segmentation loss and the reconstruction terms of a source that reconstructs.

    The target of a reconstruction is the part without its synthetic anomaly: the network is to
    restore what is abnormal to normal.

    Args:
        output: of the batch.
        batch: with its masks.
        loss: ``focal`` as published, ``focal_dice``, or ``object``: that of the object's pixels.
        with_reconstruction: whether the terms of the reconstruction are added.

    References:
        3D-ADNAS, Preliminaries; Chen et al., EasyNet, ACM MM 2023.
    """
    size = output.logits.shape[-2:]
    of_object = loss == "object"
    total = segmentation_loss(
        output.logits,
        mask_at(batch, size),
        dice=loss != "focal",
        inside=cells_inside(batch.foreground, size)[:, None] if of_object else None,
    )
    if with_reconstruction and isinstance(batch, RGBDBatch):
        for modality, reconstruction in output.reconstructions.items():
            total = total + reconstruction_loss(
                reconstruction,
                clean_images_of(batch, modality),
                structural=modality == "rgb",
                inside=batch.foreground if of_object else None,
            )
    return total
