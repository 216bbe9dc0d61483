"""The search: alternate between weights and architecture, keep the best genotype."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.detectors.adnas import AdnasDetector
from chiasm.fusion.alternation import second_order_gradients
from chiasm.fusion.genotype import Genotype
from chiasm.fusion.network import FusionSupernet
from chiasm.training.objective import Batch, mask_at, run, to_device, total_loss
from chiasm.training.segment import PixelScores, cosine
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
        order: 1 (alternation) or 2 (DARTS, unrolled by finite differences).
        warm_up: share of the steps in which the weights alone are trained. Without it, the cells'
            outputs are still noise when the architecture chooses between them and frozen features,
            and early and middle cells are voted out before they can do anything.

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
        dice: bool = True,
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
        self.architecture_rate = architecture_rate
        self.architecture_decay = architecture_decay
        self.order = order
        self.warm_up = warm_up
        self.dice = dice
        self._architecture_batches = architecture_batches
        self._stream: Iterator[Batch] = iter(())
        self._pixels = PixelScores()
        self.best_ap = -math.inf
        self.best: Genotype | None = None
        self.history: list[dict[str, float]] = []

    @property
    def supernet(self) -> FusionSupernet:
        """The relaxed fusion network."""
        return cast(FusionSupernet, self.detector.fusion)

    def on_train_epoch_start(self) -> None:
        """Begin the architecture's stream anew, in this epoch's order."""
        sampler = self._architecture_batches.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.current_epoch)
        self._stream = iter(self._architecture_batches)

    def _architecture_batch(self) -> Batch:
        try:
            return next(self._stream)
        except StopIteration:
            self._stream = iter(self._architecture_batches)
            return next(self._stream)

    def _loss(self, batch: Batch, *, with_reconstruction: bool) -> Tensor:
        output = run(self.detector, batch)
        return total_loss(output, batch, dice=self.dice, with_reconstruction=with_reconstruction)

    def training_step(self, batch: Batch, number: int) -> None:
        """One step of the architecture on held-out parts, then one of the weights."""
        weights, architecture = cast(list[Any], self.optimizers())
        steps = max(int(self.trainer.num_training_batches), 1)
        done = (self.current_epoch + number / steps) / max(self.epochs, 1)
        factor = cosine(max(done, self.budget.fraction))
        for group in weights.param_groups:
            group["lr"] = self.learning_rate * factor

        if max(done, self.budget.fraction) >= self.warm_up:
            held_out = self._architecture_batch()
            alphas = self.supernet.architecture_parameters()
            architecture.zero_grad()
            held_out_loss = self._architecture_gradients(batch, held_out, alphas, factor)
            architecture.step()
            self.log("architecture_loss", held_out_loss, on_step=True, on_epoch=False)

        weights.zero_grad()
        loss = self._loss(batch, with_reconstruction=True)
        self.manual_backward(loss)
        weights.step()
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=False)

    def _architecture_gradients(
        self, batch: Batch, held_out: Batch, alphas: list[torch.nn.Parameter], factor: float
    ) -> Tensor:
        # Reconstruction terms do not depend on the architecture: they are left out.
        def validation() -> Tensor:
            return self._loss(held_out, with_reconstruction=False)

        if self.order == 1:
            loss = validation()
            gradients = torch.autograd.grad(loss, alphas, allow_unused=True)
        else:
            training: Callable[[], Tensor] = lambda: self._loss(  # noqa: E731
                batch, with_reconstruction=True
            )
            gradients = second_order_gradients(
                self.detector,
                self._weights(),
                alphas,
                training,
                validation,
                self.learning_rate * factor,
            )
            loss = torch.zeros(())
        for alpha, gradient in zip(alphas, gradients):
            alpha.grad = gradient
        return loss.detach()

    def validation_step(self, batch: Batch, number: int) -> None:
        """Collect the relaxed network's scores."""
        output = run(self.detector, batch)
        self._pixels.add(output.logits, mask_at(batch, output.logits.shape[-2:]))

    def on_validation_epoch_end(self) -> None:
        """Keep the genotype if the relaxed network was never better."""
        ap = self._pixels.average_precision()
        entropy = float(self.supernet.entropy())
        self.history.append(
            {"epoch": float(self.current_epoch), "validation_ap": ap, "entropy": entropy}
        )
        self.log("validation_ap", ap, prog_bar=True)
        self.log("entropy", entropy)
        if ap > self.best_ap or self.best is None:
            self.best_ap = ap
            self.best = self.supernet.genotype()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best genotype with the weights."""
        checkpoint["best_ap"] = self.best_ap
        checkpoint["history"] = self.history
        checkpoint["best"] = None if self.best is None else self.best.to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best genotype again."""
        self.best_ap = checkpoint["best_ap"]
        self.history = checkpoint["history"]
        text = checkpoint["best"]
        self.best = None if text is None else Genotype.from_json(text)

    def _weights(self) -> list[torch.nn.Parameter]:
        alphas = {id(p) for p in self.supernet.architecture_parameters()}
        return [p for p in self.detector.parameters() if p.requires_grad and id(p) not in alphas]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a record's tensors."""
        return to_device(batch, device)

    def configure_optimizers(self) -> Any:
        """AdamW for the weights, Adam with BM-NAS's settings for the architecture."""
        return [
            torch.optim.AdamW(
                self._weights(), lr=self.learning_rate, weight_decay=self.weight_decay
            ),
            torch.optim.Adam(
                self.supernet.architecture_parameters(),
                lr=self.architecture_rate,
                betas=(0.5, 0.999),
                weight_decay=self.architecture_decay,
            ),
        ]
