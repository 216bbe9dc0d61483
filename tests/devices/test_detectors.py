"""Every detector is fitted, trained, searched and asked on a device, as on a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chiasm import api
from chiasm.detection import opening
from chiasm.detection.config import DetectionConfig
from chiasm.detection.models.adnas import BranchSize, _from_scratch
from chiasm.detection.opening import open_data
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.acquisition import prepare_as_trained
from chiasm.detection.readers.opening import open_source
from chiasm.detection.train import train
from chiasm.detection.training import storing
from chiasm.detection.training.contamination import vote_on_parts
from chiasm.detection.training.segment import step_losses, to_device
from chiasm.errors import OutOfMemoryError
from chiasm.fusion.operations import OPERATIONS
from chiasm.registry import models
from chiasm.samples import RGBDBatch, RGBDSample
from chiasm.training.device import device_of
from devices.conftest import DETECTION, SEARCH
from devices.simulated import simulated_device

# Options of a version of each baseline that takes a second.
BASELINES: dict[str, dict[str, Any]] = {
    "area": {},
    "ast": {"hidden": 8, "couplings": 2, "blocks": 1, "teacher_epochs": 1, "student_epochs": 1},
    "brightness": {},
    "btf": {"bank_mb": 0.1, "step": 1},
    "crossmodal_mapping": {"hidden": 8, "epochs": 1},
    "easynet_slim": {"variant": "gated", "epochs": 1},
    "m3dm": {"bank_mb": 0.3, "fused": 16, "epochs": 1, "step": 1},
    "missing_points": {},
    "pixel_gaussian": {},
    "shape_guided": {"bank_mb": 1.0, "points": 16, "neighbours": 2, "epochs": 1, "step": 1},
}
SMALLEST = {"nodes": 1, "operations": ("addition",), "cells": ("late",)}  # space of a search
SAY_DURATION = storing.say_duration
PAPER_SIZED = {"easynet"}  # the slim one differs in width only


def configured(scenes: Path, out: Path, **settings: Any) -> DetectionConfig:
    return DetectionConfig.make(data=scenes, out=out, **(DETECTION | settings))


def samples(scenes: Path) -> list[RGBDSample]:
    source = open_source(scenes)
    return [source.load(ref) for ref in source.refs if ref.split == "test"]


def scores(predictor: DetectionPredictor, scenes: Path) -> np.ndarray:
    return np.array([predictor.predict(sample).score for sample in samples(scenes)])


def test_every_baseline_has_a_row():
    names = {model.name for model in models("detector") if model.baseline}
    assert set(BASELINES) == names - PAPER_SIZED


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_on_a_device_scores_as_on_a_processor(scenes, tmp_path, monkeypatch, name):
    settings = {"model": name, "options": BASELINES[name]}
    if name in ("missing_points", "brightness"):
        settings["modalities"] = ("geometry" if name == "missing_points" else "rgb",)
    train(configured(scenes, tmp_path / "cpu", device="cpu", **settings))
    expected = scores(DetectionPredictor.load(tmp_path / "cpu", device="cpu"), scenes)
    with simulated_device(monkeypatch) as place:
        train(configured(scenes, tmp_path / "gpu", device="cuda", **settings))
        there = DetectionPredictor.load(tmp_path / "gpu", device="cuda")
        assert device_of(there.detector) == place
        found = scores(there, scenes)
    here = DetectionPredictor.load(tmp_path / "gpu", device="cpu")
    np.testing.assert_allclose(scores(here, scenes), found, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_detector_is_searched_trained_and_evaluated_on_a_device(scenes, tmp_path, device):
    settings = {
        "evidence": ("memory", "crossmodal", "scaled_distance", "agreement", "fpfh"),
        "image_score": "chosen",
        "search": SEARCH | {"order": 2},
    }
    result = train(configured(scenes, tmp_path / "run", device="cuda:0", **settings))
    assert np.isfinite(result.validation_ap)
    there = DetectionPredictor.load(tmp_path / "run", device="cuda")
    assert device_of(there.detector) == device
    here = DetectionPredictor.load(tmp_path / "run", device="cpu")
    np.testing.assert_allclose(scores(here, scenes), scores(there, scenes), rtol=1e-4)
    metrics = api.evaluate(tmp_path / "run", data=scenes, device="cuda")
    assert metrics["image"]["auroc"]["value"] is not None
    verdicts = api.predict(tmp_path / "run", scenes, out=tmp_path / "verdicts", device="cuda")
    assert not any(verdict.error for verdict in verdicts)


def test_a_detector_is_searched_in_the_first_order_on_a_device(scenes, tmp_path, device):
    settings = SMALLEST | {"device": "cuda", "search": SEARCH | {"order": 1, "finalists": 1}}
    result = train(configured(scenes, tmp_path / "run", **settings))
    assert result.genotype is not None and np.isfinite(result.validation_ap)


@pytest.mark.parametrize("model", ["adnas_light", "adnas_slim"])
def test_a_detector_evolves_on_a_device(scenes, tmp_path, device, model):
    search = SEARCH | {"method": "evolution"}
    settings = SMALLEST | {"device": "cuda", "model": model, "search": search}
    config = configured(scenes, tmp_path / "run", **settings)
    result = train(config)
    assert result.genotype is not None and np.isfinite(result.validation_ap)


def test_copies_are_tried_and_defects_looked_for_on_a_device(scenes, tmp_path, device, monkeypatch):
    monkeypatch.setattr("chiasm.detection.rotation.TRIAL_PARTS", 4)
    monkeypatch.setattr("chiasm.detection.rotation.MOST_ROTATIONS", 2)
    settings = {"device": "cuda", "rotate": None, "fusion": "concatenation"}
    data = open_data(configured(scenes, tmp_path / "run", **settings))
    assert data.frozen_source is not None and device_of(data.frozen_source) == device
    monkeypatch.setattr("chiasm.detection.training.contamination.FEWEST", 4)
    monkeypatch.setattr("chiasm.detection.training.contamination.ROUNDS", 2)
    found, _ = vote_on_parts(
        data.frozen_source,
        data.parts,
        groups=range(len(data.parts)),
        contamination=0.1,
        scale=data.geometry,
    )
    assert all(suspicion.memories for suspicion in found)


def test_a_network_from_scratch_is_searched_on_a_device(scenes, tmp_path, device, monkeypatch):
    """With recomputed activations and micro-batches, as the published size needs them.

    Its memory is counted and its steps are timed before.
    """
    monkeypatch.setattr(storing, "say_duration", SAY_DURATION)
    monkeypatch.setattr(opening, "say_duration", SAY_DURATION)
    settings = SMALLEST | {"model": "adnas_slim", "checkpointing": True, "accumulate": 2}
    search = SEARCH | {"finalists": 1}
    config = configured(scenes, tmp_path / "run", device="cuda", search=search, **settings)
    result = train(config)
    assert np.isfinite(result.validation_ap)


def test_the_published_form_makes_its_steps_on_a_device(device):
    branch: BranchSize = {"width": 4, "stem": 1}
    detector = _from_scratch(
        "supernet",
        branch=branch,
        width=8,
        size=32,
        hidden=(8, 8),
        as_published=True,
        modalities=("rgb", "geometry"),
        pools=None,
        cells=("early", "middle", "late"),
        candidates=("*",),
        nodes=2,
        operations=tuple(OPERATIONS),
        middle_scales=(2, 3),
    ).to(device)
    picture, whole = torch.rand(4, 3, 32, 32), torch.ones(4, 1, 32, 32)
    clean = {"clean_rgb": picture, "clean_geometry": picture}
    batch = to_device(RGBDBatch(picture, picture, whole, 1 - whole, **clean), device)
    for loss in step_losses(detector, batch, accumulate=2):
        loss.backward()
    trained = [p for p in detector.parameters() if p.grad is not None]
    assert trained and all(p.grad.device == device for p in trained)


def test_parts_that_do_not_fit_together_are_scored_a_few_at_a_time(scenes, tmp_path, monkeypatch):
    settings = {"model": "btf", "options": BASELINES["btf"], "device": "cpu"}
    train(configured(scenes, tmp_path / "run", **settings))
    predictor = DetectionPredictor.load(tmp_path / "run", device="cpu")
    contract = predictor.contract
    parts = [
        prepare_as_trained(s, contract.preparation, contract.acquisition, distance=None)[0]
        for s in samples(scenes)
    ]
    maps, expected = predictor.crop_scores(parts)
    forward, tried = predictor.detector.forward, []

    def little_memory(batch: RGBDBatch) -> Any:
        tried.append(len(batch.foreground))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(batch)

    monkeypatch.setattr(predictor.detector, "forward", little_memory)
    again, found = predictor.crop_scores(parts)
    assert tried[0] == len(parts) > 2 >= max(tried[-2:])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again, maps)
    monkeypatch.setattr(predictor.detector, "forward", no_memory)
    with pytest.raises(OutOfMemoryError, match="device=cpu"):
        predictor.crop_scores(parts)


def no_memory(batch: RGBDBatch) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory.")
