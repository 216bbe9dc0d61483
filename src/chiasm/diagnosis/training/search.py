"""Architecture search on recordings: alternates weights and architecture, keeps the best."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from chiasm.diagnosis.augmentation.views import drop_modality
from chiasm.diagnosis.batch import modalities_of, moved, without
from chiasm.diagnosis.models.fused import FusedClassifier
from chiasm.diagnosis.training.contrast import follow_schedule
from chiasm.diagnosis.training.dataset import Views
from chiasm.errors import ConfigurationError
from chiasm.fusion.network import FusionSupernet
from chiasm.fusion.search_steps import ArchitectureSteps, BestGenotype
from chiasm.metrics.classification import macro_f1
from chiasm.training.schedule import decayed_adamw
from chiasm.training.trainer import Budget

CLIP = 1.0


class ClassSearch(LightningModule):
    """Cross-entropy for weights and architecture, on disjoint recordings.

    The weights are trained with modality dropout, the architecture on complete recordings. The
    kept genotype is that of the epoch with the least cross-entropy on a third set: on some dozens
    of recordings, macro-F1 is equal in many epochs.

    Args:
        network: with a ``FusionSupernet``.
        architecture_batches: loader for the architecture's steps.
        budget: its spent fraction lowers the learning rate.
        epochs: planned; the schedule follows epochs or budget, whichever is further on.
        learning_rate: highest value for the weights.
        architecture_rate, order, warm_up: as in ``ArchitectureSteps``.
        modality_dropout: probability that a batch lacks one modality.
        seed: of every random number.

    Raises:
        ConfigurationError: the network's fusion is no supernet.
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
        """Relaxed fusion network."""
        return cast(FusionSupernet, self.network.fusion)

    def on_train_epoch_start(self) -> None:
        """Restart the stream of architecture batches, in the order of this epoch."""
        self.steps.start_epoch(self.current_epoch)

    def training_step(self, batch: Views, number: int) -> None:
        """Take a step of the architecture on held-out recordings, then one of the weights."""
        weights, architecture = cast(list[Any], self.optimizers())
        done = follow_schedule(self, number)
        rng = np.random.default_rng([self.seed, self.current_epoch, number])
        dropped = drop_modality(modalities_of(batch[0]), self.modality_dropout, rng)

        if self.steps.due(done):
            (held_out,) = self.steps.next_batch()
            held_out = moved(held_out, self.device)
            architecture.zero_grad()
            loss = self.steps.differentiate(
                training=lambda: [self._loss(batch[0], dropped)],
                validation=lambda: [self._loss(held_out, None)],
                rate=weights.param_groups[0]["lr"],
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
        """Collect the relaxed network's logits of unchanged validation recordings."""
        (view,) = batch
        assert view.label is not None
        self._validation.append((self.network(view).logits.float(), view.label))

    def on_validation_epoch_end(self) -> None:
        """Keep the genotype if the relaxed network is better than in every epoch before."""
        logits, labels = (torch.cat(values) for values in zip(*self._validation))
        self._validation.clear()
        loss = float(F.cross_entropy(logits, labels))
        f1 = macro_f1(labels.cpu(), logits.argmax(dim=1).cpu(), logits.shape[1])
        entropy = self.supernet.entropy()
        figures = {"validation_loss": loss, "validation_f1": f1, "entropy": entropy}
        self.log_dict(figures, prog_bar=True)
        self.best.update(
            self.supernet,
            -loss,
            warm_up=self.steps.warming_up,
            epoch=float(self.current_epoch),
            **figures,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the best genotype with the weights."""
        checkpoint["found"] = self.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the best genotype."""
        self.best.load_state_dict(checkpoint["found"])

    def transfer_batch_to_device(
        self, batch: Views, device: torch.device, dataloader_idx: int
    ) -> Views:
        """Move the tensors of the views."""
        return tuple(moved(view, device) for view in batch)

    def configure_optimizers(self) -> Any:
        """Return AdamW for the weights, Adam with BM-NAS's settings for the architecture."""
        weights = decayed_adamw(self.steps.weights(), learning_rate=self.learning_rate)
        return [weights, self.steps.optimiser()]
