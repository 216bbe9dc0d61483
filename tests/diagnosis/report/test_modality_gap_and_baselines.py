"""The gap between modalities by its properties, and what thresholds on one number can do."""

from __future__ import annotations

import numpy as np
import pytest

from chiasm.diagnosis.readers.audit import trivial_numbers
from chiasm.diagnosis.report.embedding import modality_gap
from chiasm.diagnosis.report.figures import TrivialBaseline, trivial_guesses
from chiasm.errors import DataError
from chiasm.metrics.classification import macro_f1
from chiasm.samples import RecordingSample


def test_the_gap_between_modalities_ignores_scale_and_rotation():
    draw = np.random.default_rng(0)
    one, two = draw.standard_normal((300, 6)), 2 * draw.standard_normal((200, 6)) + 1
    turn, _ = np.linalg.qr(draw.standard_normal((6, 6)))
    expected = modality_gap(one, two)
    assert modality_gap(7 * one @ turn + 3, 7 * two @ turn + 3) == pytest.approx(expected)
    assert expected["variance_ratio"] == pytest.approx(1 / 4, rel=0.15)
    assert expected["distance"] == pytest.approx(np.sqrt(6) / np.sqrt(6 * 2.5), rel=0.15)


def test_the_gap_between_halves_of_one_cloud_is_none():
    cloud = np.random.default_rng(1).standard_normal((600, 4))
    same = modality_gap(cloud[::2], cloud[1::2])
    far = modality_gap(cloud[::2], cloud[1::2] + 5)
    assert abs(same["mmd"]) < 0.01
    assert same["distance"] < 0.2
    assert far["mmd"] > 0.5
    with pytest.raises(DataError, match="at least two"):
        modality_gap(cloud[:1], cloud)


def test_mmd_equals_its_definition():
    draw = np.random.default_rng(2)
    one, two = draw.standard_normal((7, 3)), draw.standard_normal((5, 3)) + 0.5
    both = np.concatenate([one, two])
    pairs = [((a - b) ** 2).sum() for n, a in enumerate(both) for b in both[n + 1 :]]
    width = np.median(pairs)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * width)))

    within = [
        np.mean([kernel(a, b) for n, a in enumerate(s) for m, b in enumerate(s) if n != m])
        for s in (one, two)
    ]
    across = np.mean([kernel(a, b) for a in one for b in two])
    assert modality_gap(one, two)["mmd"] == pytest.approx(sum(within) - 2 * across)


def test_thresholds_find_classes_in_any_order():
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 3, 600)
    values = np.array([5.0, 1.0, 9.0])[labels] + 0.3 * draw.standard_normal(600)
    half = TrivialBaseline(values[:300], labels[:300], values[300:])
    assert macro_f1(labels[300:], trivial_guesses(half), 3) > 0.98
    blind = TrivialBaseline(draw.random(300), labels[:300], draw.random(300))
    assert macro_f1(labels[300:], trivial_guesses(blind), 3) < 0.5
    with pytest.raises(DataError, match="training"):
        trivial_guesses(TrivialBaseline(values[:3], labels[:2], values))


def test_trivial_numbers_of_a_recording(tmp_path):
    (tmp_path / "a.csv").write_text("12345")
    sample = RecordingSample(image=None, series=np.array([[1, 2, 6]], np.float32))
    numbers = trivial_numbers(sample, {"series": tmp_path / "a.csv"})
    assert numbers == {
        "mean of the series": 3.0,
        "maximum of the series": 6.0,
        "size of the series' file": 5.0,
    }
