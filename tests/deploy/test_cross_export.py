"""A model that is calibrated by its folds is exported with their scores, and decides by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chiasm.runtime
from chiasm.deploy.export import export
from chiasm.detection.config import DetectionConfig
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.train import train
from chiasm.errors import ConfigurationError
from chiasm.files.images import read_rgb, read_xyz
from chiasm.runtime.deployment import read_deployment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "crossed"
    settings = {
        "image_size": 64,
        "fusion": "concatenation",
        "cells": "early",
        "rounds": 1,
        "train_epochs": 1,
        "batch": 4,
        "memory_entries": 500,
        "rotate": False,
        "calibration": "cross",
        "calibration_folds": 2,
        "false_alarm_rate": 0.25,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(out.parent / "cache"))
        train(DetectionConfig.make(data=parts, out=out, **settings))
    return out


def test_the_export_decides_by_the_scores_of_the_folds(run: Path, parts: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="2 models that no longer exist"):
        export(run, tmp_path / "q", precision="int8")
    export(run, tmp_path / "model", to="onnx")
    trained = DetectionPredictor.load(run)
    contract, deployment = trained.contract, read_deployment(tmp_path / "model")
    assert len(contract.calibration_scores) == 13  # all normals
    assert deployment.calibration_scores == contract.calibration_scores
    assert deployment.alarm_rule.promise == contract.alarm_rule.promise
    assert deployment.alarm_rule.promise in (tmp_path / "model" / "MODEL_CARD.md").read_text()
    model = chiasm.runtime.load(tmp_path / "model", threads=1)
    for path in sorted(parts.glob("test/*/rgb/*.png")):
        pair = read_rgb(path), read_xyz(path.parents[1] / "xyz" / f"{path.stem}.tiff")
        ours, theirs = trained(*pair), model(*pair)
        np.testing.assert_allclose(theirs.score, ours.score, rtol=1e-3)
        assert (theirs.p_value, theirs.defective) == (ours.p_value, ours.defective)
    model.close()
