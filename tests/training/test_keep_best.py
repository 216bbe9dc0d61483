from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from chiasm.training.keep_best import KeepBest


def validate(best: KeepBest, network: nn.Linear, figures: list[Any]) -> int:
    """Show the callback one epoch per figure; returns how many epochs ran before it stopped."""
    trainer = SimpleNamespace(current_epoch=0, should_stop=False)
    for epoch, figure in enumerate(figures):
        nn.init.constant_(network.weight, float(epoch))
        trainer.current_epoch, trainer.callback_metrics = epoch, figure
        best.on_validation_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            return epoch + 1
    return len(figures)


def losses(*values: float) -> list[dict[str, float]]:
    return [{"loss": value} for value in values]


@pytest.fixture
def network() -> nn.Linear:
    return nn.Linear(1, 1, bias=False)


@pytest.mark.parametrize(("mode", "epoch", "value"), [("min", 2, 0.1), ("max", 1, 0.9)])
def test_the_weights_of_the_best_epoch_are_restored(
    network: nn.Linear, mode: str, epoch: int, value: float
):
    best = KeepBest(network, metric="loss", mode=mode)
    validate(best, network, losses(0.5, 0.9, 0.1, 0.3))
    assert (best.best_epoch, best.value) == (epoch, value)
    assert network.weight.item() == 3.0
    best.restore()
    assert network.weight.item() == epoch


def test_without_a_validation_nothing_is_restored(network: nn.Linear):
    best = KeepBest(network, metric="loss")
    validate(best, network, [{}, {"other": 1.0}])
    best.restore()
    assert network.weight.item() == 1.0
    assert math.isnan(best.value)


def test_nan_is_worse_than_any_figure_and_yet_kept_if_there_is_no_other(network: nn.Linear):
    best = KeepBest(network, metric="loss", mode="min")
    validate(best, network, losses(math.nan))
    assert best.weights is not None
    validate(best, network, losses(math.nan, 5.0, math.nan))
    best.restore()
    assert network.weight.item() == 1.0
    assert best.value == 5.0


def test_a_tie_is_decided_by_the_second_figure(network: nn.Linear):
    best = KeepBest(network, metric="f1", tie="loss")
    figures = [{"f1": 1.0, "loss": 0.5}, {"f1": 1.0, "loss": 0.2}, {"f1": 0.9, "loss": 0.0}]
    validate(best, network, figures)
    best.restore()
    assert network.weight.item() == 1.0


def test_training_stops_when_patience_is_spent_and_a_tie_does_not_renew_it(network: nn.Linear):
    ties = [{"f1": 1.0, "loss": 1.0 - epoch / 10} for epoch in range(9)]
    assert validate(KeepBest(network, metric="f1", tie="loss", patience=3), network, ties) == 4
    rising = [{"f1": epoch / 10} for epoch in range(9)]
    assert validate(KeepBest(network, metric="f1", patience=3), network, rising) == 9
    assert validate(KeepBest(network, metric="f1"), network, ties) == 9


def test_a_resumed_run_knows_the_best_epoch(network: nn.Linear):
    first = KeepBest(network, metric="loss", mode="min")
    validate(first, network, losses(0.5, 0.1))
    second = KeepBest(network, metric="loss", mode="min")
    second.load_state_dict(first.state_dict())
    validate(second, network, losses(0.3))
    assert (second.value, second.best_epoch) == (0.1, 1)
    second.restore()
    torch.testing.assert_close(network.weight.detach(), torch.ones(1, 1))
