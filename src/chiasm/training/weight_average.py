"""A moving average of weights, which is validated and kept instead of the last step's."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn


class WeightAverage(Callback):
    """Averages the weights of some networks over the steps of a training.

    The average is what is validated, and what the networks have after the training; steps go on
    from the weights themselves. Numbers that are no real ones, such as counts, are the last ones.
    Its state is part of the checkpoint, so that a resumed run has the same average.

    Args:
        networks: whose weights and running statistics are averaged.
        decay: weight of the average before each step, in [0, 1); ``1 / (1 - decay)`` steps count.

    References:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control
        and Optimization 1992; Tarvainen and Valpola, Mean Teachers, NeurIPS 2017 (exponential).
    """

    def __init__(self, *networks: nn.Module, decay: float) -> None:
        self.networks = nn.ModuleList(networks)
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] = {}  # while the average stands in the networks

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take a step's weights into the average."""
        for name, value in self.networks.state_dict().items():
            before = self.average.get(name)
            if before is None or not value.is_floating_point():
                self.average[name] = value.detach().clone()
            else:
                self.average[name] = before.to(value).lerp_(value, 1 - self.decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place of the weights."""
        if self.average:
            self._current = _copied(self.networks.state_dict())
            self.networks.load_state_dict(self.average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back."""
        if self._current:
            self.networks.load_state_dict(self._current)
            self._current = {}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the average in the networks, also where a finished training made no step more."""
        if self.average:
            self.networks.load_state_dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        self.average = dict(state_dict["average"])


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}
