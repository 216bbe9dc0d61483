"""Find where the recordings of the trained classes lie, and how far from them is 'unknown'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.datamodule import DiagnosisDataModule
from chiasm.diagnosis.decision import (
    Array,
    KnownClasses,
    UnknownRule,
    joint_distances,
    weakest_accepted,
)
from chiasm.diagnosis.preparation.packed_arrays import packed
from chiasm.diagnosis.preparation.recording_statistics import (
    recording_statistics,
    statistics_parts,
)
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.diagnosis.training.mixtures import fit_mixture_forest

# Training recordings that are described, at most: their covariance has a few thousand entries.
MOST = 2_000
# Share of a class's recordings that have at most its usual length and angle, and the number of
# parts of the training recordings that are held out in turn to find these.
_USUAL, _PARTS = 0.8, 4
# Variance below which a statistic is constant, and what is added to every variance.
_CONSTANT, _RIDGE = 1e-12, 1e-3

Labels = NDArray[np.int64]


def fit_known_classes(
    statistics: Array,
    labels: Labels,
    kinds: Sequence[str],
    groups: Sequence[str],
    parts: Labels | None = None,
) -> KnownClasses:
    """Return where some training recordings lie.

    What is usual for a class is measured on recordings that are held out, in turn, together with
    those of their group, and drawn half the way (on a logarithmic scale) to what is usual for all
    classes: of few sessions it is known only roughly.

    Args:
        statistics: ``(M, D)`` of training recordings, at least one.
        labels: ``(M,)`` their classes, positions in ``kinds``.
        kinds: names of the classes; those without a recording are left out.
        groups: M names; recordings of one group depend on each other.
        parts: ``(D,)`` of ``statistics_parts``; None makes no mixtures.
    """
    whole = _fitted(statistics, labels, kinds)
    present = np.unique(labels)
    column = np.searchsorted(present, labels)
    measured = np.full((2, len(labels)), np.nan)
    part = np.unique(np.asarray(groups), return_inverse=True)[1] % _PARTS
    for number in range(_PARTS):
        held_out, rest = part == number, part != number
        if not held_out.any() or not rest.any():
            continue
        one = _fitted(statistics[rest], labels[rest], kinds)
        columns = np.full(len(present), -1)
        columns[np.searchsorted(present, np.unique(labels[rest]))] = range(len(one.kinds))
        has = held_out & (columns[column] >= 0)
        for row, values in enumerate(one.measures(statistics[has])):
            measured[row, has] = values[np.arange(len(values)), columns[column[has]]]
    lengths, angles = (_usual(row, column, len(present)) for row in measured)
    forest = None if parts is None else fit_mixture_forest(statistics, column, parts)
    return replace(whole, lengths=lengths, angles=angles, mixtures=forest)


def _fitted(statistics: Array, labels: Labels, kinds: Sequence[str]) -> KnownClasses:
    """Return means and the mapping to coordinates; all lengths and angles are 1.

    References:
        Ledoit, Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
        Journal of Multivariate Analysis 88, 2004: of the covariance within the classes.
    """
    from sklearn.covariance import LedoitWolf

    centre, variance = statistics.mean(axis=0), statistics.var(axis=0)
    identity, present = np.eye(statistics.shape[1]), np.unique(labels)
    ones = (1.0,) * len(present)
    standard = KnownClasses(
        kinds=tuple(kinds[label] for label in present),
        centre=packed(centre),
        scale=packed(np.sqrt(np.where(variance > _CONSTANT, variance, 1.0))),
        mapping=packed(identity),
        means="",
        lengths=ones,
        angles=ones,
    )
    points = standard.points(statistics)
    means = np.stack([points[labels == label].mean(axis=0) for label in present])
    within = points - means[np.searchsorted(present, labels)]
    covariance = identity  # of a single recording
    if len(within) > 1:
        covariance = LedoitWolf(assume_centered=True).fit(within).covariance_ + _RIDGE * identity
    mapping = np.linalg.inv(np.linalg.cholesky(covariance))
    return replace(standard, mapping=packed(mapping), means=packed(means @ mapping.T))


def _usual(measured: Array, column: Labels, classes: int) -> tuple[float, ...]:
    """Return by class the measure that most of its held-out recordings have at most."""
    known = ~np.isnan(measured)
    of_all = float(np.quantile(measured[known], _USUAL)) if known.any() else 1.0
    usual = []
    for number in range(classes):
        values = measured[known & (column == number)]
        of_class = float(np.quantile(values, _USUAL)) if len(values) else of_all
        usual.append(max(float(np.sqrt(of_class * of_all)), 1e-6))
    return tuple(usual)


@dataclass(frozen=True, slots=True)
class DescribedRecordings:
    """Where the training recordings lie, and statistics of the validation recordings.

    Neither depends on the classifier, so that a run with a budget makes them before it trains.

    Attributes:
        known: modality to where the trained classes lie in it.
        held_out: modality to statistics ``(N, D)`` of the validation recordings; NaN where one
            lacks it.
    """

    known: Mapping[str, KnownClasses]
    held_out: Mapping[str, Array]


def describe_recordings(data: DiagnosisDataModule) -> DescribedRecordings:
    """Describe what the rule of 'unknown' needs of a run; nothing where belief alone decides."""
    config = data.config
    known: dict[str, KnownClasses] = {}
    held_out: dict[str, Array] = {}
    if config.unknown_by == "belief":
        return DescribedRecordings(known, held_out)
    mains = config.phase != "none"
    training = _evenly(data.split.train, MOST)
    labels = np.array([ref.label for ref in training], np.int64)
    groups = [ref.group.get(data.groups_by) or str(n) for n, ref in enumerate(training)]
    for modality in config.modalities:
        rows = _described(data, training, modality, mains)
        has = _complete(rows)
        if has.any():
            names = [group for group, one in zip(groups, has) if one]
            known[modality] = fit_known_classes(
                rows[has],
                labels[has],
                data.store.kinds,
                names,
                statistics_parts(modality, rows.shape[1], mains=mains),
            )
            held_out[modality] = _described(data, data.split.validation, modality, mains)
    return DescribedRecordings(known, held_out)


def fit_unknown_rule(
    data: DiagnosisDataModule,
    right: Mapping[str, NDArray[np.bool_]],
    described: DescribedRecordings | None = None,
) -> UnknownRule:
    """Choose on a run's validation recordings how far from the trained classes is 'unknown'.

    Args:
        data: of the run.
        right: modalities that are present, e.g. ``"image+series"``, to ``(N,)`` whether the
            diagnosis of each validation recording is right.
        described: of the run; None describes its recordings.
    """
    config = data.config
    described = describe_recordings(data) if described is None else described
    known, held_out = described.known, described.held_out
    if config.unknown_by == "belief":
        return UnknownRule("belief", config.unknown_share, {}, {})
    share = config.unknown_share / (2 if config.unknown_by == "both" else 1)
    limits = {}
    for key, is_right in right.items():
        shown = key.split("+")
        if not set(shown) <= set(known):
            continue
        has = np.all([_complete(held_out[m]) for m in shown], axis=0)
        if has.any():
            distances, kinds = joint_distances(
                [known[m] for m in shown], [held_out[m][has] for m in shown]
            )
            if kinds:
                limits[key] = _limit(distances.min(axis=1), is_right[has], share)
    mains = config.phase != "none"
    return UnknownRule(config.unknown_by, config.unknown_share, dict(known), limits, mains)


def _limit(distances: Array, right: NDArray[np.bool_], share: float) -> float:
    """Return the least distance that makes at most a share of the right diagnoses 'unknown'."""
    counted = right if right.any() else np.ones_like(right)
    return -weakest_accepted(-distances, counted, share=share)


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
