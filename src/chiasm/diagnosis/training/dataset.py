"""Batches of recordings: random views for training, plain recordings for validation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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
from chiasm.diagnosis.batch import stacked, to_batch
from chiasm.diagnosis.preparation.network_inputs import RecordingForm, recording_arrays
from chiasm.diagnosis.preparation.recorders import Counts
from chiasm.diagnosis.preparation.scales import inked, network_image
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.samples import FloatArray, RecordingBatch, RecordingSample
from chiasm.training.device import CPU, loading
from chiasm.training.ranks import Rank, rank_rows, this_rank

UNCOUNTED = -1  # label of a recording that keeps a rank in step and is left out of the loss


class Key(NamedTuple):
    """What a batch is made of.

    Attributes:
        epoch: of the views.
        indices: of the recordings.
        counts: whether they are labelled; else they are ``UNCOUNTED``.
        longest: values of their series, at most; None leaves them whole.
    """

    epoch: int
    indices: Sequence[int]
    counts: bool = True
    longest: int | None = None


Views = tuple[RecordingBatch, ...]

Arrays = tuple[FloatArray | None, ...]

# Bytes that a dataset may hold between epochs.
CACHE_BYTES = 256 * 2**20


class Recordings(Dataset[Views]):
    """Labelled recordings of a store; a key ``(epoch, indices)`` gives a batch for each view.

    What is the same in every epoch is cached, up to ``CACHE_BYTES``: pictures before they are
    changed or, without views, whole recordings.

    Args:
        store: that holds the recordings.
        refs: the recordings; all labelled.
        form: how a recording becomes the network's input.
        modalities: of the network.
        views: how views are drawn; None gives the recording itself, the middle of its series.
        count: views of each recording.
        seed: first part of the key of a view.
    """

    def __init__(
        self,
        store: RecordingStore,
        refs: Sequence[RecordingRef],
        form: RecordingForm,
        *,
        modalities: Sequence[str],
        views: ViewSettings | None = None,
        count: int = 1,
        seed: int = 0,
    ) -> None:
        self.store = store
        self.refs = tuple(refs)
        self.form = replace(form, windows=1)
        self.modalities = tuple(modalities)
        self.views = views
        self.count = count
        self.seed = seed
        self._cache: dict[int, Arrays] = {}
        self._free_bytes = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, key: Key | tuple[int, Sequence[int]]) -> Views:
        epoch, indices, counts, longest = Key(*key)
        labels = [_label(self.refs[index]) if counts else UNCOUNTED for index in indices]
        batches = []
        for view in range(self.count):
            arrays = (self._arrays(epoch, index, view, longest) for index in indices)
            images, series = zip(*arrays)
            batches.append(to_batch(stacked(images), stacked(series), labels=labels))
        return tuple(batches)

    def shape(self, index: int) -> tuple[bool, int, int]:
        """Return whether there is a picture, and channels and window length of the series.

        The recordings of one batch have the same shape.
        """
        ref = self.refs[index]
        image = "image" in self.modalities and self.store.has_image(ref)
        counts = self._counts(ref)
        if counts is None:
            return image, 0, 0
        channels, total = self.form.shape(counts.shape[0], counts.shape[1], ref.samples_per_cycle)
        return image, channels, self.form.window_length(total, frequency=ref.frequency)

    def longest(self, indices: Sequence[int], rng: np.random.Generator) -> int | None:
        """Draw the values of the series of a batch's views; None leaves them whole.

        Half of the batches are whole. The others have a length between the shortest one and the
        whole, evenly distributed on a logarithmic scale.
        """
        if self.views is None or not self.views.shortest or rng.random() < 0.5:
            return None
        _, _, length = self.shape(indices[0])
        cycle = self.form.samples_per_cycle
        least = math.lcm(self.form.segment, cycle)
        shortest = round(self.views.shortest * self.refs[indices[0]].frequency) * cycle
        if length <= max(shortest, least):
            return None
        drawn = np.exp(rng.uniform(math.log(max(shortest, least)), math.log(length)))
        return int(drawn) // least * least

    def _arrays(self, epoch: int, index: int, view: int, longest: int | None = None) -> Arrays:
        """Return picture ``(3, S, S)`` and series ``(C, L)`` of one view."""
        form, views, ref = self.form, self.views, self.refs[index]
        if views is None:
            return self._cached(index, self._plain)
        rng = view_rng(self.seed, epoch, index, view)
        change = shared_change(views, rng)
        (image,) = self._cached(index, self._ink)
        if image is not None:
            image = network_image(
                image_view(image, change, views, rng), form.image_size, form.picture
            )
        counts = self._counts(ref)
        if counts is None:
            return image, None
        counts = form.magnitudes(counts, ref.samples_per_cycle)
        return image, series_view(
            counts, change, views, rng, form=form, frequency=ref.frequency, longest=longest
        )

    def _plain(self, ref: RecordingRef) -> Arrays:
        sample = RecordingSample(
            image=self._image(ref),
            series=self._counts(ref),  # type: ignore[arg-type]  # counts; they are scaled to float32
            frequency=ref.frequency,
            samples_per_cycle=ref.samples_per_cycle,
            source=ref.source,
        )
        arrays = recording_arrays(sample, self.form, self.modalities)
        return tuple(arrays[m][0] if m in arrays else None for m in ("image", "series"))

    def _ink(self, ref: RecordingRef) -> Arrays:
        image = self._image(ref)
        return (None if image is None else inked(image, self.form.image_size, self.form.picture),)

    def _image(self, ref: RecordingRef) -> FloatArray | None:
        return self.store.image(ref) if "image" in self.modalities else None

    def _counts(self, ref: RecordingRef) -> Counts | None:
        return self.store.counts(ref) if "series" in self.modalities else None

    def _cached(self, index: int, load: Callable[[RecordingRef], Arrays]) -> Arrays:
        arrays = self._cache.get(index)
        if arrays is None:
            arrays = load(self.refs[index])
            size = sum(array.nbytes for array in arrays if array is not None)
            if size <= self._free_bytes:
                self._free_bytes -= size
                self._cache[index] = arrays
        return arrays


class BatchOrder(Sampler[Key]):
    """The recordings of each batch: of equal shape, in an order that seed and epoch determine.

    Args:
        dataset: the recordings.
        batch: mean size of a batch; the batches of one shape differ in size by one at most.
        shuffle: draw a new order for every epoch.
    """

    def __init__(self, dataset: Recordings, *, batch: int, shuffle: bool) -> None:
        self.seed, self.batch, self.shuffle = dataset.seed, batch, shuffle
        self.epoch = 0
        by_shape: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            by_shape[dataset.shape(index)].append(index)
        self._by_shape = list(by_shape.values())
        self._longest = dataset.longest

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; the trainer calls it when one starts. No effect without shuffling."""
        if self.shuffle:
            self.epoch = epoch

    def __len__(self) -> int:
        return sum(self._batches(indices) for indices in self._by_shape)

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng([self.seed, self.epoch])
        keys: list[Key] = []
        for indices in self._by_shape:
            order = rng.permutation(indices) if self.shuffle else np.array(indices)
            parts = np.array_split(order, self._batches(indices))
            keys += [
                Key(self.epoch, part.tolist(), longest=self._longest(part.tolist(), rng))
                for part in parts
            ]
        # A generator: a resumed trainer makes the iterator first and sets the epoch afterwards.
        yield from ([keys[i] for i in rng.permutation(len(keys))] if self.shuffle else keys)

    @property
    def smallest(self) -> int:
        """Recordings of the smallest batch."""
        return min(len(indices) // self._batches(indices) for indices in self._by_shape)

    def of_rank(self, rank: Rank) -> RankOrder:
        """Return the same order with one rank's recordings of every batch."""
        return RankOrder(self, rank=rank)

    def _batches(self, indices: Sequence[int]) -> int:
        return max(1, round(len(indices) / self.batch))


class RankOrder(Sampler[Key]):
    """One rank's recordings of every batch of an order.

    Of a batch with fewer recordings than there are ranks, some get its first one, which counts for
    nothing there: all ranks compute, and so exchange, equally often.

    Args:
        order: of the whole batches.
        rank: whose recordings.
    """

    def __init__(self, order: BatchOrder, *, rank: Rank) -> None:
        self.order, self.rank = order, rank

    @property
    def has_empty_shares(self) -> bool:
        """Whether a batch has fewer recordings than there are ranks."""
        return self.order.smallest < self.rank.count

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Key]:
        for epoch, indices, _, longest in self.order:
            (rows,) = rank_rows(len(indices), rank=self.rank)
            part = [indices[row] for row in rows]
            yield Key(epoch, part or indices[:1], counts=bool(part), longest=longest)


def recording_loader(
    dataset: Recordings,
    *,
    batch: int,
    shuffle: bool,
    workers: int = 0,
    device: torch.device = CPU,
) -> DataLoader[Any]:
    """Return a loader of a dataset's batches for a device; ``workers`` are processes."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=BatchOrder(dataset, batch=batch, shuffle=shuffle),
        num_workers=workers,
        **loading(device),
    )


def _label(ref: RecordingRef) -> int:
    assert ref.label is not None
    return ref.label


def counted(view: RecordingBatch) -> int:
    """Return how many recordings of a batch count in its loss."""
    assert view.label is not None
    if this_rank().count == 1:  # a GPU need not be waited for
        return len(view.label)
    return int((view.label != UNCOUNTED).sum())
