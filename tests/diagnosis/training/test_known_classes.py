"""Where trained classes lie, and what is too far from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cosine, mahalanobis
from sklearn.covariance import LedoitWolf

from chiasm.diagnosis.decision import Distance, UnknownRule, is_unknown, joint_distances
from chiasm.diagnosis.preparation.packed_arrays import packed, unpacked
from chiasm.diagnosis.training.known_classes import _limit, fit_known_classes
from chiasm.metrics.ranking import auroc

KINDS = ("corona", "surface", "void")
CENTRES = np.random.default_rng(5).normal(0, 3, (4, 12))


def recordings(count=240, seed=0, kinds=3, spread=(1.0, 1.0, 1.0, 1.0)):
    """Recordings of sessions of six, each of one class with a deviation of its own."""
    rng = np.random.default_rng(seed)
    session = np.arange(count) // 6
    labels = session % kinds
    shift = rng.normal(0, 0.5, (session.max() + 1, 12))[session]
    scale = np.array(spread)[labels, None]
    rows = CENTRES[labels] + scale * (shift + rng.normal(0, 1, (count, 12)))
    return rows, labels, [f"s{number}" for number in session]


def test_arrays_come_back_from_their_text():
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(unpacked(packed(values), 4), values)
    with pytest.raises(ValueError):
        unpacked(packed(values), 5)


def test_lengths_and_angles_are_those_of_other_libraries():
    rows, labels, groups = recordings()
    known = fit_known_classes(rows, labels, KINDS, groups)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    means = np.stack([standard[labels == label].mean(axis=0) for label in range(3)])
    covariance = LedoitWolf(assume_centered=True).fit(standard - means[labels]).covariance_
    inverse = np.linalg.inv(covariance + 1e-3 * np.eye(12))
    mapping = np.linalg.inv(np.linalg.cholesky(covariance + 1e-3 * np.eye(12)))
    lengths, angles = known.measures(rows[:20])
    for row, length, angle in zip(standard[:20], lengths, angles, strict=True):
        for mean, one, other in zip(means, length, angle, strict=True):
            assert one == pytest.approx(mahalanobis(row, mean, inverse) / 12**0.5, rel=1e-4)
            assert other == pytest.approx(cosine(mapping @ row, mapping @ mean), abs=1e-5)


def test_a_class_that_was_not_trained_is_far_and_the_others_are_near():
    known = fit_known_classes(*_named(recordings()))
    held_out, labels, _ = recordings(seed=1)
    near = known.distances(held_out)
    assert (near.argmin(axis=1) == labels).mean() > 0.95
    new = CENTRES[3] + np.random.default_rng(2).normal(0, 1, (100, 12))
    far = known.distances(new).min(axis=1)
    scores = np.concatenate([near.min(axis=1), far])
    assert auroc(scores, np.repeat([0, 1], [len(near), len(far)])) > 0.95


def test_what_is_usual_for_a_class_is_its_unit():
    """A scattered class has larger lengths, and distances as small as those of a tight one."""
    known = fit_known_classes(*_named(recordings(spread=(0.4, 0.4, 3.0, 1.0))))
    assert known.lengths[2] > 1.5 * max(known.lengths[:2])
    rows, labels, _ = recordings(seed=1, spread=(0.4, 0.4, 3.0, 1.0))
    lengths = known.measures(rows)[0][np.arange(len(rows)), labels]
    units = np.array(known.lengths)[labels]

    def ratio(values):
        return np.median(values[labels == 2]) / np.median(values[labels == 0])

    assert ratio(lengths / units) < 0.7 * ratio(lengths)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_few_recordings_give_finite_distances(count: int):
    rows, labels, groups = recordings()
    known = fit_known_classes(rows[:count], labels[:count], KINDS, groups[:count])
    assert np.isfinite(known.distances(rows)).all()
    assert known.kinds == tuple(KINDS[label] for label in np.unique(labels[:count]))


def test_a_statistic_that_never_varied_decides_nothing_alone():
    rows, labels, groups = recordings()
    still = np.column_stack([rows, np.full(len(rows), 7.0)])
    known = fit_known_classes(still, labels, KINDS, groups)
    moved = still[:5] + np.eye(13)[12] * 1e6
    assert np.isfinite(known.distances(moved)).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
def test_the_limit_turns_at_most_its_share_of_right_diagnoses_away(share: float):
    rng = np.random.default_rng(3)
    distances, right = rng.random(100), rng.random(100) < 0.7
    limit = _limit(distances, right, share)
    assert share - 0.02 < (distances[right] > limit).mean() <= share
    # Where no diagnosis is right, all count: a limit of 0 would call everything unknown.
    assert _limit(distances, np.zeros(100, bool), 0.0) == distances.max()


def test_a_recording_is_like_a_class_only_if_both_modalities_are():
    known = fit_known_classes(*_named(recordings()))
    rows, labels, _ = recordings(seed=1)
    other = rows[np.argsort(labels != 0, kind="stable")][:60]  # of the first class
    mixed, kinds = joint_distances([known, known], [rows[labels == 1][:60], other])
    alone, _ = joint_distances([known], [other])
    assert kinds == known.kinds
    np.testing.assert_allclose(alone, known.distances(other))
    assert np.median(mixed.min(axis=1)) > 2 * np.median(alone.min(axis=1))


def test_no_distance_decides_nothing():
    assert is_unknown(0.4, 0.3, np.nan, 1.0) == np.False_
    assert is_unknown(0.2, 0.3, np.nan, np.nan) == np.True_
    assert is_unknown(np.ones(3), 0.0, np.array([0.9, 1.0, 1.1]), 1.0).tolist() == [0, 0, 1]


def test_the_sentence_says_which_class_is_nearest():
    said = Distance(1.724, 1.08, "void").sentence
    assert said.endswith("nearest is void, distance 1.72 against limit 1.08")
    assert UnknownRule("belief", 0.05, {}, {}).mains


def _named(made):
    rows, labels, groups = made
    return rows, labels, KINDS, groups
