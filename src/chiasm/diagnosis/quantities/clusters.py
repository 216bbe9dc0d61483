"""Clusters of pulses by phase and charge: one for each lobe of the pattern.

Pulses are counted in cells of phase and of the logarithm of the charge, and the counts smoothed.
Each cell belongs to the peak to which the steepest way up leads; two peaks are one cluster where
the pass between them is nearly as high as the lower of them. So clusters have any form, and their
number is not given. The idea is that of mode seeking: Koontz, Narendra, Fukunaga, "A
graph-theoretic approach to nonparametric cluster analysis" (IEEE Trans. Computers, 1976), with the
merging by prominence of Chazal et al., "Persistence-based clustering in Riemannian manifolds"
(J. ACM, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.discharge import Array, Pulses

# Cells: of 5.6 degrees, and of a sixteenth of an octave of the charge.
PHASES = 64
_PER_OCTAVE = 8
_OCTAVES = 8
_SMOOTH = 1.5  # cells
# A pass of this share of the lower peak joins two peaks.
_PASS = 0.5
# Below these densities pulses are scattered: pulses a cell, and share of the largest.
_SPARSE, _SCATTERED = 0.15, 0.002
# Cells of this share of a cluster's peak, and the share of its pulses from which they are apart.
_HALO, _HALO_MASS = 0.1, 0.1
# So are those of a cluster with fewer pulses than this, and a smaller share of all.
_FEW, _SMALL = 30, 0.02


@dataclass(frozen=True, slots=True, eq=False)
class PulseClusters:
    """Clusters of the pulses of a recording.

    Attributes:
        labels: ``(N,)`` the cluster of each pulse from 0, the largest first; -1 of scattered ones.
        halos: those clusters that are the surroundings of a denser one, without a peak.
    """

    labels: NDArray[np.int64]
    halos: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """Return the number of clusters."""
        return int(self.labels.max(initial=-1)) + 1


def pulse_clusters(pulses: Pulses) -> PulseClusters:
    """Find the clusters of pulses by phase and charge."""
    charge = np.abs(pulses.amplitude)
    if not charge.size:
        return PulseClusters(np.zeros(0, np.int64))
    rows = _OCTAVES * _PER_OCTAVE
    octave = np.log2(np.maximum(charge, 1e-300) / charge.max())  # at most 0
    row = np.clip((rows + octave * _PER_OCTAVE).astype(np.int64), 0, rows - 1)
    column = np.minimum((pulses.phase / 360.0 * PHASES).astype(np.int64), PHASES - 1)
    cell = row * PHASES + column
    counts = np.bincount(cell, weights=pulses.count, minlength=rows * PHASES)
    density = _smoothed(counts.reshape(rows, PHASES).astype(np.float64))
    basins = _basins(density)
    first_halo = int(basins.max(initial=-1)) + 1
    labels = _without_halos(density, basins, cell)[cell]
    weight = np.ones(charge.size) if pulses.count is None else pulses.count
    sizes = np.bincount(labels[labels >= 0], weights=weight[labels >= 0])
    order = np.argsort(-sizes, kind="stable")
    rank = np.full(len(sizes) + 1, -1, np.int64)
    rank[order] = np.arange(len(sizes))
    least = max(_FEW, _SMALL * float(weight.sum()))
    rank[order[sizes[order] < least]] = -1
    halos = frozenset(rank[first_halo:-1].tolist()) - {-1}
    return PulseClusters(rank[labels], halos)


def _without_halos(
    density: Array, labels: NDArray[np.int64], cell: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the clusters of cells, where the sparse surroundings of a dense one are apart.

    A source beside a much denser one has no peak of its own. A single peak has few pulses where its
    density is a small share of the largest; where there are many, they are another source's.
    """
    flat, labels = density.ravel(), labels.copy()
    peaks = np.zeros(labels.max(initial=-1) + 2)
    np.maximum.at(peaks, labels, flat)  # the last one is that of scattered cells
    halo = (labels >= 0) & (flat < _HALO * peaks[labels])
    count, parts = cv2.connectedComponents(halo.reshape(density.shape).astype(np.uint8))
    for top, bottom in zip(parts[:, 0].tolist(), parts[:, -1].tolist()):
        if top and bottom:
            parts[parts == bottom] = top  # the phase runs round
    parts = parts.ravel()
    pulses = np.bincount(parts[cell], minlength=count)
    around = np.bincount(labels[cell] + 1, minlength=labels.max(initial=-1) + 2)[1:]
    fresh = labels.max(initial=-1)
    for part in np.flatnonzero(pulses[1:]) + 1:
        owner = np.bincount(labels[parts == part]).argmax()
        if pulses[part] >= _HALO_MASS * around[owner]:
            fresh += 1
            labels[parts == part] = fresh
    return labels


def _smoothed(counts: Array) -> Array:
    """Return ``(rows, PHASES)`` counts blurred, the phase running round."""
    wide = np.concatenate([counts[:, -8:], counts, counts[:, :8]], axis=1)
    return np.asarray(cv2.GaussianBlur(wide, (0, 0), _SMOOTH)[:, 8:-8], np.float64)


def _basins(density: Array) -> NDArray[np.int64]:
    """Return the cluster of each cell, flat; -1 of scattered ones.

    Cells are taken from the densest on: one without a labelled neighbour is a new peak, another
    joins the neighbour with the highest peak; where it touches several, it is a pass between them.
    """
    rows, columns = density.shape
    flat = density.ravel()
    labels = np.full(flat.size, -1, np.int64)
    parent: list[int] = []
    peak: list[float] = []

    def root(cluster: int) -> int:
        while parent[cluster] != cluster:
            cluster = parent[cluster]
        return cluster

    least = max(_SPARSE, _SCATTERED * float(flat.max(initial=0.0)))
    order = np.argsort(-flat, kind="stable")
    for place in order[: int((flat > least).sum())].tolist():
        row, column = divmod(place, columns)
        near = {
            root(int(labels[r * columns + c % columns]))
            for r in range(max(row - 1, 0), min(row + 2, rows))
            for c in (column - 1, column, column + 1)
            if labels[r * columns + c % columns] >= 0
        }
        if not near:
            parent.append(len(parent))
            peak.append(float(flat[place]))
            labels[place] = parent[-1]
            continue
        best = max(near, key=lambda cluster: peak[cluster])
        labels[place] = best
        for other in near - {best}:
            if flat[place] >= _PASS * peak[other]:
                parent[other] = best
    return np.array([root(k) if k >= 0 else -1 for k in labels.tolist()], np.int64)
