"""Frozen features of synthetic anomalies, computed once and stored for search and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chiasm.detection.layers.features import SourcedFeatures
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.synthetic import EpochOrder, SyntheticParts
from chiasm.samples import RGBDBatch


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
