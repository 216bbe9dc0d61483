"""A tiny model of each wing, trained and exported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.deploy.export import export
from chiasm.detection.config import DetectionConfig
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.diagnosis.train import train as train_diagnosis


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    make_scenes(
        folder, products=("flange",), train=8, validation=5, test_good=2, test_per_defect=1, size=96
    )
    return folder / "flange"


@pytest.fixture(scope="session")
def detector_run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "light"
    settings = {
        "image_size": 64,
        "fusion": "random",
        "rounds": 1,
        "train_epochs": 1,
        "batch": 4,
        "memory_entries": 500,
        "false_alarm_rate": 0.25,
        # All operations are met, that of attention among them.
        "seed": 3,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(out.parent / "cache"))
        train(DetectionConfig.make(data=parts, out=out, **settings))
    return out


@pytest.fixture(scope="session")
def detector(detector_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "flange"
    export(detector_run, out)
    return out


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    folder = tmp_path_factory.mktemp("discharges")
    make_recordings(folder, count=20, sessions=10, seed=3, workers=1)
    return open_store(folder, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def classifier_run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pd"
    settings = {
        "image_size": 32,
        "seconds": 0.5,
        "windows": 2,
        "shares": (0.5, 0.5, 0.0),
        "pretrain_epochs": 0,
        "epochs": 1,
        "batch": 5,
        "precision": "32-true",
    }
    train_diagnosis(DiagnosisConfig.make(data=store.path, out=out, **settings))
    return out


@pytest.fixture(scope="session")
def classifier(classifier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "pd"
    export(classifier_run, out)
    return out
