"""Memories of normals against a loop over parts, and parts that are compared with others only."""

from __future__ import annotations

import weakref

import pytest
import torch

from chiasm.detection.layers.backbones import FrozenEfficientNetLite
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.normality import Moments, NormalMemory
from chiasm.detection.layers.patches import gather, gather_owners
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training import fit_memory as fit_module
from chiasm.detection.training.fit_memory import fit_memory


def source(entries=4_000):
    torch.manual_seed(0)
    backbone = FrozenEfficientNetLite(pretrained=False)
    memory = NormalMemory(channels=backbone.channels, memory_entries=entries)
    return NormalityFeatures(backbone=backbone, memories={"rgb": memory}).eval()


@torch.no_grad()
def descriptors_of(features, part, scale):
    """Descriptors of the cells on the object, cell by cell."""
    batch = to_batch([part], scale, modalities=("rgb",))
    maps = features.memories["rgb"].describe(features.backbone(batch.rgb))[0]
    step = batch.foreground.shape[-1] // maps.shape[-1]
    rows = []
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            cell = batch.foreground[
                0, 0, row * step : (row + 1) * step, column * step : (column + 1) * step
            ]
            if cell.any():
                rows.append(maps[:, row, column])
    return torch.stack(rows)


def test_every_descriptor_is_stored_with_its_owner(parts, scale):
    features = source()
    fit_memory(features, parts, scale=scale, owners=[0, 0, 2, 3, 3])
    memory = features.memories["rgb"]
    expected = [descriptors_of(features, part, scale) for part in parts]
    assert len(memory.bank) == sum(map(len, expected))
    joined = torch.cat(expected)
    torch.testing.assert_close(memory.mean, joined.mean(dim=0))
    stored = memory.bank / memory.weight + memory.mean
    owners = torch.tensor([0, 0, 2, 3, 3]).repeat_interleave(torch.tensor([*map(len, expected)]))
    nearest = torch.cdist(stored.double(), joined.double()).argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(len(joined)))
    torch.testing.assert_close(joined[nearest], stored, atol=1e-4, rtol=1e-3)
    assert torch.equal(owners[nearest], memory.owner)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_batch_size_does_not_change_the_memory(parts, scale, batch):
    reference, features = source(), source()
    fit_memory(reference, parts, scale=scale, seed=3)
    fit_memory(features, parts, scale=scale, seed=3, batch=batch)
    for name, value in reference.memories["rgb"].state_dict().items():
        torch.testing.assert_close(
            features.memories["rgb"].state_dict()[name], value, atol=1e-4, rtol=1e-4
        )


def test_the_memory_keeps_its_limit_and_its_seed_decides(parts, scale):
    banks = []
    for seed in (1, 1, 2):
        features = source(entries=10)
        fit_memory(features, parts, scale=scale, seed=seed)
        banks.append(features.memories["rgb"].bank)
    assert len(banks[0]) == 10
    assert torch.equal(banks[0], banks[1])
    assert not torch.equal(banks[0], banks[2])


@torch.no_grad()
def test_a_training_part_is_compared_with_other_owners(parts, scale):
    features = source()
    fit_memory(features, parts, scale=scale, owners=[0, 0, 2, 3, 3])
    memory = features.memories["rgb"]
    batch = to_batch(parts, scale, modalities=("rgb",), indices=[0, 0, 2, 3, 3])
    maps = features.backbone(batch.rgb)
    inside = torch.nn.functional.adaptive_max_pool2d(batch.foreground, 4) > 0
    others = memory(maps, batch.foreground, batch.index).distance[inside]
    itself = memory(maps, batch.foreground).distance[inside]
    assert (others > 2 * itself).all()
    assert others.min() > 0


class OneAtATime:
    """Parts as a sequence that counts how many of them are in use at a time."""

    def __init__(self, parts):
        self.parts, self.alive, self.most = parts, weakref.WeakSet(), 0

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, position):
        part = Part(self.parts[position])
        self.alive.add(part)
        self.most = max(self.most, len(self.alive))
        return part


class Part:
    """A part that a weak set can hold."""

    def __init__(self, part):
        self._part = part

    def __getattr__(self, name):
        return getattr(self._part, name)


def test_the_fit_holds_one_batch_of_parts_and_descriptors(parts, scale, monkeypatch):
    made, alive = fit_module.gather, []

    def counted(maps, inside):
        descriptors = made(maps, inside)
        held.append(weakref.ref(descriptors))
        alive.append(sum(reference() is not None for reference in held))
        return descriptors

    held = []
    monkeypatch.setattr(fit_module, "gather", counted)
    many = OneAtATime(parts * 4)
    fit_memory(source(), many, scale=scale, batch=3)
    assert many.most == 3
    assert len(alive) == 7
    assert max(alive) <= 2


@pytest.mark.parametrize("entries", [20, 4_000])
def test_blocks_do_not_change_the_memory(parts, scale, entries, tmp_path):
    reference, features = source(entries), source(entries)
    fit_memory(reference, parts, scale=scale, seed=3)
    fit_memory(features, parts, scale=scale, seed=3, block=7, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []  # the descriptors' file is removed
    for name, value in reference.memories["rgb"].state_dict().items():
        torch.testing.assert_close(
            features.memories["rgb"].state_dict()[name], value, atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_one_block_is_the_fit_on_all_descriptors_to_the_bit(parts, scale):
    features, whole = source(entries=20), source(entries=20)
    fit_memory(features, parts, scale=scale, seed=3)
    batch = to_batch(parts, scale, modalities=("rgb",), indices=range(5))
    memory = whole.memories["rgb"]
    maps = memory.describe(whole.backbone(batch.rgb))
    inside = cells_inside(batch.foreground, maps.shape[-2:])
    memory.fit(gather(maps, inside), gather_owners(batch.index, inside), seed=3)
    for name, value in memory.state_dict().items():
        assert torch.equal(features.memories["rgb"].state_dict()[name], value), name


def test_moments_of_blocks_are_those_of_all_rows():
    rows = torch.randn(1000, 6, generator=torch.Generator().manual_seed(1)) * 3 + 50
    moments = Moments()
    for block in rows.split((300, 1, 299, 400)):
        moments.add(block)
    assert moments.count == 1000
    torch.testing.assert_close(moments.mean, rows.double().mean(0).float())
    torch.testing.assert_close(moments.deviation, rows.double().std(0).float())


def test_neither_memory_nor_disk_grow_with_the_number_of_parts(parts, scale, monkeypatch, tmp_path):
    sizes, drawn = [], []
    fitted, draw = fit_module._fit, fit_module.drawn_candidates

    def fit(memory, rows, **options):
        sizes.append((len(rows), rows.path.stat().st_size))
        fitted(memory, rows, **options)

    def candidates(count, generator):
        drawn.append(count)
        return draw(count, generator)

    monkeypatch.setattr(fit_module, "_fit", fit)
    monkeypatch.setattr(fit_module, "drawn_candidates", candidates)
    monkeypatch.setattr(fit_module, "MOST_ROWS", 40)
    features = source(entries=20)
    for times in (4, 12):
        fit_memory(features, parts * times, scale=scale, folder=tmp_path)
    assert sizes[0] == sizes[1]
    assert drawn == [40, 40]
    # The later parts are in it as well as the first ones.
    assert features.memories["rgb"].owner.max() > 5 * 6
