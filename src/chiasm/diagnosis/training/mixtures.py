"""Stand-ins for faults that nobody has recorded: mixtures of the statistics of trained classes.

A new fault shares something with each trained one: the rhythm of one, the phases of another. So do
mixtures, and a forest that tells recordings from mixtures learns which parts go together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.mixture_forest import MixtureForest
from chiasm.diagnosis.preparation.packed_arrays import compressed

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

TREES = 100
_LEAST = 3  # recordings or mixtures in a leaf
_PAIRS = 2  # drawn for each recording


def mixtures(statistics: Array, labels: Labels, parts: Labels, rng: np.random.Generator) -> Array:
    """Return statistics ``(M, D)`` of which each part is of either of two recordings.

    Args:
        statistics: ``(N, D)`` of recordings.
        labels: ``(N,)`` their classes; a pair is of two classes.
        parts: ``(D,)`` number of the part that a statistic belongs to.
        rng: draws about 2 pairs a recording; fewer where most are of one class.
    """
    first, second = rng.integers(len(labels), size=(2, _PAIRS * len(labels)))
    differ = labels[first] != labels[second]
    one, other = statistics[first[differ]], statistics[second[differ]]
    from_one = rng.random((len(one), parts.max() + 1)) < 0.5
    return np.where(from_one[:, parts], one, other)


def fit_mixture_forest(
    statistics: Array, labels: Labels, parts: Labels, *, seed: int = 0
) -> MixtureForest | None:
    """Return extremely randomised trees on recordings and mixtures; None of a single class.

    Args:
        statistics: ``(N, D)`` of training recordings.
        labels: ``(N,)`` their classes.
        parts: as ``mixtures`` takes them.
        seed: of the pairs and the trees.

    References:
        Geurts, Ernst, Wehenkel, Extremely randomized trees, Machine Learning 63, 2006. Shi,
        Horvath, Unsupervised Learning With Random Forest Predictors, Journal of Computational and
        Graphical Statistics 15(1), 2006 (synthetic rows from the rows' own values).
    """
    from sklearn.ensemble import ExtraTreesClassifier

    mixed = mixtures(statistics, labels, parts, np.random.default_rng(seed))
    if not len(mixed):
        return None
    rows = np.concatenate([statistics, mixed])
    targets = np.concatenate([labels, np.full(len(mixed), labels.max() + 1)])
    forest = ExtraTreesClassifier(
        TREES,
        min_samples_leaf=_LEAST,
        class_weight="balanced",
        random_state=seed,
    ).fit(rows, targets)
    trees = [estimator.tree_ for estimator in forest.estimators_]
    joined = {
        name: np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("children_left", "children_right", "feature", "threshold", "value")
    }
    own = np.concatenate([np.arange(tree.node_count) for tree in trees])
    leaf = joined["children_left"] < 0
    shares = joined["value"][leaf, 0]
    shares = shares / shares.sum(axis=1, keepdims=True)
    return MixtureForest(
        sizes=compressed(np.array([tree.node_count for tree in trees], np.uint32)),
        features=compressed(np.where(leaf, 0, joined["feature"]).astype(np.uint16)),
        thresholds=compressed(_below(np.where(leaf, 0.0, joined["threshold"]))),
        rights=compressed(np.where(leaf, 0, joined["children_right"] - own).astype(np.uint16)),
        shares=compressed(np.rint(255 * shares).astype(np.uint8)),
    )


def _below(thresholds: Array) -> NDArray[np.float32]:
    """Return thresholds in float32, none above its value: no recording changes its side."""
    rounded = thresholds.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > thresholds, lower, rounded)
