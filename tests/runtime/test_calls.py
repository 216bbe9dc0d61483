"""An exported model of each wing gives one answer, whichever way it is called."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chiasm.runtime
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.samples import RecordingSample
from version_1_weights import part, recording

STORED = Path(__file__).parent.parent / "version_1"


def assert_equal(answer: Any, expected: Any) -> None:
    """Compare all fields; arrays and NaN included."""
    np.testing.assert_equal(asdict(answer), asdict(expected))


def test_a_detector_answers_the_same_by_every_call():
    pytest.importorskip("onnxruntime")
    model = chiasm.runtime.load(STORED / "exported_detection", threads=1)
    rgb, xyz = part()
    expected = model(rgb, xyz, source="part")
    assert_equal(model.submit(rgb, xyz, source="part").result(20), expected)
    assert_equal(model.prepared(rgb, xyz, source="part")(), expected)
    sample = sample_from_arrays(rgb, xyz, source="part")
    assert_equal(model.predict(sample), expected)
    for answer in model.predict_all([sample, sample]):
        assert_equal(answer, expected)
    model.close()


@pytest.mark.parametrize("missing", [None, "image", "series"])
def test_a_classifier_answers_the_same_by_every_call(missing: str | None):
    pytest.importorskip("onnxruntime")
    model = chiasm.runtime.load(STORED / "exported_diagnosis", threads=1)
    arrays = dict(zip(("image", "series"), recording()))
    if missing:
        arrays[missing] = None
    expected = model(**arrays, source="recording")
    assert_equal(model.submit(**arrays, source="recording").result(20), expected)
    assert_equal(model.prepared(**arrays, source="recording")(), expected)
    sample = RecordingSample(**arrays, frequency=60.0, samples_per_cycle=128, source="recording")
    assert_equal(model.predict(sample), expected)
    for answer in model.predict_all([sample, sample]):
        assert_equal(answer, expected)
    model.close()
