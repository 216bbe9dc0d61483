"""Every classifier is fitted, trained, searched and asked on a device, as on a processor."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chiasm.diagnosis.models.named  # noqa: F401  (importing registers the classifiers)
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.models import minirocket
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.train import train
from chiasm.registry import find_model, models
from devices.conftest import SEARCH
from devices.simulated import simulated_device

# Both stages of networks whose width is that of two layers; a base size differs in width only.
SHORT: dict[str, Any] = {
    "preset": "quick",
    "pretrain_epochs": 1,
    "epochs": 1,
    "batch": 8,
    "modality_dropout": 1.0,
    "flow_weight": 0.1,
    "precision": "32",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "histogram_lightgbm": {"rounds": 2},
    "hog_lightgbm": {"rounds": 2},
    "minirocket": {"rows": 2, "cycles": 10},
    "late_average": {},
}
NAMES = sorted(model.name for model in models("classifier") if model.size != "base")


# Of a search, whose first stage is that of the network alone, which the first test has.
SHORTER: dict[str, Any] = {"pretrain_epochs": 0, "image_size": 32, "seconds": 0.5, "windows": 1}


def configured(recordings: Path, out: Path, name: str, **settings: Any) -> DiagnosisConfig:
    model = find_model(name)
    short = {k: v for k, v in SHORT.items() if not model.fitted or k in ("precision",)}
    if name == "fused_small" and "search" not in settings:
        settings["fusion"] = "concatenation"
    options = OPTIONS.get(name, {})
    assert set(options) <= set(inspect.signature(model.builder).parameters)
    return DiagnosisConfig.make(
        data=recordings, out=out, model=name, **(short | settings), options=options
    )


def logits(predictor: DiagnosisPredictor, store: RecordingStore) -> np.ndarray:
    outputs = predictor.outputs((store.load(ref) for ref in store.refs[:3]), single=False)
    return next(iter(outputs.logits.values()))


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_on_a_device_decides_as_on_a_processor(
    recordings, store, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(minirocket, "FEATURES", 4 * len(minirocket.KERNELS))
    train(configured(recordings, tmp_path / "cpu", name, device="cpu"))
    expected = logits(DiagnosisPredictor.load(tmp_path / "cpu", device="cpu"), store)
    with simulated_device(monkeypatch) as place:
        train(configured(recordings, tmp_path / "gpu", name, device="cuda"))
        there = DiagnosisPredictor.load(tmp_path / "gpu", device="cuda")
        assert there.network.device == place
        assert there.predict(store.load(store.refs[0])).kind is not None
        assert there.network.example_batch(1) is not None
        found = logits(there, store)
    here = logits(DiagnosisPredictor.load(tmp_path / "gpu", device="cpu"), store)
    np.testing.assert_allclose(here, found, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_a_fusion_is_searched_on_a_device(recordings, tmp_path, device, order):
    settings = {"device": "cuda", "search": SEARCH | {"order": order}, "fusion": "search"}
    settings["shares"] = (0.7, 0.3, 0.0)  # training sessions enough to hold some out
    result = train(configured(recordings, tmp_path / "run", "fused_small", **SHORTER, **settings))
    assert np.isfinite(result.validation_f1)
    assert DiagnosisPredictor.load(tmp_path / "run", device="cuda").network.device == device


def test_a_fusion_evolves_on_a_device(recordings, tmp_path, device: torch.device):
    search = SEARCH | {"method": "evolution"}
    settings = {"device": "cuda", "search": search, "fusion": "search"}
    result = train(configured(recordings, tmp_path / "run", "fused_small", **SHORTER, **settings))
    assert np.isfinite(result.validation_f1)


def test_windows_that_do_not_fit_are_shown_a_few_at_a_time(
    recordings, store, tmp_path, monkeypatch
):
    """The mean over windows is that of all of them together."""
    train(configured(recordings, tmp_path / "run", "mad_small", seconds=0.1, windows=5, epochs=1))
    predictor = DiagnosisPredictor.load(tmp_path / "run", device="cpu")
    sample = store.load(store.refs[0])
    expected = predictor.outputs([sample]).logits
    forward = predictor.network.forward

    def little_memory(batch, **options):
        if batch.series is not None and len(batch.series) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(batch, **options)

    monkeypatch.setattr(predictor.network, "forward", little_memory)
    for name, values in predictor.outputs([sample]).logits.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)
