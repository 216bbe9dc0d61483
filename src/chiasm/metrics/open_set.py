"""Scores of open-set recognition: larger means less like the classes of the training data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from chiasm.errors import DataError
from chiasm.metrics import metric
from chiasm.metrics.calibration import softmax


def max_softmax_score(logits: ArrayLike) -> NDArray[np.float64]:
    """Return one minus the largest probability, ``(N,)``.

    References:
        Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution
        Examples, ICLR 2017.
    """
    return 1 - softmax(logits).max(axis=1)


def energy_score(logits: ArrayLike, *, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the free energy ``-T log sum exp(logits / T)``, ``(N,)``.

    References:
        Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, Equation 4.
    """
    scores = np.asarray(logits, np.float64)
    return -temperature * logsumexp(scores / temperature, axis=1)


def knn_score(
    embeddings: ArrayLike, reference: ArrayLike, *, neighbours: int = 10
) -> NDArray[np.float64]:
    """Return the distance to the k-th nearest training embedding, all of length 1, ``(N,)``.

    Args:
        embeddings: ``(N, D)`` to be scored.
        reference: ``(M, D)`` of training recordings, M at least ``neighbours``.
        neighbours: k.

    References:
        Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022.
    """
    train, query = _unit(reference), _unit(embeddings)
    if not 1 <= neighbours <= len(train):
        raise DataError(
            f"{neighbours} neighbours cannot be found among {len(train)} training embeddings."
        )
    distance, _ = NearestNeighbors(n_neighbors=neighbours).fit(train).kneighbors(query)
    return np.asarray(distance[:, -1], np.float64)


@metric()
def fpr_at_tpr(scores: ArrayLike, unseen: ArrayLike, *, recall: float = 0.95) -> float:
    """Return the share of known samples rejected when ``recall`` of the unknown are (FPR95).

    Args:
        scores: ``(N,)``, larger is less like a known class.
        unseen: ``(N,)``, 1 for samples of an unknown class.
        recall: in (0, 1].

    Raises:
        DataError: a score is NaN, or all samples are known or unknown.
    """
    values, unknown = np.asarray(scores, np.float64), np.asarray(unseen).astype(bool)
    if np.isnan(values).any():
        raise DataError(f"{int(np.isnan(values).sum())} of {values.size} scores are NaN.")
    if unknown.all() or not unknown.any():
        raise DataError("Both known and unknown recordings are needed for a false-alarm rate.")
    ordered = np.sort(values[unknown])[::-1]
    threshold = ordered[int(np.ceil(recall * len(ordered))) - 1]
    return float((values[~unknown] >= threshold).mean())


def _unit(vectors: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(vectors, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
