"""The search: alternate between weights and architecture, keep the best genotype."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.training.segment import (
    Batch,
    PixelScores,
    cosine,
    mask_at,
    run,
    to_device,
    total_loss,
)
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.search_steps import ArchitectureSteps, BestGenotype
from chiasm.training.trainer import Budget


class FusionSearch(LightningModule):
    """Differentiable search of a fusion network, one architecture step before each weight step.

    The architecture sees held-out normals with anomalies that the weights' generators do not make;
    the genotype that is kept is that of the epoch with the highest pixel AP on a third set of the
    same kind. Test data have no part in it.

    Args:
        detector: with a ``FusionSupernet``.
        architecture_batches: loader for the architecture's steps.
        budget: whose spent fraction brings the learning rate down.
        epochs: planned.
        architecture_rate, architecture_decay, order, warm_up: as in ``ArchitectureSteps``.

    References:
        Liu et al., DARTS, ICLR 2019; Yin et al., BM-NAS, AAAI 2022 (optimiser settings).
    """

    def __init__(
        self,
        detector: AdnasDetector,
        *,
        architecture_batches: DataLoader[Any],
        budget: Budget,
        epochs: int,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        architecture_rate: float = 3e-3,
        architecture_decay: float = 1e-3,
        order: int = 1,
        warm_up: float = 0.3,
    ) -> None:
        super().__init__()
        if not isinstance(detector.fusion, FusionSupernet):
            raise ValueError("Only a detector with a supernet can be searched.")
        self.automatic_optimization = False
        self.detector = detector
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps = ArchitectureSteps(
            detector,
            detector.fusion,
            batches=architecture_batches,
            rate=architecture_rate,
            decay=architecture_decay,
            order=order,
            warm_up=warm_up,
        )
        self.found = BestGenotype()
        self._pixels = PixelScores()

    @property
    def supernet(self) -> FusionSupernet:
        """The relaxed fusion network."""
        return cast(FusionSupernet, self.detector.fusion)

    def on_train_epoch_start(self) -> None:
        """Begin the architecture's stream anew, in this epoch's order."""
        self.steps.start_epoch(self.current_epoch)

    def _loss(self, batch: Batch, *, with_reconstruction: bool) -> Tensor:
        output = run(self.detector, batch)
        return total_loss(
            output, batch, dice=self.detector.dice, with_reconstruction=with_reconstruction
        )

    def training_step(self, batch: Batch, number: int) -> None:
        """One step of the architecture on held-out parts, then one of the weights."""
        weights, architecture = cast(list[Any], self.optimizers())
        steps = max(int(self.trainer.num_training_batches), 1)
        done = (self.current_epoch + number / steps) / max(self.epochs, 1)
        done = max(done, self.budget.fraction)
        rate = self.learning_rate * cosine(done)
        for group in weights.param_groups:
            group["lr"] = rate

        if self.steps.due(done):
            held_out = self.steps.next_batch()
            architecture.zero_grad()
            # Reconstruction terms do not depend on the architecture: they are left out.
            held_out_loss = self.steps.differentiate(
                training=lambda: self._loss(batch, with_reconstruction=True),
                validation=lambda: self._loss(held_out, with_reconstruction=False),
                rate=rate,
            )
            architecture.step()
            self.log("architecture_loss", held_out_loss, on_step=True, on_epoch=False)

        weights.zero_grad()
        loss = self._loss(batch, with_reconstruction=True)
        self.manual_backward(loss)
        weights.step()
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect the relaxed network's scores."""
        output = run(self.detector, batch)
        self._pixels.add(output.logits, mask_at(batch, output.logits.shape[-2:]))

    def on_validation_epoch_end(self) -> None:
        """Keep the genotype if the relaxed network was never better."""
        ap = self._pixels.average_precision()
        entropy = float(self.supernet.entropy())
        self.log("validation_ap", ap, prog_bar=True)
        self.log("entropy", entropy)
        epoch = float(self.current_epoch)
        self.found.judge(self.supernet, ap, epoch=epoch, validation_ap=ap, entropy=entropy)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best genotype with the weights."""
        checkpoint["found"] = self.found.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best genotype again."""
        self.found.load_state_dict(checkpoint["found"])

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a record's tensors."""
        return to_device(batch, device)

    def configure_optimizers(self) -> Any:
        """AdamW for the weights, Adam with BM-NAS's settings for the architecture."""
        return [
            torch.optim.AdamW(
                self.steps.weights(), lr=self.learning_rate, weight_decay=self.weight_decay
            ),
            self.steps.optimiser(),
        ]
