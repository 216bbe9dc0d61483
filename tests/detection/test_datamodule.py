"""Data of a run: what stays in memory, and what a run leaves on disk."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path

import pytest
import torch

from chiasm.detection.config import DetectionConfig
from chiasm.detection.fusion_search import final_training
from chiasm.detection.opening import open_data
from chiasm.detection.readers import cache
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train
from chiasm.detection.training.feature_store import FEATURES
from chiasm.errors import DataError
from chiasm.runs.left_out import left_out_note
from chiasm.training.progress import Progress

TINY = {
    "image_size": 64,
    "rounds": 1,
    "memory_entries": 1000,
    "rotate": False,
    "train_epochs": 1,
    "fusion": "concatenation",
    "false_alarm_rate": 0.1,  # that ten parts can promise
}
BATCH = 8  # parts that are made into one batch


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 24, "validation": 10, "test_good": 1, "test_per_defect": 1}
    return make_scenes(tmp_path_factory.mktemp("parts"), products=("flange",), size=64, **counts)[0]


@pytest.fixture
def config(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionConfig:
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    return DetectionConfig.make(data=parts, out=tmp_path / "run", **TINY)


def test_a_run_holds_a_batch_of_parts_however_many_there_are(
    config: DetectionConfig, monkeypatch: pytest.MonkeyPatch
):
    read, prepare = cache._read, cache.prepare
    alive, most = set(), [0]

    def counted(part):
        alive.add(id(part.rgb))
        weakref.finalize(part.rgb, alive.discard, id(part.rgb))
        most[0] = max(most[0], len(alive))
        return part

    monkeypatch.setattr(cache, "_read", lambda *a, **k: counted(read(*a, **k)))
    monkeypatch.setattr(cache, "prepare", lambda *a, **k: counted(prepare(*a, **k)))
    train(config)
    assert BATCH <= most[0] <= BATCH + 4  # of 34 parts


def test_stored_features_are_removed_after_a_run_and_kept_by_an_interrupted_one(
    config: DetectionConfig, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    folder = config.out / FEATURES
    with monkeypatch.context() as patch:
        patch.setattr(final_training, "train_fusion", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    stored = {path: path.stat().st_mtime_ns for path in folder.rglob("rows.bin")}
    assert len(stored) == 3
    resumed = open_data(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")} == stored
    assert len(resumed.stores["final"]) == len(resumed.indices("final"))
    train(config)
    assert not folder.exists()


def test_every_pass_over_the_parts_shows_progress(
    config: DetectionConfig, monkeypatch: pytest.MonkeyPatch
):
    stages = {}
    close = Progress.close

    def noted(progress, **more):
        stages[progress.stage] = (progress.count, progress.total)
        close(progress, **more)

    monkeypatch.setattr(Progress, "close", noted)
    train(config)
    assert set(stages) == {
        "Measuring the crop",
        "Preparing",
        "Hashing files",
        "Counting synthetic anomalies",
        "Remembering",
        "Selecting descriptors",
        "Making (final)",
        "Making (architecture)",
        "Making (validate)",
        "Train",
        "Choosing the score rule",
        "Measuring distances",
        "Calibrating",
    }
    assert all(count == total for count, total in stages.values())


def test_other_settings_make_other_features(config: DetectionConfig):
    first = open_data(config)
    other = open_data(config.model_copy(update={"seed": 1}))
    assert first.stores["final"].rows.path != other.stores["final"].rows.path
    # The first run's files are still there.
    batch = first.stores["final"].collate([0])
    assert torch.isfinite(batch.foreground).all()


@pytest.fixture
def damaged(parts: Path, tmp_path: Path) -> Path:
    """A copy with a cut image, an empty point map and one without a partner."""
    root = tmp_path / "damaged"
    shutil.copytree(parts, root)
    image = root / "train/good/rgb/003.png"
    image.write_bytes(image.read_bytes()[:200])
    (root / "validation/good/xyz/002.tiff").write_bytes(b"")
    (root / "train/good/xyz/007.tiff").unlink()
    return root


def test_damaged_parts_are_left_out_of_training_and_calibration(
    config: DetectionConfig, damaged: Path
):
    data = open_data(config.model_copy(update={"data": damaged, "calibration": "split"}))
    names = {ref.source for refs in (data.split.train, data.split.calibration) for ref in refs}
    assert (len(data.split.train), len(data.split.calibration)) == (22, 9)
    assert not {str(damaged / f"{name}.png") for name in DAMAGED} & names
    assert [part.source for part in data.calibration] == [r.source for r in data.split.calibration]
    note = left_out_note(config.out)
    assert note is not None and note.startswith("3 of ")


DAMAGED = ("train/good/rgb/003", "validation/good/rgb/002", "train/good/rgb/007")


def test_strict_stops_at_damaged_parts_and_lists_all(config: DetectionConfig, damaged: Path):
    with pytest.raises(DataError) as caught:
        open_data(config.model_copy(update={"data": damaged, "strict": True}))
    assert all(str(damaged / f"{name}.png") in str(caught.value) for name in DAMAGED)


def test_too_many_damaged_parts_stop_a_training(config: DetectionConfig, damaged: Path):
    for number in range(4):
        (damaged / f"train/good/rgb/01{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="more than 10%"):
        open_data(config.model_copy(update={"data": damaged}))
