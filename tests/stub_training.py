"""Small trainings whose workers may be lost, or have clocks of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from chiasm.runs.crew import Crew, Request
from chiasm.training.ranks import mean, sharing, this_rank


class Losses(Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self.values.append(float(trainer.callback_metrics["train_loss"]))

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = list(state_dict["values"])


class RankClock:
    """A clock that goes faster on later ranks, and only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def tick(self) -> None:
        self.seconds += 10.0 * (1 + 2 * this_rank().number)


class Line(LightningModule):
    """Fits a line, by a network with a batch norm.

    Args:
        clock: that ticks with every step.
        accident: file; while it is there, the last rank removes it in epoch 1 and is killed.
        fault: raised by the last rank in epoch 1.
    """

    def __init__(
        self,
        *,
        clock: RankClock | None = None,
        accident: Path | None = None,
        fault: Exception | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
        self.unused = nn.Linear(1, 1)
        self.clock, self.accident, self.fault = clock, accident, fault
        self.steps = 0

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        if self.clock is not None:
            self.clock.tick()
        last = this_rank().number == this_rank().count - 1
        if last and self.current_epoch == 1 and self.fault is not None:
            raise self.fault
        if last and self.current_epoch == 1 and self.accident and self.accident.exists():
            self.accident.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        x, y = batch
        with sharing(len(x)):
            loss = mean((self.network(x) - y).square())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        x, y = batch
        self.log("validation_loss", nn.functional.mse_loss(self.network(x), y))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps = checkpoint["global_step"]

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class StubCrew(Crew):
    """A crew that is asked for nothing but the number of its processes, and rests."""

    def __init__(self, workers: int | None, ray: str | None = None) -> None:
        self.request = Request(workers, ray)
        self.rested = False

    def compute(self, function: Any, items: Any) -> Any:
        raise NotImplementedError

    def rest(self) -> None:
        self.rested = True


def line_batches(size: int = 3) -> DataLoader[Any]:
    """Eight points in batches of some size."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    return DataLoader(TensorDataset(x, 3 * x + x.square()), batch_size=size)
