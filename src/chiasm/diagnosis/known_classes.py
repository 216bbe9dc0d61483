"""Find where the recordings of the trained classes lie, and how far from them is 'unknown'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.decision import Array, KnownClasses, UnknownRule, weakest_accepted
from chiasm.diagnosis.preparation.recording_statistics import recording_statistics
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.files.packed_arrays import packed

# Training recordings that are described, at most: their covariance has a few thousand entries.
MOST = 2_000
# Share of the held-out recordings that neither length nor angle should exceed.
_USUAL = 0.95
# Variance below which a statistic is constant, and what is added to every variance.
_CONSTANT, _RIDGE = 1e-12, 1e-3

Labels = NDArray[np.int64]


def fit_known_classes(
    statistics: Array, labels: Labels, kinds: Sequence[str], held_out: Array
) -> KnownClasses:
    """Return where some training recordings lie.

    Args:
        statistics: ``(M, D)`` of training recordings, at least one.
        labels: ``(M,)`` their classes, positions in ``kinds``.
        kinds: names of the classes; those without a recording are left out.
        held_out: ``(N, D)`` of other recordings of these classes, at least one.

    References:
        Ledoit, Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
        Journal of Multivariate Analysis 88, 2004: of the covariance within the classes.
    """
    from sklearn.covariance import LedoitWolf

    centre, variance = statistics.mean(axis=0), statistics.var(axis=0)
    scale = np.sqrt(np.where(variance > _CONSTANT, variance, 1.0))
    identity, width = np.eye(statistics.shape[1]), statistics.shape[1]
    present = np.unique(labels)
    # Standardised as a diagnosis does it, so that both clip alike.
    known = KnownClasses(
        kinds=tuple(kinds[label] for label in present),
        centre=packed(centre),
        scale=packed(scale),
        mapping=packed(identity),
        means=packed(np.zeros((len(present), width))),
        far=1.0,
        turned=1.0,
    )
    standard = known.points(statistics)
    means = np.stack([standard[labels == label].mean(axis=0) for label in present])
    within = standard - means[np.searchsorted(present, labels)]
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_ + _RIDGE * identity
    mapping = np.linalg.inv(np.linalg.cholesky(covariance))
    fitted = KnownClasses(
        **{name: getattr(known, name) for name in ("kinds", "centre", "scale")},
        mapping=packed(mapping),
        means=packed(means @ mapping.T),
        far=1.0,
        turned=1.0,
    )
    lengths, angles = fitted.measures(held_out)
    return KnownClasses(
        **{
            name: getattr(fitted, name) for name in ("kinds", "centre", "scale", "mapping", "means")
        },
        far=_usual(lengths),
        turned=_usual(angles),
    )


def _usual(measures: Array) -> float:
    """Return the measure from the nearest class that few held-out recordings exceed."""
    return max(float(np.quantile(measures.min(axis=1), _USUAL)), 1e-6)


def fit_unknown_rule(
    data: DiagnosisDataModule, right: Mapping[str, NDArray[np.bool_]]
) -> UnknownRule:
    """Choose on a run's validation recordings how far from the trained classes is 'unknown'.

    Args:
        data: of the run.
        right: modalities that are present, e.g. ``"image+series"``, to ``(N,)`` whether the
            diagnosis of each validation recording is right.
    """
    config = data.config
    if config.unknown_by == "belief":
        return UnknownRule("belief", config.unknown_share, {}, {})
    mains = config.phase != "none"
    training = _evenly(data.split.train, MOST)
    labels = np.array([ref.label for ref in training], np.int64)
    known: dict[str, KnownClasses] = {}
    distances: dict[str, Array] = {}
    for modality in config.modalities:
        held_out = _described(data, data.split.validation, modality, mains)
        fitted = _described(data, training, modality, mains)
        described, told = _complete(fitted), _complete(held_out)
        if described.any() and told.any():
            one = fit_known_classes(
                fitted[described], labels[described], data.store.kinds, held_out[told]
            )
            known[modality] = one
            distances[modality] = np.full(len(held_out), np.nan)
            distances[modality][told] = one.distances(held_out[told])[0]
    share = config.unknown_share / (2 if config.unknown_by == "both" else 1)
    limits = {
        key: _limit([distances[m] for m in key.split("+")], rows, share)
        for key, rows in right.items()
        if set(key.split("+")) <= set(known)
    }
    limits = {key: limit for key, limit in limits.items() if limit is not None}
    return UnknownRule(config.unknown_by, config.unknown_share, known, limits, mains)


def _limit(distances: Sequence[Array], right: NDArray[np.bool_], share: float) -> float | None:
    """Return the least distance that makes at most a share of the right diagnoses 'unknown'.

    None without a recording that has all the modalities.
    """
    largest = np.max(distances, axis=0)
    present = ~np.isnan(largest)
    if not present.any():
        return None
    counted = right & present if (right & present).any() else present
    return -weakest_accepted(-largest, counted, share=share)


def _described(
    data: DiagnosisDataModule, refs: Iterable[RecordingRef], modality: str, mains: bool
) -> Array:
    """Return statistics ``(N, D)``; NaN for a recording that lacks the modality."""
    rows: list[Array | None] = []
    for ref in refs:
        sample = data.store.load(ref)
        present = getattr(sample, modality) is not None
        rows.append(
            recording_statistics(sample, data.form, modality, mains=mains) if present else None
        )
    width = next((len(row) for row in rows if row is not None), 1)
    return np.array([np.full(width, np.nan) if row is None else row for row in rows])


def _complete(rows: Array) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(rows).any(axis=1))


def _evenly(refs: Sequence[RecordingRef], most: int) -> list[RecordingRef]:
    """Return at most so many recordings, evenly of each class and spread over the list."""
    by_class: dict[int, list[RecordingRef]] = {}
    for ref in refs:
        assert ref.label is not None
        by_class.setdefault(ref.label, []).append(ref)
    each = max(1, most // len(by_class))
    return [ref for some in by_class.values() for ref in some[:: -(-len(some) // each)]]
