from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from chiasm.training.schedule import (
    FLOOR,
    WARM_UP,
    cosine,
    decayed_adamw,
    set_learning_rate,
    steps,
    training_progress,
)
from chiasm.training.trainer import Budget


@given(st.floats(-1, 2), st.floats(-1, 2), st.sampled_from([0.0, WARM_UP, 0.5]))
def test_the_rate_rises_in_the_warm_up_and_falls_after_it(a: float, b: float, warm_up: float):
    low, high = sorted((a, b))
    first, second = cosine(low, warm_up=warm_up), cosine(high, warm_up=warm_up)
    assert 0 <= first <= 1
    if high < warm_up:
        assert first <= second
    elif low >= warm_up:
        assert first >= second


@pytest.mark.parametrize("warm_up", [0.0, 0.2])
def test_the_rate_starts_peaks_and_ends_where_it_should(warm_up: float):
    assert cosine(0.0, warm_up=warm_up) == (0.0 if warm_up else 1.0)
    assert cosine(warm_up, warm_up=warm_up) == 1.0
    assert cosine(1.0, warm_up=warm_up) == pytest.approx(FLOOR)
    middle = (1 + warm_up) / 2
    assert cosine(middle, warm_up=warm_up, floor=0.2) == pytest.approx(0.6)


def test_the_rate_agrees_with_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=FLOOR)
    for step in range(11):
        assert cosine(step / 10) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


def test_progress_follows_epochs_or_budget_whichever_is_further_on():
    now = 0.0
    budget = Budget(1.0, clock=lambda: now)
    trainer = SimpleNamespace(num_training_batches=4, current_epoch=1)
    progress = [training_progress(trainer, step, epochs=2, budget=budget) for step in (0, 2)]  # type: ignore[arg-type]
    assert progress == [0.5, 0.75]
    now = 54.0
    assert training_progress(trainer, 2, epochs=2, budget=budget) == pytest.approx(0.9)  # type: ignore[arg-type]
    # Neither an endless data set nor a run of no epochs divides by zero.
    endless = SimpleNamespace(num_training_batches=0, current_epoch=0)
    assert training_progress(endless, 0, epochs=0, budget=budget) == pytest.approx(0.9)  # type: ignore[arg-type]


def test_the_rate_is_set_in_all_groups():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer = decayed_adamw(model, learning_rate=0.1)
    set_learning_rate(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02]


def test_only_matrices_decay_and_frozen_parameters_stay_out():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    model[2].requires_grad_(False)
    decayed, plain = decayed_adamw(model, learning_rate=0.1, decay=0.5).param_groups
    assert decayed["params"] == [model[0].weight]
    assert decayed["weight_decay"] == 0.5
    assert {id(p) for p in plain["params"]} == {
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias)
    }
    assert plain["weight_decay"] == 0.0
    before = model[0].weight.detach().clone()
    optimizer = decayed_adamw([model[0].weight], learning_rate=0.1, decay=0.5)
    model[0].weight.grad = torch.zeros_like(before)
    optimizer.step()
    # Without a gradient AdamW shrinks a weight by rate times decay, and does nothing else.
    torch.testing.assert_close(model[0].weight.detach(), before * (1 - 0.1 * 0.5))


def test_steps_fall_at_the_papers_epochs():
    by_epoch = [steps(epoch / 600) for epoch in range(600)]
    assert by_epoch[:480] == [1.0] * 480
    assert by_epoch[480:540] == [0.2] * 60
    assert by_epoch[540:] == pytest.approx([0.04] * 60)
