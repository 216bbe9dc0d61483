"""What version 1 wrote is still read: models, exported folders, settings; the answers are equal."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

import chiasm
from chiasm.errors import DataError
from version_1_weights import part, recording, write_model

STORED = Path(__file__).parent / "version_1"


def _expected(name: str) -> Any:
    return json.loads((STORED / name).read_text())


def _assert_verdict(verdict: Any, expected: dict[str, Any]) -> None:
    assert verdict.score == pytest.approx(expected["score"], rel=1e-4)
    assert verdict.p_value == expected["p_value"]
    assert verdict.defective is expected["defective"]
    total = float(verdict.anomaly_map.scores.astype("float64").sum())
    assert total == pytest.approx(expected["map_sum"], rel=1e-4)


def _assert_diagnosis(diagnosis: Any, expected: dict[str, Any]) -> None:
    assert diagnosis.kind == expected["kind"]
    assert dict(diagnosis.probabilities) == pytest.approx(expected["probabilities"], abs=1e-5)
    for modality, opinion in expected["opinions"].items():
        assert dict(diagnosis.opinions[modality]) == pytest.approx(opinion, abs=1e-5)
    for name in ("uncertainty", "conflict"):
        assert getattr(diagnosis, name) == pytest.approx(expected[name], abs=1e-5, nan_ok=True)
    assert list(diagnosis.notes) == expected["notes"]


@pytest.mark.parametrize("name", ["light", "slim", "btf"])
def test_a_detector_scores_as_it_did(name: str, tmp_path: Path):
    model = chiasm.load(write_model(STORED / name, tmp_path / "model"))
    _assert_verdict(model(*part()), _expected(f"{name}/expected.json"))


@pytest.mark.parametrize("name", ["mad", "rocket"])
def test_a_classifier_diagnoses_as_it_did(name: str, tmp_path: Path):
    model = chiasm.load(write_model(STORED / name, tmp_path / "model"))
    image, series = recording()
    arrays = {"both": (image, series), "image": (image, None), "series": (None, series)}
    for shown, expected in _expected(f"{name}/expected.json").items():
        if expected is None:
            with pytest.raises(DataError):
                model(*arrays[shown])
        else:
            _assert_diagnosis(model(*arrays[shown]), expected)


def test_an_exported_detector_answers_as_it_did():
    pytest.importorskip("onnxruntime")
    model = chiasm.load(STORED / "exported_detection")
    _assert_verdict(model(*part()), _expected("exported_detection.json"))


def test_an_exported_classifier_answers_as_it_did():
    pytest.importorskip("onnxruntime")
    model = chiasm.load(STORED / "exported_diagnosis")
    _assert_diagnosis(model(*recording()), _expected("exported_diagnosis.json"))


def test_settings_under_their_earlier_names_are_read_with_a_remark(caplog):
    with caplog.at_level(logging.WARNING):
        config = chiasm.DetectionConfig.make(file=STORED / "light/config.yaml")
    assert config.memory_entries == 500
    assert (config.search.epochs, config.search.finalists) == (12, 8)
    assert "'capacity' is now called 'memory_entries'" in caplog.text


def test_settings_of_recordings_are_read_and_mean_the_same(tmp_path: Path):
    config = chiasm.DiagnosisConfig.make(file=STORED / "mad/config.yaml")
    assert (config.batch, config.image_size, config.windows) == (5, 32, 2)
    assert math.isclose(config.seconds, 0.5)
    config.save(tmp_path / "config.yaml")
    assert chiasm.DiagnosisConfig.make(file=tmp_path / "config.yaml") == config
