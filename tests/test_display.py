"""Verdicts and diagnoses show themselves, with every text escaped."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from chiasm.detection.decision import frame_verdict
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import AnomalyMap, Diagnosis, Region, Verdict


def _verdict(**changes: object) -> Verdict:
    scores = np.zeros((40, 60), np.float32)
    scores[10:20, 30:40] = 5.0
    inside = np.zeros((40, 60), bool)
    inside[5:35, 5:55] = True
    values: dict = {
        "source": "a<b>.png",
        "score": 5.0,
        "p_value": 0.01,
        "defective": True,
        "anomaly_map": AnomalyMap(scores, inside, 5.0),
    }
    return Verdict(**{**values, **changes})


def test_a_verdict_shows_decision_figures_and_heat():
    text = _verdict()._repr_html_()
    assert "defective" in text and "0.01" in text
    assert "<b>" not in text and "a&lt;b&gt;.png" in text
    content = base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])
    heat = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert heat.shape == (40, 60, 3)
    assert (heat[0, 0] == 235).all() and not (heat[15, 35] == heat[30, 10]).all()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"defective": False}, "good"),
        ({"defective": None}, "undecided"),
        ({"defective": None, "error": "no <file>", "anomaly_map": None}, "not examined"),
    ],
)
def test_every_decision_has_its_word(changes: dict, word: str):
    text = _verdict(**changes)._repr_html_()
    assert f">{word}</div>" in text
    assert "<file>" not in text


def test_a_diagnosis_shows_its_classes():
    diagnosis = Diagnosis(
        "r.png", "void", {"void": 0.8, "<corona>": 0.2}, {"image": {"void": 0.7, "<corona>": 0.3}}
    )
    text = diagnosis._repr_html_()
    assert "0.800" in text and "&lt;corona&gt;" in text and "<corona>" not in text
    assert "nan" not in text


def test_plots_are_figures():
    pytest.importorskip("matplotlib")
    assert _verdict().plot().axes[0].get_title().startswith("defective, p = 0.01")
    diagnosis = Diagnosis("r", "void", {"void": 0.8, "corona": 0.2})
    bars = diagnosis.plot().axes[0].patches
    assert [round(bar.get_width(), 6) for bar in bars] == [0.8, 0.2]
    assert Diagnosis("r", None, error="unreadable").plot().axes


def _with_region() -> Verdict:
    region = Region((30, 10, 10, 10), (34.5, 14.5), 100, 5.0, (1.0, 2.0, 500.0), 4.0)
    return _verdict(regions=(region,), pixel_threshold=2.0, p_value=float("nan"), notes=("A.",))


def test_a_verdict_is_saved_as_what_the_suffix_says(tmp_path: Path):
    verdict = _with_region()
    content = json.loads(verdict.save(tmp_path / "new/v.json").read_text())
    assert content == verdict.to_dict() and content["p_value"] is None
    assert content["regions"][0]["box"] == [30, 10, 10, 10] and "anomaly_map" not in content
    scores = verdict.anomaly_map.scores
    assert (np.load(verdict.save(tmp_path / "v.npy")) == scores).all()
    assert (tifffile.imread(verdict.save(str(tmp_path / "v.tiff"))) == scores).all()
    assert cv2.imread(str(verdict.save(tmp_path / "v.png"))) is not None
    with pytest.raises(ConfigurationError, match=r"ends in '.xyz'.*\.json, \.npy"):
        verdict.save(tmp_path / "v.xyz")
    with pytest.raises(DataError, match="no map to save: no file"):
        _verdict(anomaly_map=None, error="no file").save(tmp_path / "w.npy")


def test_a_frame_with_several_parts_is_saved_with_all_of_them(tmp_path: Path):
    frame = frame_verdict([_with_region(), _verdict(source="b#2", defective=False)], source="b")
    content = json.loads(frame.save(tmp_path / "v.json").read_text())
    assert [part["source"] for part in content["parts"]] == ["a<b>.png", "b#2"]
    assert frame.to_dict() == content


def test_a_diagnosis_is_saved_too(tmp_path: Path):
    diagnosis = Diagnosis("r.png", "void", {"void": 0.8, "corona": 0.2})
    content = json.loads(diagnosis.save(tmp_path / "d.json").read_text())
    assert content["probabilities"] == {"void": 0.8, "corona": 0.2} and content["conflict"] is None
    with pytest.raises(ConfigurationError, match=r"ends in '.npy'"):
        diagnosis.save(tmp_path / "d.npy")


def test_the_boxes_of_regions_are_drawn():
    (axes, _) = _with_region().plot().axes
    (box,) = axes.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (29.5, 9.5, 10, 10)
