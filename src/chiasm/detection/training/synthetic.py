"""Training data: normal parts with synthetic anomalies, as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from chiasm.detection.anomalies.generators import AnomalyGenerator, synthesise
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.augmentation import Augmentation
from chiasm.errors import DataError
from chiasm.samples import PreparedSample, RGBDBatch
from chiasm.training.device import CPU, loading, loading_workers
from chiasm.training.progress import Progress

PATIENCE = 20  # draws for each anomaly that is wanted


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPart:
    """A part as a network gets it, and as it should restore it.

    Attributes:
        part: with or without a synthetic anomaly.
        clean: the same part without it; equal to ``part`` off its mask.
        owner: of the part, see ``SyntheticParts``.
    """

    part: PreparedSample
    clean: PreparedSample
    owner: int


class SyntheticParts(Dataset[SyntheticPart]):
    """Normal parts with or without a synthetic anomaly; an epoch is reproducible.

    Defective parts among them are shown as they are.

    Args:
        parts: prepared parts, normal ones and perhaps known defects.
        numbers: of each part in the whole training set.
        generator: of the anomalies.
        seed: first part of the key (seed, epoch, index).
        owners: owner of each part, the number of the first part of its group, whose descriptors a
            memory excludes; None takes ``numbers``.
        augmentation: of the normal parts, before an anomaly is added; None leaves them as they are.
        rounds: times that each part is in an epoch, each time with another draw.
    """

    def __init__(
        self,
        parts: Sequence[PreparedSample],
        *,
        numbers: Sequence[int],
        generator: AnomalyGenerator,
        seed: int,
        owners: Sequence[int] | None = None,
        augmentation: Augmentation | None = None,
        rounds: int = 1,
    ) -> None:
        self.parts = parts
        self.owners = numbers if owners is None else owners
        self.numbers = numbers
        self.generator = generator
        self.seed = seed
        self.augmentation = augmentation
        self.rounds = rounds
        self.epoch = 0

    def __len__(self) -> int:
        return self.rounds * len(self.parts)

    def draw(self, epoch: int, position: int) -> SyntheticPart:
        """Return the part at a position in an epoch, with its clean self and its owner."""
        number = self.numbers[position]
        clean = self.parts[position]
        if clean.label == 1:
            return SyntheticPart(clean, clean, self.owners[position])
        if self.augmentation is not None:
            # Another key than that of the anomaly, whose draws do not depend on the augmentation.
            rng = np.random.default_rng((self.seed, epoch, number, 1))
            clean = self.augmentation(clean, rng)
        part = synthesise(clean, self.generator, seed=self.seed, epoch=epoch, index=number)
        return SyntheticPart(part, clean, self.owners[position])

    def at(self, epoch: int, position: int) -> tuple[PreparedSample, int]:
        """Return the part at a position in an epoch, and its owner."""
        drawn = self.draw(epoch, position)
        return drawn.part, drawn.owner

    def __getitem__(self, position: int) -> SyntheticPart:
        epoch, position = divmod(position, len(self.parts))
        return self.draw(self.epoch * self.rounds + epoch, position)

    def rounds_with_anomalies(self, count: int) -> int:
        """Return how many rounds from the first have ``count`` anomalous parts together.

        Raises:
            DataError: the generator damages hardly any of these parts.
        """
        anomalous = 0
        with Progress("Counting synthetic anomalies", count, unit="anomalies") as progress:
            for epoch in range(math.ceil(PATIENCE * count / len(self.parts))):
                for position in range(len(self.parts)):
                    visible = self.at(epoch, position)[0].label == 1
                    anomalous += visible
                    progress.update(int(visible))
                    if anomalous >= count:
                        return epoch + 1
        raise DataError(
            f"{anomalous} of {PATIENCE * count} synthetic anomalies are visible on "
            f"{self.parts[0].source} and the {len(self.parts) - 1} parts like it; {count} are "
            "needed to choose by. Check that the prepared parts show an object ('chiasm data "
            "check')."
        )


class EpochOrder(Sampler[int]):
    """A random order that depends on seed and epoch alone, so that a resumed run repeats it.

    Args:
        length: positions of an epoch.
        seed: of the order.
        counting: count positions on over all epochs, so that a position says its epoch also to
            processes that make batches ahead.
    """

    def __init__(self, length: int, *, seed: int, counting: bool = False) -> None:
        self.length = length
        self.seed = seed
        self.counting = counting
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls it at the start of each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        first = self.epoch * self.length if self.counting else 0
        return (first + i for i in torch.randperm(self.length, generator=generator).tolist())


def fresh_loader(
    dataset: SyntheticParts,
    *,
    batch: int,
    scale: GeometryScale,
    modalities: Sequence[str],
    shuffle: bool,
    device: torch.device = CPU,
) -> DataLoader[Any]:
    """Make batches of parts whose anomalies are drawn on demand, for sources that learn.

    They hold the clean pictures as well, which a reconstruction is compared with.
    """

    sampler = EpochOrder(len(dataset), seed=dataset.seed, counting=True) if shuffle else None
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        collate_fn=partial(_collated, scale=scale, modalities=tuple(modalities)),
        drop_last=shuffle and len(dataset) >= batch,
        **loading(device),
        num_workers=loading_workers(device),
    )


def _collated(
    items: Sequence[SyntheticPart], *, scale: GeometryScale, modalities: Sequence[str]
) -> RGBDBatch:
    return to_batch(
        [item.part for item in items],
        scale,
        modalities=modalities,
        indices=[item.owner for item in items],
        clean=[item.clean for item in items],
    )
