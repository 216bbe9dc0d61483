"""Batches of recordings: random views to learn from, plain windows to judge by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from chiasm.diagnosis.augmentation.views import (
    ViewSettings,
    image_view,
    series_view,
    shared_change,
    view_rng,
)
from chiasm.diagnosis.preparation.network_inputs import InputFormat
from chiasm.diagnosis.preparation.scales import (
    Counts,
    finished,
    inked,
    network_image,
    scaled,
    window_length,
    windows,
)
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.samples import FloatArray, RecordingBatch

# A batch is asked for by the epoch and the places of its recordings.
Key = tuple[int, Sequence[int]]

Views = tuple[RecordingBatch, ...]

# Bytes that a set of recordings may keep between epochs.
KEPT = 256 * 2**20


class Recordings(Dataset[Views]):
    """Labelled recordings of a store; a key ``(epoch, places)`` gives a batch for each view.

    What is the same in every epoch is kept, up to ``KEPT`` bytes: pictures before they are
    changed, or whole recordings where there are no views.

    Args:
        store: where they lie.
        refs: which of them; all labelled.
        form: what the network takes.
        views: how views are drawn; None gives the recording itself, the middle of its series.
        count: views of each recording.
        seed: first part of the key of a view.
    """

    def __init__(
        self,
        store: RecordingStore,
        refs: Sequence[RecordingRef],
        form: InputFormat,
        *,
        views: ViewSettings | None = None,
        count: int = 1,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.refs = tuple(refs)
        self.form = form
        self.views = None if views is None else replace(views, seconds=form.seconds)
        self.count = count
        self.seed = seed
        self._kept: dict[int, tuple[FloatArray | None, ...]] = {}
        self._room = KEPT

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, key: Key) -> Views:
        epoch, places = key
        labels = torch.tensor([_label(self.refs[place]) for place in places])
        batches = []
        for view in range(self.count):
            drawn = [self._one(epoch, place, view) for place in places]
            images, series = zip(*drawn)
            batches.append(
                RecordingBatch(image=_stacked(images), series=_stacked(series), label=labels)
            )
        return tuple(batches)

    def shape(self, place: int) -> tuple[bool, int, int]:
        """Whether there is a picture, and channels and length of the series: of one batch alike."""
        ref = self.refs[place]
        form = self.form
        image = "image" in form.modalities and self.store.has_image(ref)
        counts = self.store.counts(ref) if "series" in form.modalities else None
        if counts is None:
            return image, 0, 0
        return image, counts.shape[0], self._length(ref, counts.shape[1])

    def _one(
        self, epoch: int, place: int, view: int
    ) -> tuple[FloatArray | None, FloatArray | None]:
        form, views = self.form, self.views
        if views is None:
            image, series = self._remembered(place, self._plain)
            return image, series
        rng = view_rng(self.seed, epoch, place, view)
        change = shared_change(views, rng)
        (image,) = self._remembered(place, self._picture)
        if image is not None:
            image = network_image(
                image_view(image, change, views, rng), form.image_size, form.picture
            )
        counts = self._counts(place)
        if counts is None:
            return image, None
        ref = self.refs[place]
        return image, series_view(
            counts,
            change,
            views,
            rng,
            scale=form.scale,
            per_cycle=ref.samples_per_cycle,
            frequency=ref.frequency,
            segment=form.segment,
        )

    def _plain(self, place: int) -> tuple[FloatArray | None, FloatArray | None]:
        """The recording itself, the middle of its series."""
        form, ref = self.form, self.refs[place]
        (image,) = self._picture(place)
        if image is not None:
            image = network_image(image, form.image_size, form.picture)
        counts = self._counts(place)
        if counts is None:
            return image, None
        length = self._length(ref, counts.shape[1])
        part = windows(counts, length, per_cycle=ref.samples_per_cycle, count=1)[0]
        return image, finished(scaled(part, form.scale), form.scale)

    def _picture(self, place: int) -> tuple[FloatArray | None]:
        if "image" not in self.form.modalities:
            return (None,)
        image = self.store.image(self.refs[place])
        if image is not None:
            image = inked(image, self.form.image_size, self.form.picture)
        return (image,)

    def _counts(self, place: int) -> Counts | None:
        return self.store.counts(self.refs[place]) if "series" in self.form.modalities else None

    def _remembered(
        self, place: int, make: Callable[[int], tuple[FloatArray | None, ...]]
    ) -> tuple[FloatArray | None, ...]:
        found = self._kept.get(place)
        if found is None:
            found = make(place)
            size = sum(one.nbytes for one in found if one is not None)
            if size <= self._room:
                self._room -= size
                self._kept[place] = found
        return found

    def _length(self, ref: RecordingRef, total: int) -> int:
        seconds = self.form.seconds
        wanted = round(seconds * ref.frequency * ref.samples_per_cycle) if seconds else None
        return window_length(
            total,
            per_cycle=ref.samples_per_cycle,
            segment=self.form.segment,
            wanted=wanted,
            fold=self.form.scale.shrink,
        )


class BatchOrder(Sampler[Key]):
    """Which recordings make a batch: alike in shape, in an order of seed and epoch alone.

    Args:
        dataset: the recordings.
        batch: about so many in a batch; all batches of one shape differ by one at most.
        shuffle: anew in every epoch.
    """

    def __init__(self, dataset: Recordings, *, batch: int, shuffle: bool) -> None:
        self.seed, self.batch, self.shuffle = dataset.seed, batch, shuffle
        self.epoch = 0
        alike: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
        for place in range(len(dataset)):
            alike[dataset.shape(place)].append(place)
        self._alike = list(alike.values())

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of every epoch; without shuffling all are alike."""
        if self.shuffle:
            self.epoch = epoch

    def __len__(self) -> int:
        return sum(self._batches(places) for places in self._alike)

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng([self.seed, self.epoch])
        keys: list[Key] = []
        for places in self._alike:
            order = rng.permutation(places) if self.shuffle else np.array(places)
            parts = np.array_split(order, self._batches(places))
            keys += [(self.epoch, part.tolist()) for part in parts]
        # A generator: a resumed trainer makes the iterator first and tells the epoch afterwards.
        yield from ([keys[i] for i in rng.permutation(len(keys))] if self.shuffle else keys)

    def _batches(self, places: Sequence[int]) -> int:
        return max(1, round(len(places) / self.batch))


def recording_loader(
    dataset: Recordings, *, batch: int, shuffle: bool, workers: int = 0
) -> DataLoader[Any]:
    """Batches of a dataset; with ``workers`` they are made in other processes."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=BatchOrder(dataset, batch=batch, shuffle=shuffle),
        num_workers=workers,
    )


def moved(batch: RecordingBatch, device: torch.device) -> RecordingBatch:
    """The batch on a device."""
    return RecordingBatch(
        *(None if t is None else t.to(device) for t in (batch.image, batch.series, batch.label))
    )


def _label(ref: RecordingRef) -> int:
    assert ref.label is not None
    return ref.label


def _stacked(arrays: Sequence[FloatArray | None]) -> torch.Tensor | None:
    there = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(there)) if there else None
