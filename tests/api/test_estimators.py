"""Estimators of scikit-learn: the conventions of its checks, and the same figures as ``load``."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import estimator_checks

import chiasm
from chiasm.errors import DataError
from version_1_weights import part

DETECTOR = {
    "image_size": 64,
    "rotate": False,
    "false_alarm_rate": 0.25,
    "calibration_share": 0.4,
}


def parts(count: int, *, seed: int, hole: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cones on a plane in 8-bit colour; with ``hole`` a black spot."""
    rng = np.random.default_rng(seed)
    rgb, xyz = part()
    found = []
    for _ in range(count):
        image = np.clip(rgb + rng.normal(0, 0.02, rgb.shape), 0, 1)
        image[44:56, 60:72] *= not hole
        points = xyz + rng.normal(0, 1e-5, xyz.shape).astype(np.float32)
        found.append((np.uint8(np.rint(255 * image)), np.where(xyz == 0, np.nan, points)))
    return found


def recordings(count: int, *, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """One second of series with pulses about one phase (label 3) or about two (label 7)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    found = []
    for label in labels:
        cycles = rng.exponential(1.0, (60, 128))
        cycles[:, 20:30] += rng.exponential(40, (60, 10))
        cycles[:, 84:94] += label * rng.exponential(40, (60, 10))
        found.append(cycles.reshape(1, -1).astype(np.float32))
    return found, np.where(labels, 7, 3)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def detector() -> chiasm.DefectDetector:
    X = parts(10, seed=0) + parts(2, seed=1, hole=True)
    y = [1] * 10 + [-1] * 2
    return chiasm.DefectDetector("pixel_gaussian", settings=DETECTOR).fit(X, y)


@pytest.fixture(scope="module")
def classifier() -> chiasm.DischargeClassifier:
    X, y = recordings(24, seed=0)
    model = chiasm.DischargeClassifier("excess_trees", settings={"options": {"trees": 20}})
    return model.fit(X, y, groups=np.arange(24) // 2)


# The others give a table of a few numbers, which is neither a part nor a recording.
CONVENTIONS = (
    *("estimator_cloneable", "estimator_tags_renamed", "valid_tag_types", "estimator_repr"),
    *("no_attributes_set_in_init", "estimators_unfitted", "mixin_order", "get_params_invariance"),
    *("do_not_raise_errors_in_init_or_set_params", "set_params"),
    *("parameters_default_constructible", "estimator_sparse_matrix", "estimator_sparse_array"),
)


@pytest.mark.parametrize("name", ["DefectDetector", "DischargeClassifier"])
@pytest.mark.parametrize("check", CONVENTIONS)
def test_the_conventions_of_estimators_hold(name, check):
    getattr(estimator_checks, f"check_{check}")(name, getattr(chiasm, name)())


@pytest.mark.parametrize("name", ["DefectDetector", "DischargeClassifier"])
def test_what_scikit_learn_checks_of_estimators_without_tables_holds(name):
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):  # its tables are no parts
        done = estimator_checks.check_estimator(getattr(chiasm, name)(), on_skip=None)
    assert done and {row["status"] for row in done} == {"passed"}


def test_a_detector_tells_a_hole_from_good_parts(detector):
    good, bad = parts(3, seed=2), parts(2, seed=3, hole=True)
    assert detector.predict(bad).tolist() == [-1, -1]
    assert detector.score_samples(good).min() > detector.score_samples(bad).max()
    decided = np.where(detector.decision_function(good + bad) < 0, -1, 1)
    np.testing.assert_array_equal(decided, detector.predict(good + bad))


def test_known_defects_of_y_choose_the_threshold(detector):
    assert len(detector.model_.contract.alarm_rule.known_defects.defects) == 2


def test_an_estimator_judges_as_its_model_does_after_pickling(detector, classifier):
    (rgb, xyz) = parts(1, seed=4)[0]
    assert detector.score_samples([(rgb, xyz)])[0] == -detector.model_(rgb, xyz).score
    copied = pickle.loads(pickle.dumps(detector))
    assert copied.score_samples([(rgb, xyz)]) == detector.score_samples([(rgb, xyz)])
    X, _ = recordings(2, seed=5)
    copied = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copied.predict_proba(X), classifier.predict_proba(X))


def test_a_classifier_keeps_the_labels_it_was_given(classifier):
    X, y = recordings(10, seed=6)
    assert classifier.classes_.tolist() == [3, 7]
    assert classifier.score(X, y) == 1.0
    np.testing.assert_allclose(classifier.predict_proba(X).sum(axis=1), 1, atol=1e-6)
    assert classifier.is_unknown(X).shape == (10,)


def test_recordings_without_sessions_are_said_to_be_copies():
    X, y = recordings(8, seed=0)
    model = chiasm.DischargeClassifier("excess_trees", settings={"options": {"trees": 2}})
    with pytest.warns(UserWarning, match="groups=sessions"):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ([], None, "X is empty"),
        (np.ones((4, 3)), None, "no pair of arrays"),
        ([(None, None)], None, "no pair of arrays"),
        ([(np.ones((8, 8)), None)], None, r"\(H, W, 3\)"),
        ([(np.full((8, 8, 3), 255.0), None)], None, "outside of"),
        ([(None, np.ones((8, 8, 3), np.uint8))], None, "floats in metres"),
        (parts(2, seed=0), [0, 1], "give 1 of each good"),
        (parts(2, seed=0), [-1, -1], "No part is good"),
    ],
)
def test_what_is_no_part_is_refused(X, y, words):
    with pytest.raises(DataError, match=words):
        chiasm.DefectDetector("pixel_gaussian").fit(X, y)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        ([np.ones((2, 3, 4))], [0], "a series of shape"),
        ([(np.ones((4, 4)), None)], [0], "an image of shape"),
        ([(np.full((4, 4, 3), 255.0), None)], [0], "outside of"),
        ([(None, None)], [0], "neither"),
        ([np.ones(512)], [0, 1], "one label"),
    ],
)
def test_what_is_no_recording_is_refused(X, y, words):
    with pytest.raises(DataError, match=words):
        chiasm.DischargeClassifier("excess_trees").fit(X, y)
