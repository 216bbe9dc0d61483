"""Stored features: those of the source, row by row, however they are kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chiasm.detection.layers.features import SourcedFeatures
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training.feature_store import FeatureStore, stored_loader
from chiasm.detection.training.synthetic import SyntheticParts

COLOUR = ("rgb",)


def dataset(parts, generator, **more):
    return SyntheticParts(parts, numbers=range(10, 15), generator=generator, seed=4, **more)


def epoch_of(data, epoch):
    return [data.at(epoch, position)[0] for position in range(len(data))]


def pooled(batch):
    """A frozen source of two maps whose values are known."""
    small = F.avg_pool2d(batch.rgb, 4)
    return SourcedFeatures(
        {"rgb/mean": small, "rgb/index": small[:, :1] * 0 + batch.index.view(-1, 1, 1, 1)},
        relative={"rgb": small[:, :1]},
    )


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_store_holds_the_features_of_every_part_and_epoch(parts, scale, square, size):
    data = dataset(parts, square)
    store = FeatureStore.build(
        pooled, data, epochs=(2, 5), scale=scale, modalities=COLOUR, batch=size
    )
    assert len(store) == 10
    stored = store.collate(range(10))
    shown = [*epoch_of(data, 2), *epoch_of(data, 5)]
    batch = to_batch(shown, scale, modalities=COLOUR, indices=[*range(10, 15)] * 2)
    expected = pooled(batch)
    for name, value in expected.maps.items():
        assert torch.equal(stored.features.maps[name], value.half().float())
    assert torch.equal(stored.features.relative["rgb"], expected.relative["rgb"].half().float())
    assert torch.equal(stored.mask, batch.mask)
    assert torch.equal(stored.foreground, batch.foreground)


def test_a_store_ends_early_after_one_epoch_at_least(parts, scale, square):
    store = FeatureStore.build(
        pooled,
        dataset(parts, square),
        epochs=range(4),
        scale=scale,
        modalities=COLOUR,
        batch=2,
        keep_going=lambda: False,
    )
    assert len(store) == 6  # the batch that ends the first epoch is whole


def test_a_view_has_the_named_maps_alone(parts, scale, square):
    store = FeatureStore.build(
        pooled, dataset(parts, square), epochs=(0,), scale=scale, modalities=COLOUR
    )
    view = store.only(frozenset({"rgb/mean"})).collate([3, 1])
    whole = store.collate([3, 1])
    assert set(view.features.maps) == {"rgb/mean"}
    assert torch.equal(view.features.maps["rgb/mean"], whole.features.maps["rgb/mean"])
    assert torch.equal(view.mask, whole.mask)


def test_a_loader_serves_every_part_once_and_drops_a_ragged_end_only_if_shuffled(
    parts, scale, square
):
    store = FeatureStore.build(
        pooled, dataset(parts, square), epochs=(0,), scale=scale, modalities=COLOUR
    )
    for shuffle, count in ((False, 5), (True, 4)):
        stored = stored_loader(store, batch=2, seed=1, shuffle=shuffle)
        served = torch.cat([batch.features.maps["rgb/index"][:, 0, 0, 0] for batch in stored])
        assert len(served) == count == len(set(served.tolist()))
