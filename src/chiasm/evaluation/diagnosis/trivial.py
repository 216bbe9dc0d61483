"""What needs no model: one number a recording, and thresholds on it learnt from training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.tree import DecisionTreeClassifier

from chiasm.errors import DataError

_INTERVALS_A_CLASS = 3


@dataclass(frozen=True, slots=True, eq=False)
class TrivialRival:
    """One number a recording.

    Attributes:
        train: ``(M,)`` of the training recordings.
        train_labels: ``(M,)`` their classes.
        test: ``(N,)`` of the recordings that are judged, in their order.
    """

    train: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float64]


def trivial_guesses(rival: TrivialRival) -> NDArray[np.int64]:
    """Guess classes ``(N,)`` by thresholds on one number, at most three intervals a class.

    Raises:
        DataError: lengths differ or there is nothing to learn from.

    Example:
        >>> rival = TrivialRival(np.r_[1.0, 1.1, 5.0, 5.1], np.r_[0, 0, 1, 1], np.r_[0.0, 9.0])
        >>> trivial_guesses(rival).tolist()
        [0, 1]
    """
    train, labels = _column(rival.train), np.asarray(rival.train_labels)
    if not len(train) or len(train) != len(labels):
        raise DataError(
            f"{len(train)} numbers and {len(labels)} labels of training recordings were given; "
            "one each, and at least one, was expected."
        )
    leaves = max(2, _INTERVALS_A_CLASS * len(np.unique(labels)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves,
        min_samples_leaf=max(1, len(train) // 100),
        class_weight="balanced",
        random_state=0,
    )
    tree.fit(train, labels)
    return np.asarray(tree.predict(_column(rival.test)), np.int64)


def _column(values: ArrayLike) -> NDArray[np.float64]:
    """``(N,)`` as ``(N, 1)``."""
    return np.asarray(values, np.float64).reshape(-1, 1)
