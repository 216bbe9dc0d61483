"""Training data: normal parts with synthetic anomalies, as pictures or as stored features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from chiasm.detection.anomalies.generators import AnomalyGenerator, synthesise
from chiasm.detection.layers.features import SourcedFeatures
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.samples import PreparedSample, RGBDBatch


@dataclass(frozen=True, slots=True, eq=False)
class StoredBatch:
    """A batch of features that a frozen source computed before, with foreground and mask.

    Attributes:
        features: of the source, float32.
        foreground, mask: ``(N, 1, S, S)``.
    """

    features: SourcedFeatures
    foreground: Tensor
    mask: Tensor


class SyntheticParts(Dataset[tuple[PreparedSample, int]]):
    """Normal parts with or without a synthetic anomaly; an epoch is reproducible.

    Args:
        parts: prepared normal parts.
        numbers: of each part in the whole training set.
        generator: of the anomalies.
        seed: first part of the key (seed, epoch, index).
        owners: owner of each part, the number of the first part of its group, whose descriptors a
            memory excludes; None takes ``numbers``.
    """

    def __init__(
        self,
        parts: Sequence[PreparedSample],
        *,
        numbers: Sequence[int],
        generator: AnomalyGenerator,
        seed: int,
        owners: Sequence[int] | None = None,
    ) -> None:
        self.parts = parts
        self.owners = numbers if owners is None else owners
        self.numbers = numbers
        self.generator = generator
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.parts)

    def at(self, epoch: int, position: int) -> tuple[PreparedSample, int]:
        """Return the part at a position in an epoch, and its owner."""
        number = self.numbers[position]
        part = synthesise(
            self.parts[position], self.generator, seed=self.seed, epoch=epoch, index=number
        )
        return part, self.owners[position]

    def __getitem__(self, position: int) -> tuple[PreparedSample, int]:
        return self.at(self.epoch, position)


class EpochOrder(Sampler[int]):
    """A random order that depends on seed and epoch alone, so that a resumed run repeats it."""

    def __init__(self, length: int, *, seed: int, dataset: SyntheticParts | None = None) -> None:
        self.length = length
        self.seed = seed
        self.dataset = dataset
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls it at the start of each."""
        self.epoch = epoch
        if self.dataset is not None:
            self.dataset.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(torch.randperm(self.length, generator=generator).tolist())


class FeatureStore(Dataset[int]):
    """Features of a frozen source for several epochs of synthetic anomalies, in half precision.

    The features of a frozen source never change, so they are computed once; search, training and
    every comparison then run fusion and head only.
    """

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self.relative: dict[str, Tensor] = {}
        self.foreground = torch.zeros(0)
        self.mask = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, position: int) -> int:
        return position

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        source: Callable[[RGBDBatch], SourcedFeatures],
        dataset: SyntheticParts,
        *,
        epochs: Sequence[int],
        scale: GeometryScale,
        modalities: Sequence[str],
        batch: int = 8,
        keep_going: Callable[[], bool] = lambda: True,
    ) -> FeatureStore:
        """Compute the features of some epochs; ``keep_going`` may end it early, after one epoch."""
        store = cls()
        pieces: list[tuple[SourcedFeatures, Tensor, Tensor]] = []
        positions = [(epoch, i) for epoch in epochs for i in range(len(dataset))]
        for start in range(0, len(positions), batch):
            if start >= len(dataset) and not keep_going():
                break
            parts = [dataset.at(epoch, i) for epoch, i in positions[start : start + batch]]
            inputs = to_batch(
                [part for part, _ in parts],
                scale,
                modalities=modalities,
                indices=[number for _, number in parts],
            )
            assert inputs.mask is not None
            features = source(inputs)
            half = SourcedFeatures(
                {name: value.half() for name, value in features.maps.items()},
                {},
                {name: value.half() for name, value in features.relative.items()},
            )
            pieces.append((half, inputs.foreground.bool(), inputs.mask.bool()))
        first = pieces[0][0]
        store.maps = {n: torch.cat([p[0].maps[n] for p in pieces]) for n in first.maps}
        store.relative = {n: torch.cat([p[0].relative[n] for p in pieces]) for n in first.relative}
        store.foreground = torch.cat([p[1] for p in pieces])
        store.mask = torch.cat([p[2] for p in pieces])
        return store

    def collate(self, positions: Sequence[int]) -> StoredBatch:
        """Gather a batch in float32."""
        index = torch.as_tensor(positions)
        return StoredBatch(
            features=SourcedFeatures(
                {name: value[index].float() for name, value in self.maps.items()},
                {},
                {name: value[index].float() for name, value in self.relative.items()},
            ),
            foreground=self.foreground[index].float(),
            mask=self.mask[index].float(),
        )

    def only(self, names: frozenset[str]) -> FeatureStore:
        """Return a view of the named maps, so that batches omit what a derived network ignores."""
        view = FeatureStore()
        view.maps = {name: value for name, value in self.maps.items() if name in names}
        view.relative, view.foreground, view.mask = self.relative, self.foreground, self.mask
        return view


def stored_loader(store: FeatureStore, *, batch: int, seed: int, shuffle: bool) -> DataLoader[Any]:
    """Make batches of stored features."""
    return DataLoader(
        store,
        batch_size=batch,
        sampler=EpochOrder(len(store), seed=seed) if shuffle else None,
        collate_fn=store.collate,
        drop_last=shuffle and len(store) >= batch,
    )


def fresh_loader(
    dataset: SyntheticParts,
    *,
    batch: int,
    scale: GeometryScale,
    modalities: Sequence[str],
    shuffle: bool,
) -> DataLoader[Any]:
    """Make batches of parts whose anomalies are drawn on demand, for sources that learn."""

    def collate(items: Sequence[tuple[PreparedSample, int]]) -> RGBDBatch:
        return to_batch(
            [part for part, _ in items],
            scale,
            modalities=modalities,
            indices=[number for _, number in items],
        )

    sampler = EpochOrder(len(dataset), seed=dataset.seed, dataset=dataset) if shuffle else None
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        collate_fn=collate,
        drop_last=shuffle and len(dataset) >= batch,
    )
