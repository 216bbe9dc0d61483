"""Batches of recordings as tensors: made from arrays, moved, and without a modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from chiasm.samples import FloatArray, RecordingBatch
from chiasm.training.device import placed


def to_batch(
    image: FloatArray | None,
    series: FloatArray | None,
    *,
    labels: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> RecordingBatch:
    """Return a batch of the arrays that ``recording_arrays`` makes.

    Args:
        image: ``(N, 3, S, S)``, or ``(1, 3, S, S)`` for one picture with all N windows.
        series: ``(N, C, L)``.
        labels: N classes.
        device: of the tensors.
    """
    pictures = None if image is None else torch.from_numpy(image).to(device)
    windows = None if series is None else torch.from_numpy(series).to(device)
    if pictures is not None and windows is not None:
        pictures = pictures.expand(len(windows), -1, -1, -1)
    return RecordingBatch(
        image=pictures,
        series=windows,
        label=None if labels is None else torch.tensor(labels, device=device),
    )


def stacked(arrays: Sequence[FloatArray | None]) -> FloatArray | None:
    """Stack the arrays of one modality; None if the recordings lack it."""
    present = [array for array in arrays if array is not None]
    return np.stack(present) if present else None


def moved(batch: RecordingBatch, device: torch.device) -> RecordingBatch:
    """Return the batch on a device."""
    return _changed(batch, lambda tensor: placed(tensor, device))


def cut(batch: RecordingBatch, rows: slice) -> RecordingBatch:
    """Return some rows of a batch."""
    return _changed(batch, lambda tensor: tensor[rows])


def _changed(
    batch: RecordingBatch, change: Callable[[torch.Tensor], torch.Tensor]
) -> RecordingBatch:
    tensors = (batch.image, batch.series, batch.label)
    return RecordingBatch(*(None if tensor is None else change(tensor) for tensor in tensors))


def modalities_of(batch: RecordingBatch) -> tuple[str, ...]:
    """Return the modalities that a batch has."""
    return tuple(name for name in ("image", "series") if getattr(batch, name) is not None)


def without(batch: RecordingBatch, modality: str | None) -> RecordingBatch:
    """Return the batch without a modality."""
    return batch if modality is None else replace(batch, **{modality: None})
