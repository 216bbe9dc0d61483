"""Synthetic training data: reproducible by epoch, masks that match."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chiasm.detection.anomalies.generators import training_generator, validation_generator
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training import synthetic
from chiasm.detection.training.synthetic import EpochOrder, SyntheticParts, fresh_loader
from chiasm.errors import DataError

COLOUR = ("rgb",)


def dataset(parts, generator, **more):
    return SyntheticParts(parts, numbers=range(10, 15), generator=generator, seed=4, **more)


def epoch_of(data, epoch):
    return [data.at(epoch, position)[0] for position in range(len(data))]


@pytest.mark.parametrize("generators", [training_generator, validation_generator, "square"])
def test_an_epoch_repeats_itself_and_the_next_one_differs(parts, square, generators):
    generator = square if generators == "square" else generators()
    first, second = dataset(parts, generator), dataset(parts, generator)
    again = [second.at(1, position)[0] for position in reversed(range(5))][::-1]
    for one, other in zip(epoch_of(first, 1), again, strict=True):
        assert np.array_equal(one.rgb, other.rgb) and np.array_equal(one.mask, other.mask)
    changed = [
        not np.array_equal(one.rgb, other.rgb)
        for one, other in zip(epoch_of(first, 1), epoch_of(first, 2))
    ]
    assert any(changed)


def test_masks_are_where_the_picture_changed(parts, square):
    labels = []
    for epoch in range(6):
        for normal, part in zip(parts, epoch_of(dataset(parts, square), epoch)):
            changed = (part.rgb != normal.rgb).any(axis=2)
            assert np.array_equal(changed, part.mask)
            assert part.label == int(changed.any())
            labels.append(part.label)
    assert {0, 1} == set(labels)


def test_a_batch_holds_the_parts_without_their_anomalies(parts, scale, square):
    loader = fresh_loader(
        dataset(parts, square), batch=5, scale=scale, modalities=COLOUR, shuffle=False
    )
    (batch,) = loader
    assert batch.mask.any()
    assert torch.equal(batch.clean_rgb, to_batch(parts, scale, modalities=COLOUR).rgb)
    changed = (batch.rgb != batch.clean_rgb).any(dim=1, keepdim=True)
    assert torch.equal(changed, batch.mask > 0)
    assert batch.clean_geometry is None


@pytest.mark.parametrize("make", [training_generator, validation_generator])
def test_real_generators_change_nothing_off_their_mask(parts, make):
    defects = 0
    for epoch in range(6):
        for normal, part in zip(parts, epoch_of(dataset(parts, make()), epoch)):
            assert np.array_equal(part.rgb[~part.mask], normal.rgb[~part.mask])
            defects += part.mask.any()
    assert defects > 0


def test_a_part_comes_with_its_owner_and_its_draw_with_its_number(parts, square):
    grouped = dataset(parts, square, owners=[10, 10, 12, 12, 12])
    assert [grouped[position].owner for position in range(5)] == [10, 10, 12, 12, 12]
    assert [dataset(parts, square)[position].owner for position in range(5)] == [*range(10, 15)]
    # The draw belongs to the part's number in the whole set, wherever the part is listed.
    two = SyntheticParts(parts[3:], numbers=[13, 14], generator=square, seed=4)
    for epoch in range(3):
        assert np.array_equal(two.at(epoch, 0)[0].rgb, grouped.at(epoch, 3)[0].rgb)


def test_the_order_depends_on_seed_and_epoch_alone():
    order = EpochOrder(50, seed=7)
    order.set_epoch(3)
    resumed = EpochOrder(50, seed=7)
    resumed.set_epoch(3)
    drawn = list(order)
    assert sorted(drawn) == list(range(50)) == sorted(resumed)
    assert list(resumed) == drawn == list(order)
    counting = EpochOrder(50, seed=7, counting=True)
    counting.set_epoch(3)
    assert list(counting) == [150 + position for position in drawn]
    resumed.set_epoch(4)
    assert list(resumed) != drawn
    assert list(EpochOrder(50, seed=8)) != list(EpochOrder(50, seed=7))


def test_a_loader_serves_every_part_once_and_drops_a_ragged_end_only_if_shuffled(
    parts, scale, square
):
    data = dataset(parts, square)
    for shuffle, count in ((False, 5), (True, 4)):
        fresh = fresh_loader(data, batch=2, scale=scale, modalities=COLOUR, shuffle=shuffle)
        indices = torch.cat([batch.index for batch in fresh]).tolist()
        assert len(indices) == count == len(set(indices))
    in_order = fresh_loader(data, batch=2, scale=scale, modalities=COLOUR, shuffle=False)
    assert torch.cat([batch.index for batch in in_order]).tolist() == list(range(10, 15))


def test_processes_make_the_batches_of_the_same_epochs(parts, scale, square, monkeypatch):
    def served() -> list[torch.Tensor]:
        data = dataset(parts, square)
        loader = fresh_loader(data, batch=2, scale=scale, modalities=COLOUR, shuffle=True)
        pictures = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            pictures += [batch.rgb for batch in loader]
        return pictures

    expected = served()
    monkeypatch.setattr(synthetic, "loading_workers", lambda device: 1)
    assert all(torch.equal(a, b) for a, b in zip(expected, served(), strict=True))


def test_rounds_show_each_part_again_with_another_draw(parts, square):
    once, thrice = dataset(parts, square), dataset(parts, square, rounds=3)
    assert len(thrice) == 3 * len(once)
    shown = [thrice[position].part for position in range(len(thrice))]
    drawn = [part for epoch in range(3) for part in epoch_of(once, epoch)]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(shown, drawn, strict=True))
    thrice.epoch = 1
    assert np.array_equal(thrice[0].part.rgb, once.at(3, 0)[0].rgb)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_as_many_rounds_as_the_anomalies_take(parts, square, count):
    rounds = dataset(parts, square).rounds_with_anomalies(count)
    labels = [sum(p.label for p in epoch_of(dataset(parts, square), e)) for e in range(rounds)]
    assert sum(labels) >= count > sum(labels[:-1])


def test_parts_that_no_generator_damages_are_refused(parts):
    with pytest.raises(DataError, match="20 are needed"):
        dataset(parts, training_generator(probability=0.0)).rounds_with_anomalies(20)
