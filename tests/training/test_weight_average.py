from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from chiasm.training.trainer import Budget, fit
from chiasm.training.weight_average import WeightAverage

DECAY = 0.7


class Line(LightningModule):
    """Fits a line with a normalisation in front; keeps the weights that it was validated with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
        self.validated: list[float] = []

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        return nn.functional.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any, number: int) -> None:
        self.validated.append(self.network[1].weight.item())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=0.05)


class Seen(Callback):
    """Keeps the weights and running means after every step."""

    def __init__(self) -> None:
        self.values: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        norm, linear = pl_module.network
        self.values.append((linear.weight.item(), norm.running_mean.item()))


def train(folder: Path, *, epochs: int) -> tuple[Line, Seen]:
    module, seen = Line(), Seen()
    x = torch.linspace(-1, 2, 6)[:, None]
    batches = DataLoader(TensorDataset(x, 3 * x), batch_size=2)
    average = WeightAverage(module.network, decay=DECAY)
    fit(
        module,
        batches,
        batches,
        folder=folder,
        name="line",
        epochs=epochs,
        budget=Budget(None),
        precision="32",
        callbacks=[seen, average],
        quiet=True,
    )
    return module, seen


def averaged(values: list[float]) -> float:
    average = values[0]
    for value in values[1:]:
        average = DECAY * average + (1 - DECAY) * value
    return average


def test_the_average_is_validated_and_kept_while_steps_go_on_from_the_weights(tmp_path):
    module, seen = train(tmp_path, epochs=2)
    weights, means = (list(column) for column in zip(*seen.values))
    assert len(weights) == 6
    assert module.validated[0] == pytest.approx(averaged(weights[:3]))
    assert module.validated[-1] == pytest.approx(averaged(weights))
    norm, linear = module.network
    assert linear.weight.item() == pytest.approx(averaged(weights)) != pytest.approx(weights[-1])
    assert norm.running_mean.item() == pytest.approx(averaged(means))
    assert norm.num_batches_tracked.item() == 6
    plain = Line()
    optimiser = torch.optim.SGD(plain.network.parameters(), lr=0.05)
    x = torch.linspace(-1, 2, 6)[:, None]
    for number in range(6):
        start = 2 * (number % 3)
        optimiser.zero_grad()
        plain.training_step((x[start : start + 2], 3 * x[start : start + 2]), number).backward()
        optimiser.step()
        assert plain.network[1].weight.item() == pytest.approx(weights[number])


def test_a_resumed_training_has_the_same_average(tmp_path):
    whole, _ = train(tmp_path / "whole", epochs=4)
    train(tmp_path / "resumed", epochs=2)
    resumed, _ = train(tmp_path / "resumed", epochs=4)
    finished, _ = train(tmp_path / "resumed", epochs=4)  # makes no step more
    for network in (resumed.network, finished.network):
        for name, value in whole.network.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value)
