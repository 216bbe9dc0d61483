"""Few parts are shown rotated where synthetic anomalies on their likes are found better so."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.detection import rotation
from chiasm.detection.config import DetectionConfig
from chiasm.detection.datamodule import frozen_detector, open_data
from chiasm.detection.evaluate import evaluate
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.scenes.maker import make_scenes, render_scene
from chiasm.detection.train import train

TINY = {"image_size": 64, "rounds": 1, "memory_entries": 1000, "shots": 3}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    counts = {"train": 3, "validation": 2, "test_good": 1, "test_per_defect": 1}
    return make_scenes(folder, products=("bracket",), size=96, **counts)[0]


def test_turned_copies_belong_to_the_part_that_they_show(parts: Path, tmp_path: Path):
    config = DetectionConfig.make(data=parts, out=tmp_path, **TINY | {"rotate": True})
    data = open_data(config)
    assert len(data.parts) == 36
    assert data.owners == [0, 1, 2] * 12
    shown = [{data.owners[i] for i in some} for some in (data.training, data.held_out)]
    assert shown[0] | shown[1] == {0, 1, 2}
    assert not shown[0] & shown[1]
    assert set(data.frozen_source.memories["rgb"].owner.tolist()) == {0, 1, 2}
    assert data.rotations == 12


@pytest.mark.parametrize(("rotated_ap", "expected"), [(0.5, 12), (0.29, 1), (float("nan"), 1)])
def test_parts_are_turned_where_more_is_found_so(
    parts: Path, tmp_path: Path, monkeypatch, rotated_ap, expected
):
    tried: list[int] = []

    def trial_ap(detector, shown, number, **_):
        tried.append(number)
        return 0.3 if number == 1 else rotated_ap

    monkeypatch.setattr(rotation, "_trial_ap", trial_ap)
    settings = TINY | {"data": parts}
    assert open_data(DetectionConfig.make(out=tmp_path, **settings)).rotations == expected
    assert tried == [1, 12]


@pytest.mark.parametrize(("seeds", "expected"), [((0, 1, 2, 3, 4), 12), ((0,) * 5, 1)])
def test_parts_that_lie_at_any_angle_are_noticed(tmp_path: Path, seeds, expected):
    """Brackets lie as they fell; what always lies alike has nothing to gain."""
    settings = PreparationSettings(size=96)
    some = [prepare(render_scene("bracket", "good", seed, 128), settings) for seed in seeds]
    config = DetectionConfig.make(data=tmp_path, out=tmp_path, image_size=96)
    choice = {"scale": GeometryScale(height=0.02), "frozen": frozen_detector(config)}
    assert rotation.choose_rotations(config, some, owners=range(5), **choice) == expected


def test_enough_parts_are_shown_as_they_lie(tmp_path: Path):
    config = DetectionConfig.make(data=tmp_path, out=tmp_path, rotate=True)
    for count, expected in ((31, 1), (20, 3)):
        parts = [None] * count
        found = rotation.choose_rotations(
            config, parts, owners=range(count), scale=None, frozen=None
        )
        assert found == expected


def test_features_that_are_trained_leave_the_choice_to_the_user(tmp_path: Path, capsys):
    config = DetectionConfig.make(data=tmp_path, out=tmp_path, model="adnas_slim")
    frozen = frozen_detector(config)
    assert frozen is None
    assert (
        rotation.choose_rotations(config, [None] * 5, owners=range(5), scale=None, frozen=frozen)
        == 1
    )
    assert "rotate=true shows each" in capsys.readouterr().out


def test_the_report_says_that_parts_were_turned(parts: Path, tmp_path: Path):
    settings = {"train_epochs": 1, "batch": 4, "fusion": "concatenation", "rotate": True}
    train(DetectionConfig.make(data=parts, out=tmp_path / "run", **TINY | settings))
    evaluate(tmp_path / "run", data=parts, out=tmp_path / "report")
    assert "shown at 12 rotations" in (tmp_path / "report/report.html").read_text()
