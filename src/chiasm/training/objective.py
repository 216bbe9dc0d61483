"""One pass of a detector over a batch, and the loss that it is trained to reduce."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from chiasm.detectors.adnas import AdnasDetector, DetectorOutput
from chiasm.detectors.features import SourcedFeatures, images_of
from chiasm.detectors.losses import reconstruction_loss, segmentation_loss
from chiasm.samples import RGBDBatch
from chiasm.training.synthetic import StoredBatch

Batch = StoredBatch | RGBDBatch
Record = TypeVar("Record", StoredBatch, RGBDBatch, SourcedFeatures)


def to_device(record: Record, device: torch.device) -> Record:
    """The record with every tensor on a device; Lightning does not move frozen dataclasses."""

    def move(value: object) -> object:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, dict):
            return {name: move(item) for name, item in value.items()}
        if isinstance(value, SourcedFeatures):
            return to_device(value, device)
        return value

    return replace(record, **{f.name: move(getattr(record, f.name)) for f in fields(record)})


def run(detector: AdnasDetector, batch: Batch) -> DetectorOutput:
    """Run a detector on stored features or on a fresh batch."""
    if isinstance(batch, StoredBatch):
        return detector.fuse(batch.features)
    return detector(batch)


def mean_relative(output: DetectorOutput, size: torch.Size | None = None) -> Tensor:
    """Relative distances from normal ``(N, 1, h, w)``, the mean of all sources that have one.

    ``size`` is that of the first source where it is not given.
    """
    maps = list(output.relative.values())
    size = maps[0].shape[-2:] if size is None else size
    scaled = [torch.nn.functional.interpolate(m, size=tuple(size), mode="bilinear") for m in maps]
    return torch.stack(scaled).mean(0)


def mask_at(batch: Batch, size: torch.Size) -> Tensor:
    """The mask at the logits' size: a cell is anomalous where any of its pixels is."""
    assert batch.mask is not None
    return torch.nn.functional.adaptive_max_pool2d(batch.mask, tuple(size))


def total_loss(
    output: DetectorOutput, batch: Batch, *, dice: bool, with_reconstruction: bool = True
) -> Tensor:
    """Segmentation loss plus, for sources that reconstruct, their reconstruction terms.

    The reconstruction's target is the picture that went in, as in EasyNet.
    """
    loss = segmentation_loss(output.logits, mask_at(batch, output.logits.shape[-2:]), dice=dice)
    if with_reconstruction and isinstance(batch, RGBDBatch):
        for modality, reconstruction in output.reconstructions.items():
            loss = loss + reconstruction_loss(
                reconstruction, images_of(batch, modality), structural=modality == "rgb"
            )
    return loss
