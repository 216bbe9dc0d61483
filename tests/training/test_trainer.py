from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from chiasm.errors import OutOfMemoryError
from chiasm.training.device import device_of
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import (
    LAST,
    Budget,
    StageProgress,
    fit,
)
from devices.simulated import simulated_device


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Regression(LightningModule):
    """Fits a line; ``on_step`` is called with every step."""

    def __init__(
        self, on_step: Callable[[], None] = lambda: None, optimizer: Any = torch.optim.Adam
    ) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self.on_step = on_step
        self.optimizer = optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        self.on_step()
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        self.log("validation_loss", self._loss(batch))

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.network(x), y)

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.network.parameters(), lr=1.0)


class Epochs(Callback):
    """Collects the epochs that are trained; interrupts after one of them."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.epochs: list[int] = []
        self.interrupt_after = interrupt_after

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.interrupt_after is not None and len(self.epochs) == self.interrupt_after:
            raise KeyboardInterrupt
        self.epochs.append(trainer.current_epoch)


def batches() -> DataLoader[Any]:
    x = torch.linspace(-1, 1, 8)[:, None]
    return DataLoader(TensorDataset(x, 3 * x + 1), batch_size=2)


def train(folder: Path, module: Regression, *callbacks: Callback, **options: Any) -> None:
    given = {"budget": Budget(None), "epochs": 4, "quiet": True} | options
    fit(module, batches(), batches(), folder=folder, name="line", callbacks=callbacks, **given)


def test_a_budget_counts_over_resumed_runs_and_never_exceeds_one():
    clock = Clock()
    first = Budget(1.0, clock=clock)
    clock.seconds = 15.0
    assert first.fraction == 0.25
    second = Budget(1.0, clock=clock)
    second.load_state_dict(first.state_dict())
    clock.seconds = 45.0
    assert second.fraction == 0.75
    clock.seconds = 500.0
    assert second.fraction == 1.0
    assert Budget(None, clock=clock).fraction == 0.0


def test_time_before_training_starts_is_not_charged(tmp_path: Path):
    clock = Clock()
    budget = Budget(1.0, clock=clock)
    clock.seconds = 59.0
    train(tmp_path, Regression(), budget=budget)
    assert budget.fraction == 0.0


def test_a_spent_budget_ends_training_after_validation_and_checkpoint(tmp_path: Path):
    clock, seen = Clock(), Epochs()

    def ten_seconds() -> None:
        clock.seconds += 10.0

    module = Regression(ten_seconds)
    best = KeepBest(module.network, metric="validation_loss", mode="min")
    train(tmp_path, module, seen, best, budget=Budget(1.0, clock=clock), epochs=99)
    # Four batches an epoch, 60 s: the sixth step is in the second epoch.
    assert clock.seconds == 60.0
    assert seen.epochs == [0, 1]
    assert best.weights is not None
    assert (tmp_path / "checkpoints/line" / LAST).exists()


@pytest.mark.parametrize("minutes", [-0.1, 0.0])
def test_a_budget_that_was_overdrawn_before_it_began_allows_one_step(
    tmp_path: Path, minutes: float
):
    steps: list[None] = []
    budget = Budget(minutes, clock=Clock())
    assert budget.fraction == 1.0
    train(tmp_path, Regression(lambda: steps.append(None)), budget=budget, epochs=99)
    assert len(steps) == 1
    assert (tmp_path / "checkpoints/line" / LAST).exists()


def test_a_resumed_training_whose_budget_is_spent_makes_no_further_step(tmp_path: Path):
    clock = Clock()

    def a_minute() -> None:
        clock.seconds += 60.0

    ended = Regression(a_minute)
    train(tmp_path, ended, budget=Budget(3.0, clock=clock), epochs=99)
    resumed = Regression(a_minute)
    train(tmp_path, resumed, budget=Budget(3.0, clock=clock), epochs=99)
    assert clock.seconds == 180.0
    for name, tensor in ended.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_an_interrupted_training_resumes_and_ends_as_one_that_was_not(tmp_path: Path):
    whole = Regression()
    train(tmp_path / "whole", whole)

    stopped, seen = Regression(), Epochs(interrupt_after=2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stopped, seen)
    assert seen.epochs == [0, 1]
    resumed, seen = Regression(), Epochs()
    train(tmp_path / "parts", resumed, seen)
    assert seen.epochs == [2, 3]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_finished_training_is_not_repeated(tmp_path: Path):
    train(tmp_path, Regression())
    again, seen = Regression(), Epochs()
    train(tmp_path, again, seen)
    assert seen.epochs == []
    assert again.network.weight.item() != 0.0


def test_gradients_are_clipped_to_the_norm(tmp_path: Path):
    module = Regression(optimizer=torch.optim.SGD)
    train(tmp_path, module, epochs=1, gradient_clip=1e-3)
    moved = torch.cat([p.detach().ravel() for p in module.parameters()])
    # Plain descent at rate 1: four steps of at most the norm.
    assert float(torch.linalg.vector_norm(moved)) <= 4 * 1e-3 * 1.01


def test_logs_are_written_as_a_table_and_without_progress(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    train(tmp_path, Regression(), epochs=2)
    header = (tmp_path / "logs/line/metrics.csv").read_text().splitlines()[0]
    assert {"epoch", "step", "validation_loss"} <= set(header.split(","))
    assert capfd.readouterr() == ("", "")
    train(tmp_path / "loud", Regression(), epochs=2, quiet=False)
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("Line: 8 of 8 steps in ")
    assert ", epoch 2: " in line and "validation loss" in line


def test_a_long_training_says_every_ten_seconds_how_much_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    clock = Clock()

    def four_seconds() -> None:
        clock.seconds += 4.0

    budget = Budget(0.6, clock=clock)  # 36 s: nine steps of the sixteen
    shown = StageProgress("line_1", budget, clock=clock)
    train(tmp_path, Regression(four_seconds), shown, budget=budget)
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        *(f"Line 1: {done} of 16 steps" for done in (3, 6, 9)),
        "Line 1: 9 of 16 steps in 36 s",
    ]
    assert "0.25 steps/s, about 24 s left" in lines[0]
    assert "epoch 1: train loss" in lines[1] and "validation loss" in lines[1]


def test_a_resumed_training_counts_the_steps_of_the_earlier_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Regression(), Epochs(interrupt_after=2))
    train(tmp_path, Regression(), quiet=False)
    assert capfd.readouterr().out.startswith("Line: 16 of 16 steps in ")
    train(tmp_path, Regression(), quiet=False)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_steps_are_computed_in_the_precision_that_is_asked_for(tmp_path: Path, precision: str):
    seen: list[bool] = []
    module = Regression(lambda: seen.append(torch.is_autocast_enabled("cpu")))
    train(tmp_path, module, epochs=1, precision=precision)
    assert set(seen) == {precision == "bf16"}


def test_a_training_that_does_not_fit_the_memory_says_what_to_lower(tmp_path: Path):
    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with pytest.raises(OutOfMemoryError, match="smaller batch"):
        train(tmp_path, Regression(fail))


def test_a_module_is_trained_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with simulated_device(monkeypatch) as place:
        module = Regression().to(place)
        train(tmp_path, module)
        assert device_of(module) == place
