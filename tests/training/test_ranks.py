"""What ranks compute of their rows is what one process computes of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from chiasm.detection.layers.segmentation import reconstruction_loss, segmentation_loss
from chiasm.detection.training.synthetic import EpochOrder
from chiasm.diagnosis.layers.contrastive import SupervisedContrast
from chiasm.errors import ConfigurationError
from chiasm.training.device import CPU
from chiasm.training.keep_best import KeepBest
from chiasm.training.ranks import (
    Rank,
    blocks,
    draw_rows,
    from_first_rank,
    gather_rows,
    mean,
    micro_slices,
    noise_like,
    rank_rows,
    sharing,
    this_rank,
)
from chiasm.training.shared_batches import rank_loader
from chiasm.training.synchronised_norm import SynchronisedBatchNorm, synchronise_norms
from chiasm.training.trainer import LAST, Budget, fit
from rank_group import RankGroup, rank_group
from stub_training import Line, RankClock, line_batches

COUNT = 3
SHARES = [(3, 2, 2), (4, 3, 0)]  # of seven rows: of a loader, and with a rank that has none
ROWS = 7


@pytest.fixture(scope="module")
def ranks() -> Iterator[RankGroup]:
    with rank_group(COUNT) as group:
        yield group


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def own(batch: Tensor, shares: tuple[int, ...]) -> Tensor:
    """The rows of this rank; its first row stands in for none."""
    start = sum(shares[: this_rank().number])
    return batch[start : start + shares[this_rank().number]].clone().requires_grad_()


def padded(rows: Tensor, batch: Tensor) -> Tensor:
    return batch[:1].clone().requires_grad_() if len(rows) == 0 else rows


def array(tensor: Tensor | None) -> Any:
    assert tensor is not None
    return tensor.detach().numpy()


# Batch norms


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sequential(nn.BatchNorm2d(3)), nn.ReLU())
    return layers.double()


def norm_steps(layers: nn.Module, batches: list[Tensor]) -> Tensor:
    """Two forward passes; the loss of the second is differentiated."""
    for batch in batches[:-1]:
        layers(batch)
    out: Tensor = layers(batches[-1])
    return out


def normalised(shares: tuple[int, ...]) -> dict[str, Any]:
    layers = network()
    parameters = dict(layers.named_parameters())
    synchronise_norms(layers, device=CPU, empty_shares=True)
    assert [type(m) for m in layers.modules()].count(SynchronisedBatchNorm) == 1
    assert all(p is parameters[n] for n, p in layers.named_parameters())
    whole = [values(ROWS, 2, 4, 5, seed=seed) for seed in (2, 3)]
    rows = own(whole[-1], shares)
    with sharing(len(rows)):
        last = padded(rows, whole[-1])
        out = norm_steps(layers, [padded(own(whole[0], shares), whole[0]), last])
        loss = (gather_rows(out).square() * values(ROWS, 3, 4, 5, seed=4)).sum()
    loss.backward()
    own_gradient = array(last.grad)[: len(rows)]
    gradients = {n: array(p.grad) for n, p in layers.named_parameters()}
    layers.eval()
    return {
        "loss": loss.item(),
        "input": own_gradient,
        "gradients": gradients,
        "state": {n: array(v) for n, v in layers.state_dict().items()},
        "evaluated": array(layers(whole[0])),
    }


@pytest.mark.parametrize("shares", SHARES)
def test_batch_norms_are_those_of_one_process(ranks: RankGroup, shares: tuple[int, ...]):
    layers = network()
    whole = [values(ROWS, 2, 4, 5, seed=seed) for seed in (2, 3)]
    last = whole[-1].requires_grad_()
    loss = (norm_steps(layers, whole).square() * values(ROWS, 3, 4, 5, seed=4)).sum()
    loss.backward()
    layers.eval()
    answers = ranks(normalised, shares)
    for answer in answers:
        assert answer["loss"] == pytest.approx(loss.item(), rel=1e-12)
        for name, value in layers.state_dict().items():
            assert np.allclose(answer["state"][name], array(value), rtol=1e-12), name
        assert np.allclose(answer["evaluated"], array(layers(whole[0])), rtol=1e-12)
    # The mean over ranks, which DistributedDataParallel takes, is the gradient of the batch.
    for name, parameter in layers.named_parameters():
        found = np.mean([answer["gradients"][name] for answer in answers], axis=0)
        assert np.allclose(found, array(parameter.grad), rtol=1e-9, atol=1e-12), name
    found = np.concatenate([answer["input"] for answer in answers]) / COUNT
    assert np.allclose(found, array(last.grad), rtol=1e-9, atol=1e-12)


def statistics(momentum: float | None) -> tuple[list[float], list[float]]:
    norm = nn.Sequential(nn.BatchNorm1d(2, momentum=momentum, affine=False)).double()
    synchronise_norms(norm, device=CPU)
    whole = values(6, 2)
    for _ in range(3):
        with sharing(2):
            norm(whole[2 * this_rank().number :][:2])
    made = norm[0]
    assert isinstance(made, SynchronisedBatchNorm)
    assert made.running_mean is not None and made.running_var is not None
    return made.running_mean.tolist(), made.running_var.tolist()


@pytest.mark.parametrize("momentum", [0.3, None])
def test_norms_of_any_momentum_keep_the_statistics_of_one_process(
    ranks: RankGroup, momentum: float | None
):
    norm = nn.BatchNorm1d(2, momentum=momentum, affine=False).double()
    for _ in range(3):
        norm(values(6, 2))
    for mean_found, variance in ranks(statistics, momentum):
        assert norm.running_mean is not None and norm.running_var is not None
        assert np.allclose(mean_found, norm.running_mean)
        assert np.allclose(variance, norm.running_var)


# Losses


def picture(channels: int, seed: int) -> Tensor:
    return torch.sigmoid(values(ROWS, channels, 16, 16, seed=seed))


def losses(logits: Tensor, rows: slice) -> list[Tensor]:
    mask = (picture(1, 1) > 0.8).double()[rows]
    inside = (picture(1, 2) > 0.4).double()[rows]
    restored = torch.sigmoid(logits[:, :1]) * picture(3, 3)[rows]
    return [
        segmentation_loss(logits, mask, dice=True),
        segmentation_loss(logits, mask, dice=True, inside=inside),
        segmentation_loss(logits, mask, dice=False, inside=0 * inside),
        reconstruction_loss(restored, picture(3, 4)[rows], structural=True),
        reconstruction_loss(restored, picture(3, 4)[rows], structural=True, inside=inside),
        mean(logits.square()),
    ]


def shared_losses(shares: tuple[int, ...]) -> list[tuple[float, Any]]:
    start = sum(shares[: this_rank().number])
    part = slice(start, start + shares[this_rank().number])
    answers = []
    for number in range(6):
        logits = own(values(ROWS, 2, 16, 16, seed=9), shares)
        with sharing(len(logits)):
            loss = losses(logits, part)[number]
        loss.backward()
        answers.append((loss.item(), array(logits.grad)))
    return answers


def test_losses_over_pixels_are_those_of_the_batch(ranks: RankGroup):
    answers = ranks(shared_losses, SHARES[0])
    for number in range(6):
        logits = values(ROWS, 2, 16, 16, seed=9).requires_grad_()
        loss = losses(logits, slice(None))[number]
        loss.backward()
        for answer in answers:
            assert answer[number][0] == pytest.approx(loss.item(), rel=1e-6)
        found = np.concatenate([answer[number][1] for answer in answers]) / COUNT
        assert np.allclose(found, array(logits.grad), rtol=1e-4, atol=1e-9), number


def contrasted(shares: tuple[int, ...]) -> tuple[float, Any]:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    whole, labels = values(ROWS, 4), torch.arange(ROWS) % 3
    rows = own(whole, shares)
    with sharing(len(rows)):
        first = sum(shares[: this_rank().number])
        own_labels = labels[first : first + len(rows)]
        vectors = gather_rows(F.normalize(layer(padded(rows, whole)), dim=1))
        everyones = gather_rows(own_labels if len(rows) else labels[:1])
    loss = SupervisedContrast()(vectors[:, None].double(), everyones)
    loss.backward()
    return loss.item(), array(layer.weight.grad)


@pytest.mark.parametrize("shares", SHARES)
def test_a_contrast_sees_the_vectors_of_all_ranks(ranks: RankGroup, shares: tuple[int, ...]):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    vectors = F.normalize(layer(values(ROWS, 4)), dim=1)[:, None]
    loss = SupervisedContrast()(vectors, torch.arange(ROWS) % 3)
    loss.backward()
    answers = ranks(contrasted, shares)
    assert [answer[0] for answer in answers] == pytest.approx([loss.item()] * COUNT, rel=1e-6)
    found = np.mean([answer[1] for answer in answers], axis=0)
    assert np.allclose(found, array(layer.weight.grad), rtol=1e-4, atol=1e-8)


# Random numbers and decisions


def noise(shares: tuple[int, ...]) -> list[Any]:
    torch.manual_seed(5)
    rows = shares[this_rank().number]
    with sharing(rows):
        return [
            array(noise_like(torch.empty(rows, 3, 8))),
            array(noise_like(torch.empty(rows, 8, 3).transpose(1, 2))),
            array(draw_rows(torch.rand, rows, 2)),
        ]


@pytest.mark.parametrize("shares", SHARES)
def test_random_numbers_are_those_of_one_process(ranks: RankGroup, shares: tuple[int, ...]):
    torch.manual_seed(5)
    expected = [
        torch.randn_like(torch.empty(ROWS, 3, 8)),
        torch.randn_like(torch.empty(ROWS, 8, 3).transpose(1, 2)),
        torch.rand(ROWS, 2),
    ]
    for number, drawn_parts in enumerate(zip(*ranks(noise, shares))):
        assert np.array_equal(np.concatenate(drawn_parts), array(expected[number])), number


def own_opinion() -> tuple[float, ...]:
    return from_first_rank(float(this_rank().number), float("-inf"))


def test_the_first_rank_decides(ranks: RankGroup):
    assert ranks(own_opinion) == [(0.0, float("-inf"))] * COUNT


def steps_of_own_clock(folder: Path) -> tuple[int, int]:
    clock = RankClock()  # ten seconds a step on the first rank, thirty and fifty on the others
    module = Line(clock=clock)
    best = KeepBest(module.network, metric="validation_loss")
    fit(
        module,
        line_batches(4),
        line_batches(4),
        folder=folder,
        name="line",
        epochs=99,
        budget=Budget(1.0, clock=clock),
        callbacks=[best],
    )
    return module.global_step, best.best_epoch


def test_a_budget_ends_all_ranks_at_the_step_of_the_first_ones_clock(
    ranks: RankGroup, tmp_path: Path
):
    assert ranks(steps_of_own_clock, tmp_path) == [(6, 2)] * COUNT
    saved = torch.load(tmp_path / "checkpoints/line" / LAST, weights_only=True)
    assert saved["callbacks"]["Budget"]["seconds"] == 60.0
    assert (tmp_path / "logs/line/metrics.csv").exists()


# Division of batches, in this process


@pytest.mark.parametrize("total", range(1, 12))
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_every_row_is_of_one_rank_and_shares_differ_by_one(total: int, count: int, micro: int):
    shares = [rank_rows(total, rank=Rank(n, count), micro=micro) for n in range(count)]
    for number, block in enumerate(micro_slices(total, micro)):
        rows = [row for share in shares for row in share[number]]
        assert rows == list(range(block.start, block.stop))
        sizes = [len(share[number]) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    assert [part.start for part in blocks(total, 1)] == [0]


def batches_of(rank: Rank, *, epoch: int, batch: int = 5, micro: int = 1) -> list[list[int]]:
    data = TensorDataset(torch.arange(13))
    loader = DataLoader(data, batch_size=batch, sampler=EpochOrder(13, seed=3), drop_last=True)
    if rank.count > 1:
        loader = rank_loader(loader, rank=rank, micro=micro)
    order: Any = getattr(loader.batch_sampler, "sampler", None)
    order.set_epoch(epoch)  # as Lightning does
    return [rows.tolist() for (rows,) in loader]


@pytest.mark.parametrize("epoch", [0, 4])
def test_ranks_divide_the_batches_of_one_process(epoch: int):
    whole = batches_of(Rank(), epoch=epoch)
    parts = [batches_of(Rank(number, 2), epoch=epoch) for number in range(2)]
    assert [[*first, *second] for first, second in zip(*parts)] == whole
    assert batches_of(Rank(), epoch=epoch + 1) != whole


def test_micro_batches_are_divided_each_by_itself():
    ((first, *_), (second, *_)) = (
        batches_of(Rank(number, 2), epoch=0, batch=6, micro=2) for number in range(2)
    )
    (whole, *_) = batches_of(Rank(), epoch=0, batch=6)
    assert [*first[:2], second[0], *first[2:], second[1]] == whole


def test_fewer_rows_than_workers_are_refused():
    with pytest.raises(ConfigurationError, match="A step has 5 rows, and there are 6 workers"):
        batches_of(Rank(0, 6), epoch=0)
    with pytest.raises(ConfigurationError, match=r"A micro-batch has 2 rows.*smaller accumulate"):
        batches_of(Rank(0, 3), epoch=0, micro=2)
