"""The fusion search: alternate steps of weights and architecture, and keep the best genotype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import (
    Batch,
    PixelScores,
    run,
    step_losses,
    to_device,
)
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.search_steps import ArchitectureSteps, BestGenotype
from chiasm.training.schedule import (
    OPTIMISERS,
    SCHEDULES,
    Optimiser,
    Schedule,
    set_learning_rate,
    training_progress,
)
from chiasm.training.trainer import Budget


class FusionSearch(LightningModule):
    """Differentiable search of a fusion network, one architecture step before each weight step.

    The architecture is trained on other normals than the weights. The best genotype is that of the
    epoch with the highest pixel AP on a third set of normals, with anomalies of generators that
    neither was trained with. Test data are never used.

    Args:
        detector: with a ``FusionSupernet``.
        architecture_batches: loader for the architecture's steps.
        budget: whose spent fraction lowers the learning rate.
        epochs: planned.
        learning_rate, weight_decay, optimiser, schedule: of the weights, as in
            ``SegmentationTraining``.
        architecture_rate, architecture_decay, order, warm_up: as in ``ArchitectureSteps``.
        accumulate: micro-batches of a step of either, see ``step_losses``.

    References:
        Liu et al., DARTS, ICLR 2019; Yin et al., BM-NAS, AAAI 2022 (optimiser settings).
    """

    scales_losses = False  # the architecture's gradients are computed without the trainer

    def __init__(
        self,
        detector: AdnasDetector,
        *,
        architecture_batches: DataLoader[Any],
        budget: Budget,
        epochs: int,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        optimiser: Optimiser = "adamw",
        schedule: Schedule = "cosine",
        architecture_rate: float = 3e-3,
        architecture_decay: float = 1e-3,
        order: int = 1,
        warm_up: float = 0.3,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(detector.fusion, FusionSupernet):
            raise ValueError("Only a detector with a supernet can be searched.")
        self.automatic_optimization = False
        self.accumulate = accumulate
        self.detector = detector
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimiser = OPTIMISERS[optimiser]
        self.schedule = SCHEDULES[schedule]
        self.steps = ArchitectureSteps(
            detector,
            detector.fusion,
            batches=architecture_batches,
            rate=architecture_rate,
            decay=architecture_decay,
            order=order,
            warm_up=warm_up,
        )
        self.best = BestGenotype()
        self._pixels = PixelScores()

    @property
    def supernet(self) -> FusionSupernet:
        """The relaxed fusion network."""
        return cast(FusionSupernet, self.detector.fusion)

    def on_train_epoch_start(self) -> None:
        """Restart the architecture's batches in this epoch's order."""
        self.steps.start_epoch(self.current_epoch)

    def _losses(self, batch: Batch, *, with_reconstruction: bool) -> Iterator[Tensor]:
        return step_losses(
            self.detector,
            batch,
            accumulate=self.accumulate,
            with_reconstruction=with_reconstruction,
        )

    def training_step(self, batch: Batch, number: int) -> None:
        """Step the architecture on its own parts, then the weights."""
        weights, architecture = cast(list[Any], self.optimizers())
        fraction = training_progress(self.trainer, number, epochs=self.epochs, budget=self.budget)
        rate = self.learning_rate * self.schedule(fraction)
        set_learning_rate(weights, rate)

        if self.steps.due(fraction):
            # Lightning moves the batches of its own loaders alone.
            held_out = to_device(self.steps.next_batch(), self.device)
            architecture.zero_grad()
            # Reconstruction terms do not depend on the architecture.
            held_out_loss = self.steps.differentiate(
                training=lambda: self._losses(batch, with_reconstruction=True),
                validation=lambda: self._losses(held_out, with_reconstruction=False),
                rate=rate,
            )
            architecture.step()
            self.log("architecture_loss", held_out_loss, on_step=True, on_epoch=False)

        weights.zero_grad()
        loss = torch.zeros((), device=self.device)
        for part in self._losses(batch, with_reconstruction=True):
            self.manual_backward(part)
            loss += part.detach()
        weights.step()
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect the relaxed network's scores."""
        output = run(self.detector, batch)
        self._pixels.add(output.logits, batch)

    def on_validation_epoch_end(self) -> None:
        """Update the best genotype."""
        ap = self._pixels.average_precision()
        entropy = float(self.supernet.entropy())
        self.log("validation_ap", ap, prog_bar=True)
        self.log("entropy", entropy)
        self.best.update(
            self.supernet,
            ap,
            warm_up=self.steps.warming_up,
            epoch=float(self.current_epoch),
            validation_ap=ap,
            entropy=entropy,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the best genotype with the weights."""
        checkpoint["found"] = self.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the best genotype."""
        self.best.load_state_dict(checkpoint["found"])

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch to a device."""
        return to_device(batch, device)

    def configure_optimizers(self) -> Any:
        """The optimiser of the weights, and Adam with BM-NAS's settings for the architecture."""
        return [
            self.optimiser(
                self.steps.weights(), lr=self.learning_rate, weight_decay=self.weight_decay
            ),
            self.steps.optimiser(),
        ]
