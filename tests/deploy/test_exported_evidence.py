"""A model that reads every exportable kind of evidence: trained, stored, exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from chiasm.deploy.export import export
from chiasm.detection import score_rule
from chiasm.detection.config import DetectionConfig
from chiasm.detection.evidence import crossmodal, scaled_distance
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.readers.opening import open_source
from chiasm.detection.train import train
from chiasm.detection.training import fit_evidence

KINDS = ("memory", "crossmodal", "scaled_distance", "agreement")


FUSED = {
    "evidence": KINDS,
    "candidates": ("*/distance", "*/f8", "cross/*", "*/scaled_distance"),
}
WEIGHED = {"score_evidence": KINDS, "candidates": ("*/f8",)}


@pytest.mark.parametrize("settings", [FUSED, WEIGHED], ids=["fused", "weighed"])
def test_an_exported_model_with_evidence_decides_as_the_trained_one(
    settings: dict[str, tuple[str, ...]],
    parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(crossmodal, "_STEPS", 20)
    monkeypatch.setattr(scaled_distance, "_STEPS", 20)
    monkeypatch.setattr(fit_evidence, "SYNTHETIC_PARTS", 80)
    if settings is WEIGHED:  # else so short a training may prefer the relative distance
        weighable = ["cross/scaled_distance"]
        monkeypatch.setattr(score_rule, "_weighable", lambda *_: weighable)
    config = DetectionConfig.make(
        data=parts,
        out=tmp_path / "run",
        fusion="concatenation",
        image_size=64,
        rounds=1,
        train_epochs=1,
        batch=4,
        memory_entries=500,
        false_alarm_rate=0.25,
        rotate=False,
        **settings,
    )
    train(config)
    trained = DetectionPredictor.load(tmp_path / "run")
    (name,) = settings.keys() - {"candidates"}
    assert trained.contract.arguments[name] == list(KINDS)
    read = set(trained.detector.source.evidence)
    assert read == (set(KINDS) - {"memory"} if settings is FUSED else {"scaled_distance"})
    export(tmp_path / "run", tmp_path / "exported", to="onnx")
    deployed = json.loads((tmp_path / "exported" / "deployment.json").read_text())
    assert deployed["parity"]
    import chiasm

    runtime = chiasm.load(tmp_path / "exported")
    source = open_source(parts)
    for ref in [ref for ref in source.refs if ref.split == "test"][:4]:
        sample = source.load(ref)
        expected, found = trained.predict(sample), runtime.predict(sample)
        assert found.score == pytest.approx(expected.score, rel=1e-3)
        assert (found.p_value, found.defective) == (expected.p_value, expected.defective)
        np.testing.assert_allclose(
            found.anomaly_map.scores, expected.anomaly_map.scores, atol=1e-2, rtol=1e-2
        )
