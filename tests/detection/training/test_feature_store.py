"""Stored features: those of the source, row by row, however they are kept."""

from __future__ import annotations

import weakref

import numpy as np
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
def test_a_store_holds_the_features_of_every_part_and_epoch(parts, scale, square, tmp_path, size):
    data = dataset(parts, square)
    store = FeatureStore.build(
        pooled,
        data,
        folder=tmp_path / "store",
        epochs=(2, 5),
        scale=scale,
        modalities=COLOUR,
        batch=size,
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


def test_a_store_ends_early_after_one_epoch_at_least(parts, scale, square, tmp_path):
    store = FeatureStore.build(
        pooled,
        dataset(parts, square),
        folder=tmp_path / "store",
        epochs=range(4),
        scale=scale,
        modalities=COLOUR,
        batch=2,
        keep_going=lambda: False,
    )
    assert len(store) == 6  # the batch that ends the first epoch is whole


def test_a_view_has_the_named_maps_alone(parts, scale, square, tmp_path):
    store = FeatureStore.build(
        pooled,
        dataset(parts, square),
        folder=tmp_path / "store",
        epochs=(0,),
        scale=scale,
        modalities=COLOUR,
    )
    view = store.only(frozenset({"rgb/mean"})).collate([3, 1])
    whole = store.collate([3, 1])
    assert set(view.features.maps) == {"rgb/mean"}
    assert torch.equal(view.features.maps["rgb/mean"], whole.features.maps["rgb/mean"])
    assert torch.equal(view.mask, whole.mask)


def test_a_loader_serves_every_part_once_and_drops_a_ragged_end_only_if_shuffled(
    parts, scale, square, tmp_path
):
    store = FeatureStore.build(
        pooled,
        dataset(parts, square),
        folder=tmp_path / "store",
        epochs=(0,),
        scale=scale,
        modalities=COLOUR,
    )
    for shuffle, count in ((False, 5), (True, 4)):
        stored = stored_loader(store, batch=2, seed=1, shuffle=shuffle)
        served = torch.cat([batch.features.maps["rgb/index"][:, 0, 0, 0] for batch in stored])
        assert len(served) == count == len(set(served.tolist()))


def build(source, data, scale, folder, **more):
    return FeatureStore.build(
        source,
        data,
        **{"folder": folder, "epochs": range(3), "scale": scale, "modalities": COLOUR, "batch": 2}
        | more,
    )


def test_memory_holds_a_batch_and_not_the_store(parts, scale, square, tmp_path):
    alive = weakref.WeakSet()

    def watched(batch):
        made = pooled(batch)
        alive.update([*made.maps.values(), *made.relative.values(), batch.rgb])
        most.append(len(alive))
        return made

    most = []
    store = build(watched, dataset(parts, square), scale, tmp_path / "store")
    assert len(most) == 8  # batches of two
    # However many batches were made, the tensors of at most two are alive at a time.
    assert max(most) <= 2 * 4
    held = [
        v for v in vars(store).values() if isinstance(v, torch.Tensor | np.ndarray | dict | list)
    ]
    assert held == []
    assert not [v for v in vars(store.rows).values() if isinstance(v, np.ndarray)]


def test_a_store_with_the_same_key_is_opened_and_not_made_again(parts, scale, square, tmp_path):
    data, folder = dataset(parts, square), tmp_path / "store"
    first = build(pooled, data, scale, folder, key="a").collate(range(15))
    again = build(_refuse, data, scale, folder, key="a")
    assert len(again) == 15
    assert torch.equal(again.collate(range(15)).mask, first.mask)
    for other in ("b", ""):
        with pytest.raises(AssertionError, match="made again"):
            build(_refuse, data, scale, folder, key=other)


def test_an_interrupted_store_leaves_nothing_behind(parts, scale, square, tmp_path):
    calls = []

    def interrupted(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pooled(batch)

    with pytest.raises(KeyboardInterrupt):
        build(interrupted, dataset(parts, square), scale, tmp_path / "store", key="a")
    assert list(tmp_path.iterdir()) == []
    assert len(build(pooled, dataset(parts, square), scale, tmp_path / "store", key="a")) == 15


def test_a_cut_file_is_made_again(parts, scale, square, tmp_path):
    data, folder = dataset(parts, square), tmp_path / "store"
    build(pooled, data, scale, folder, key="a")
    rows = folder / "rows.bin"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(AssertionError, match="made again"):
        build(_refuse, data, scale, folder, key="a")
    assert len(build(pooled, data, scale, folder, key="a")) == 15


def _refuse(batch):
    raise AssertionError("made again")
