"""Distance of point histograms from those of normal parts."""

from __future__ import annotations

import torch
from torch import Tensor

from chiasm.detection.evidence.evidence import Cells, Evidence
from chiasm.detection.layers.normality import NormalMemory
from chiasm.detection.layers.patches import FPFH, fpfh_patches, gather, gather_owners
from chiasm.errors import DataError
from chiasm.samples import RGBDBatch


class FpfhDistance(Evidence):
    """Distances of fast point feature histograms from a memory of those of normal parts.

    The map ``geometry/fpfh_distance`` holds the distance and the relative distance. Histograms are
    computed from points by a search for neighbours, outside of any graph of tensors: a model that
    reads them cannot be exported.

    Args:
        stride: pixels of the input per cell.
        memory_entries: histograms kept at most.
        step: stride of rows and columns at which points are described.
    """

    exportable = False

    def __init__(self, *, stride: int, memory_entries: int = 4_000, step: int = 2) -> None:
        super().__init__()
        self.sensors = ("geometry",)
        self.stride = stride
        self.step = step
        self.memory = NormalMemory(
            channels={stride: FPFH}, memory_entries=memory_entries, stride=stride
        )
        self._rows: list[Tensor] = []
        self._owners: list[Tensor] = []

    def _histograms(self, batch: RGBDBatch) -> Tensor:
        side = batch.foreground.shape[-1] // self.stride
        return fpfh_patches(batch, cells=side, step=self.step)

    def forward(self, cells: Cells, batch: RGBDBatch) -> dict[str, Tensor]:
        """Compute distance and relative distance."""
        maps = {self.stride: self._histograms(batch)}
        normality = self.memory(maps, batch.foreground, batch.index)
        return {
            "geometry/fpfh_distance": torch.cat([normality.distance, normality.relative], dim=1)
        }

    def partial_fit(self, cells: Cells, batch: RGBDBatch, chosen: Tensor) -> None:
        """Keep the histograms of the chosen cells, with their owners."""
        assert batch.index is not None
        described = self.memory.describe({self.stride: self._histograms(batch)})
        self._rows.append(gather(described, chosen))
        self._owners.append(gather_owners(batch.index, chosen))

    def finish_fit(self, *, seed: int) -> None:
        """Fill the memory; the bins share one deviation, see ``Standardisation``."""
        rows, owners = torch.cat(self._rows), torch.cat(self._owners)
        self._rows, self._owners = [], []
        if len(rows) < 8:
            raise DataError(
                f"Only {len(rows)} cells of normal parts have points; leave fpfh out of evidence."
            )
        deviation = rows.var(dim=0).mean().sqrt().expand(rows.shape[1])
        self.memory.fit_candidates(
            rows,
            owners,
            mean=rows.mean(dim=0),
            deviation=deviation,
            generator=torch.Generator().manual_seed(seed),
        )
