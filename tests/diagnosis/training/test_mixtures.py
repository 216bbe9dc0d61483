"""Mixtures of trained classes, and the forest that tells recordings from them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from chiasm.diagnosis.preparation.packed_arrays import compressed, decompressed
from chiasm.diagnosis.training.known_classes import fit_known_classes
from chiasm.diagnosis.training.mixtures import (
    _LEAST,
    TREES,
    fit_mixture_forest,
    mixtures,
)
from chiasm.metrics.ranking import auroc

PARTS = np.repeat([0, 1, 2], [4, 3, 5])
KINDS = ("corona", "surface", "void")


def recordings(count=180, seed=0, apart=3.0):
    """Three classes, each with its own value of each of three parts."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    means = np.random.default_rng(9).normal(0, apart, (3, 12))
    return means[labels] + rng.normal(0, 1, (count, 12)), labels


def shared_parts(rows, labels, seed=2):
    """A new class: the first part of one class, the second of another, the third of the last."""
    rng = np.random.default_rng(seed)
    of = [rows[rng.choice(np.flatnonzero(labels == kind), 60)] for kind in range(3)]
    return np.stack(of)[PARTS, :, np.arange(12)].T


@pytest.fixture(scope="module")
def forest():
    return fit_mixture_forest(*recordings(), PARTS)


def test_each_part_of_a_mixture_is_whole_and_from_one_of_two_classes():
    rows, labels = recordings()
    mixed = mixtures(rows, labels, PARTS, np.random.default_rng(0))
    origins = []
    for part in range(3):
        columns = part == PARTS
        same = (mixed[:, None, columns] == rows[None][..., columns]).all(axis=2)
        assert (same.sum(axis=1) == 1).all()
        origins.append(same.argmax(axis=1))
    assert (np.array([len(set(three)) for three in zip(*origins, strict=True)]) <= 2).all()
    assert len(mixed) > len(rows)


def test_the_shares_are_those_of_the_trees_that_were_fitted(forest):
    rows, labels = recordings()
    mixed = mixtures(rows, labels, PARTS, np.random.default_rng(0))
    targets = np.concatenate([labels, np.full(len(mixed), 3)])
    reference = ExtraTreesClassifier(
        TREES, min_samples_leaf=_LEAST, class_weight="balanced", random_state=0
    ).fit(np.concatenate([rows, mixed]), targets)
    others = recordings(seed=1)[0]
    # A share is kept in steps of 1/255.
    expected = reference.predict_proba(others)
    np.testing.assert_allclose(forest.class_shares(others), expected, atol=0.5 / 255 + 1e-9)


def test_one_recording_has_the_shares_that_it_has_among_others(forest):
    rows, _ = recordings(seed=1)
    np.testing.assert_array_equal(forest.class_shares(rows[:1]), forest.class_shares(rows)[:1])


def test_what_combines_parts_of_trained_classes_is_far_from_all():
    rows, labels = recordings(apart=1.0)
    groups = [str(number // 6) for number in range(len(rows))]
    known, _ = recordings(seed=1, apart=1.0)
    new = shared_parts(*recordings(seed=3, apart=1.0))
    unseen = np.repeat([0, 1], [len(known), len(new)])

    def score(parts):
        classes = fit_known_classes(rows, labels, KINDS, groups, parts)
        return auroc(classes.distances(np.concatenate([known, new])).min(axis=1), unseen)

    assert score(PARTS) > score(None) + 0.03


def test_a_single_class_has_no_mixtures_and_keeps_its_distances():
    rows, labels = recordings()
    assert fit_mixture_forest(rows, np.zeros_like(labels), PARTS) is None
    one = fit_known_classes(rows[:9], np.zeros(9, int), KINDS, ["a"] * 9, PARTS)
    assert one.mixtures is None and np.isfinite(one.distances(rows)).all()


@pytest.mark.parametrize("count", [2, 3, 7])
def test_few_recordings_give_a_forest(count: int):
    rows, labels = recordings()
    forest = fit_mixture_forest(rows[:count], labels[:count], PARTS)
    if forest is not None:  # of two recordings, every pair may be of one
        assert np.isfinite(forest.doubts(rows)).all()


def test_a_contract_of_earlier_versions_decides_as_it_did():
    rows, labels = recordings()
    classes = fit_known_classes(rows, labels, KINDS, ["a", "b"] * 90, PARTS)
    written = {k: v for k, v in asdict(classes).items() if k != "mixtures"}
    before = type(classes)(**written)
    np.testing.assert_array_equal(
        before.distances(rows), replace(classes, mixtures=None).distances(rows)
    )
    assert not np.array_equal(before.distances(rows), classes.distances(rows))


def test_compressed_arrays_come_back_from_their_text():
    values = np.arange(300, dtype=np.uint16)
    np.testing.assert_array_equal(decompressed(compressed(values), "u2"), values)
    with pytest.raises(ValueError, match="decompress"):
        decompressed("AAAA", "u2")
