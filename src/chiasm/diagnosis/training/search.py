"""The search on recordings: alternate between weights and architecture, keep the best genotype."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.diagnosis.augmentation.views import drop_modality
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.contrast import present, without
from chiasm.diagnosis.training.dataset import Views, moved
from chiasm.errors import ConfigurationError
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.search_steps import ArchitectureSteps, BestGenotype
from chiasm.metrics.classification import macro_f1
from chiasm.training.schedule import decayed_adamw, warmed_cosine
from chiasm.training.trainer import Budget

CLIP = 1.0


class ClassSearch(LightningModule):
    """Cross-entropy for weights and architecture, each on recordings of its own.

    The weights lose whole modalities as in any training; the architecture sees whole recordings.
    The genotype that is kept is that of the epoch with the least cross-entropy on a third set:
    of some dozens of recordings, macro-F1 is the same in many epochs.

    Args:
        network: with a ``FusionSupernet``.
        architecture_batches: loader for the architecture's steps.
        budget: whose spent fraction brings the learning rate down.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: of the weights at its highest.
        architecture_rate, order, warm_up: as in ``ArchitectureSteps``.
        modality_dropout: probability that a batch lacks one modality.
        seed: of everything random.

    Raises:
        ConfigurationError: the network's fusion is with_fusion.
    """

    def __init__(
        self,
        network: FusedClassifier,
        *,
        architecture_batches: DataLoader[Any],
        budget: Budget,
        epochs: int,
        learning_rate: float,
        architecture_rate: float,
        order: int = 1,
        warm_up: float = 0.3,
        modality_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(network.fusion, FusionSupernet):
            raise ConfigurationError("Only a classifier with a supernet can be searched.")
        self.automatic_optimization = False
        self.network = network
        self.budget = budget
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.modality_dropout = modality_dropout
        self.seed = seed
        self.steps = ArchitectureSteps(
            network,
            network.fusion,
            batches=architecture_batches,
            rate=architecture_rate,
            order=order,
            warm_up=warm_up,
        )
        self.best = BestGenotype()
        self._validation: list[tuple[Tensor, Tensor]] = []

    @property
    def supernet(self) -> FusionSupernet:
        """The relaxed fusion network."""
        return cast(FusionSupernet, self.network.fusion)

    def on_train_epoch_start(self) -> None:
        """Begin the architecture's stream anew, in this epoch's order."""
        self.steps.start_epoch(self.current_epoch)

    def training_step(self, batch: Views, number: int) -> None:
        """One step of the architecture on held-out recordings, then one of the weights."""
        weights, architecture = cast(list[Any], self.optimizers())
        count = max(int(self.trainer.num_training_batches), 1)
        done = (self.current_epoch + (number + 1) / count) / max(self.epochs, 1)
        done = max(done, self.budget.fraction)
        rate = self.learning_rate * warmed_cosine(done)
        for group in weights.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([self.seed, self.current_epoch, number])
        dropped = drop_modality(present(batch[0]), self.modality_dropout, rng)

        if self.steps.due(done):
            (held_out,) = self.steps.next_batch()
            held_out = moved(held_out, self.device)
            architecture.zero_grad()
            loss = self.steps.differentiate(
                training=lambda: self._loss(batch[0], dropped),
                validation=lambda: self._loss(held_out, None),
                rate=rate,
            )
            architecture.step()
            self.log("architecture_loss", loss, on_step=False, on_epoch=True, batch_size=1)

        weights.zero_grad()
        loss = self._loss(batch[0], dropped)
        self.manual_backward(loss)
        torch.nn.utils.clip_grad_norm_(self.steps.weights(), CLIP)
        weights.step()
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)

    def _loss(self, batch: Any, dropped: str | None) -> Tensor:
        assert batch.label is not None
        output = self.network(without(batch, dropped), density=False)
        return F.cross_entropy(output.logits.float(), batch.label)

    def validation_step(self, batch: Views, number: int) -> None:
        """Collect the relaxed network's logits of held-out recordings, plain ones."""
        (view,) = batch
        assert view.label is not None
        self._validation.append((self.network(view).logits.float(), view.label))

    def on_validation_epoch_end(self) -> None:
        """Keep the genotype if the relaxed network was never better."""
        logits, labels = (torch.cat(values) for values in zip(*self._validation))
        self._validation.clear()
        loss = float(F.cross_entropy(logits, labels))
        f1 = macro_f1(labels.cpu(), logits.argmax(dim=1).cpu(), logits.shape[1])
        entropy = self.supernet.entropy()
        figures = {"validation_loss": loss, "validation_f1": f1, "entropy": entropy}
        self.log_dict(figures, prog_bar=True)
        self.best.update(self.supernet, -loss, epoch=float(self.current_epoch), **figures)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best genotype with the weights."""
        checkpoint["found"] = self.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the best genotype again."""
        self.best.load_state_dict(checkpoint["found"])

    def transfer_batch_to_device(
        self, batch: Views, device: torch.device, dataloader_idx: int
    ) -> Views:
        """Move the views' tensors."""
        return tuple(moved(view, device) for view in batch)

    def configure_optimizers(self) -> Any:
        """AdamW for the weights, Adam with BM-NAS's settings for the architecture."""
        weights = decayed_adamw(self.steps.weights(), learning_rate=self.learning_rate)
        return [weights, self.steps.optimiser()]
