"""Parts and recordings of a few pixels, and a simulated device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chiasm.detection import opening, score_rule
from chiasm.detection.evidence import crossmodal, scaled_distance
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.training import fit_evidence, storing
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.simulator.simulator import make_recordings
from devices.simulated import simulated_device

# Of a detector's run: every stage, as short as it can be.
DETECTION: dict[str, Any] = {
    "image_size": 64,
    "rounds": 1,
    "rotate": False,
    "train_epochs": 1,
    "batch": 4,
    "memory_entries": 500,
    "false_alarm_rate": 0.25,
    "precision": "32",
    "seed": 3,
}
SEARCH: dict[str, Any] = {
    "epochs": 1,
    "warm_up": 0.0,
    "finalists": 2,
    "final_epochs": 1,
    "final_steps": 1,
    "population": 2,
    "generations": 0,
}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch):
    """A GPU, as far as tensors and ``chiasm`` can tell."""
    with simulated_device(monkeypatch) as place:
        yield place


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 8, "validation": 5, "test_good": 2, "test_per_defect": 1}
    return make_scenes(tmp_path_factory.mktemp("parts"), products=("flange",), size=96, **counts)[0]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discharges")
    make_recordings(folder, count=30, sessions=15, seed=3, workers=1)
    return folder


@pytest.fixture(scope="session")
def store(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return open_store(recordings, cache=tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Few steps, few anomalies to learn from and to choose by; parts are prepared once."""
    for module in (crossmodal, scaled_distance):
        monkeypatch.setattr(module, "_STEPS", 2)
    monkeypatch.setattr(fit_evidence, "SYNTHETIC_PARTS", 48)
    monkeypatch.setattr(opening, "ANOMALIES_TO_CHOOSE_BY", 2)
    monkeypatch.setattr(score_rule, "ANOMALIES", 5)
    monkeypatch.setattr(storing, "say_duration", lambda *_: None)
    monkeypatch.setattr(opening, "say_duration", lambda *_: None)
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    torch.manual_seed(0)
