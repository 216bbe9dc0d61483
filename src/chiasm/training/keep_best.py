"""Best weights and early stopping."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from chiasm.metrics.ranking import nan_loses
from chiasm.training.ranks import from_first_rank


class KeepBest(Callback):
    """Keeps the weights of the epoch with the best validation figure; stops early.

    Its state is part of the checkpoint, so that a resumed run knows the best epoch.

    Args:
        network: whose weights are kept; ``restore`` loads them.
        metric: name under which the module logs the figure.
        mode: ``"max"`` or ``"min"``.
        tie: name of a second figure, lower is better, that decides between epochs with equal
            first figures; small validation sets have many. Winning a tie does not renew patience.
        patience: epochs without a better figure after which training stops; None never stops it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        metric: str,
        mode: str = "max",
        tie: str = "",
        patience: int | None = None,
    ) -> None:
        self.network = network
        self.metric, self.sign = metric, 1.0 if mode == "max" else -1.0
        self.tie = tie
        self.patience = patience
        self.best = (-math.inf, -math.inf)
        self.best_epoch = -1  # of the last strict improvement, ties not counted
        self.weights: dict[str, Tensor] | None = None

    @property
    def value(self) -> float:
        """The best figure; NaN before the first validation."""
        return self.sign * self.best[0] if self.best_epoch >= 0 else math.nan

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch with the best one."""
        logged = trainer.callback_metrics.get(self.metric)
        if logged is None:
            return
        first, second = from_first_rank(  # several processes stop together
            nan_loses(self.sign * float(logged)),
            nan_loses(-float(trainer.callback_metrics.get(self.tie, 0.0))),
        )
        value = first, second
        if self.best_epoch < 0 or value[0] > self.best[0]:
            self.best_epoch = trainer.current_epoch
        elif self.patience and trainer.current_epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True
        if self.weights is None or value > self.best:
            self.best = value
            self.weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.network.state_dict().items()
            }

    def restore(self) -> None:
        """Load the best weights into the network, if an epoch was validated."""
        if self.weights is not None:
            self.network.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return best figures, epoch and weights."""
        return {"best": self.best, "epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore best figures, epoch and weights."""
        first, second = state_dict["best"]
        self.best, self.best_epoch = (first, second), state_dict["epoch"]
        self.weights = state_dict["weights"]
