"""Fitting of the memories of normals: one pass over the normal parts, without gradient."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from chiasm.detection.layers.features import NormalityFeatures, images_of
from chiasm.detection.layers.maps import cells_inside
from chiasm.detection.layers.normality import Moments, NormalMemory, drawn_candidates
from chiasm.detection.layers.patches import gather, gather_owners
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.files.rows import RowFile, SampledRows
from chiasm.samples import PreparedSample, RGBDBatch
from chiasm.training.device import device_of, in_chunks
from chiasm.training.progress import Progress

BLOCK = 2**17  # descriptors in memory at a time; 92 MB of 176 channels
# Descriptors that a memory is fitted on, all of 4,000 parts or as many of more: 3 GB on the disk.
MOST_ROWS = 2**22


@torch.no_grad()
def fit_memory(
    source: NormalityFeatures,
    parts: Sequence[PreparedSample],
    *,
    scale: GeometryScale,
    seed: int = 0,
    owners: Sequence[int] | None = None,
    batch: int = 8,
    folder: Path | None = None,
    block: int = BLOCK,
    progress: Progress | None = None,
) -> None:
    """Fit every memory of the source on normal parts.

    Descriptors are written to a temporary file. In memory are a block of them, and the candidates
    that a memory chooses from. Of more than ``MOST_ROWS`` descriptors the file keeps so many,
    drawn at random in passing, so that neither memory nor disk grow with the number of parts.

    Args:
        source: with its memories.
        parts: prepared; a batch of them is in memory at a time.
        scale: of their geometry pictures.
        seed: of the choice of descriptors.
        owners: owner of each part; the memory excludes the descriptors of a part's owner. None
            takes the parts' numbers.
        batch: parts at a time.
        folder: for the temporary file; None takes the system's.
        block: descriptors at a time. Up to one block, mean and deviation are computed at once.
        progress: counts the parts.
    """
    owners = range(len(parts)) if owners is None else owners
    device = device_of(source)
    with tempfile.TemporaryDirectory(prefix="descriptors-", dir=folder) as temporary:
        files = {
            m: SampledRows(Path(temporary) / f"{m}.bin", most=MOST_ROWS, seed=seed)
            for m in source.modalities
        }

        def describe(chosen: slice) -> None:
            numbers = range(len(parts))[chosen]
            inputs = to_batch(
                [parts[i] for i in numbers],
                scale,
                modalities=source.modalities,
                indices=[owners[i] for i in numbers],
                device=device,
            )
            for modality, values in described(source, inputs).items():
                files[modality].append(values)
            if progress is not None:
                progress.update(len(numbers))

        in_chunks(describe, len(parts), batch)
        with Progress("Selecting descriptors", len(files), unit="memories") as selection:
            for modality, rows in selection.over(files.items()):
                _fit(source.memories[modality], rows, seed=seed, block=block)


def described(source: NormalityFeatures, batch: RGBDBatch) -> dict[str, dict[str, np.ndarray]]:
    """Return by modality the rows of a batch's cells on the object, for a file of rows.

    A row holds the ``descriptor`` of a cell and the ``owner`` of its part.
    """
    assert batch.index is not None
    rows: dict[str, dict[str, np.ndarray]] = {}
    for modality in source.modalities:
        maps = source.memories[modality].describe(source.backbone(images_of(batch, modality)))
        inside = cells_inside(batch.foreground, maps.shape[-2:])
        values = {
            "descriptor": gather(maps, inside),
            "owner": gather_owners(batch.index, inside),
        }
        rows[modality] = {name: value.cpu().numpy() for name, value in values.items()}
    return rows


def _fit(memory: NormalMemory, rows: RowFile, *, seed: int, block: int) -> None:
    """Fit a memory on a file of descriptors, block by block, on the memory's device."""
    device = device_of(memory)
    moments = Moments()
    for values in rows.blocks(block, ["descriptor"]):
        moments.add(torch.from_numpy(values["descriptor"]).to(device))
    generator = torch.Generator().manual_seed(seed)
    chosen = drawn_candidates(len(rows), generator)
    candidates = torch.zeros(len(chosen), memory.dimension)
    owners = torch.zeros(len(chosen), dtype=torch.int64)
    for start in range(0, len(rows), block):
        # Neighbours in the file are read together, whatever their order among the candidates.
        places = torch.nonzero((chosen >= start) & (chosen < start + block))[:, 0]
        places = places[chosen[places].argsort()]
        values = rows.read(chosen[places].tolist())
        candidates[places] = torch.from_numpy(values["descriptor"])
        owners[places] = torch.from_numpy(values["owner"])
    memory.fit_candidates(
        candidates.to(device),
        owners.to(device),
        mean=moments.mean,
        deviation=moments.deviation,
        generator=generator,
    )
