"""Trees that tell recordings of the trained classes from mixtures of their statistics, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.packed_arrays import decompressed

Array = NDArray[np.float64]

# Added to the shares of mixtures and of other classes: a forest that is certain of a recording must
# not make every distance 0, and trees that were trained on few recordings are often certain.
_LEAST_MIXED, _LEAST_OTHER = 0.1, 0.05


@dataclass(frozen=True, slots=True)
class MixtureForest:
    """Decision trees with K trained classes and, last, mixtures; arrays are compressed text.

    The nodes of a tree lie in a row, the left child directly behind its parent.

    Attributes:
        sizes: nodes of each tree, uint32.
        features: statistic that each node compares, uint16.
        thresholds: up to which the left child follows, float32.
        rights: by how many nodes the right child is further, uint16; 0 of a leaf.
        shares: of the K + 1 classes in each leaf, ``(leaves, K + 1)``, 255 is all, uint8.
    """

    sizes: str
    features: str
    thresholds: str
    rights: str
    shares: str

    def class_shares(self, statistics: Array) -> Array:
        """Return the mean shares ``(N, K + 1)`` in the leaves of statistics ``(N, D)``."""
        roots, features, thresholds, rights, leaf_shares = _nodes(
            self.sizes, self.features, self.thresholds, self.rights, self.shares
        )
        rows = np.arange(len(statistics))[:, None]
        values = statistics.astype(np.float32)  # as thresholds were chosen
        node = np.repeat(roots[None], len(values), axis=0)  # (N, trees)
        while True:
            step = rights[node]
            if not step.any():
                break
            below = values[rows, features[node]] <= thresholds[node]
            node = node + np.where(step == 0, 0, np.where(below, 1, step))
        return np.asarray(leaf_shares[node].mean(axis=1))

    def doubts(self, statistics: Array) -> Array:
        """Return the doubts ``(N, K)`` that recordings are of each trained class, 0.005 to 1.16.

        The share of mixtures, times the share that is not of the class.
        """
        shares = self.class_shares(statistics)
        mixed, own = shares[:, -1:], shares[:, :-1]
        return np.asarray((mixed + _LEAST_MIXED) * (1 - own + _LEAST_OTHER))


@lru_cache(maxsize=8)
def _nodes(
    sizes: str, features: str, thresholds: str, rights: str, shares: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], Array]:
    """Return roots, features, thresholds, steps to the right and shares ``(nodes, K + 1)``."""
    counts = decompressed(sizes, "u4").astype(np.int64)
    steps = decompressed(rights, "u2").astype(np.int64)
    leaf = steps == 0
    of_leaves = decompressed(shares, "u1").reshape(int(leaf.sum()), -1)
    by_node = np.zeros((len(steps), of_leaves.shape[1]))
    by_node[leaf] = of_leaves / 255
    return (
        np.cumsum(counts) - counts,
        decompressed(features, "u2").astype(np.int64),
        decompressed(thresholds, "f4"),
        steps,
        by_node,
    )
