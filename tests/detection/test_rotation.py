"""Rotated copies of few parts: what is measured rotates with the picture, and copies are made only
where they improve detection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiasm.detection import rotation
from chiasm.detection.building import frozen_detector
from chiasm.detection.config import DetectionConfig
from chiasm.detection.evaluate import evaluate
from chiasm.detection.opening import open_data
from chiasm.detection.preparation.geometry import GeometryScale, geometry_picture
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.rotation import rotated
from chiasm.detection.scenes.maker import make_scenes, render_scene
from chiasm.detection.train import train
from chiasm.detection.training import baseline, synthetic
from chiasm.registry import models

TINY = {"image_size": 64, "rounds": 1, "memory_entries": 1000, "shots": 3}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    counts = {"train": 3, "validation": 2, "test_good": 1, "test_per_defect": 1}
    return make_scenes(folder, products=("bracket",), size=96, **counts)[0]


def test_rotated_copies_have_the_owner_of_their_original(parts: Path, tmp_path: Path):
    config = DetectionConfig.make(data=parts, out=tmp_path, **TINY | {"rotate": True})
    data = open_data(config)
    assert len(data.parts) == 36
    assert data.owners == [0, 1, 2] * 12
    shown = [{data.owners[i] for i in indices} for indices in (data.training, data.held_out)]
    assert shown[0] | shown[1] == {0, 1, 2}
    assert not shown[0] & shown[1]
    assert set(data.frozen_source.memories["rgb"].owner.tolist()) == {0, 1, 2}
    assert data.rotations == 12


@pytest.mark.parametrize(("rotated_ap", "expected"), [(0.5, 12), (0.29, 1), (float("nan"), 1)])
def test_parts_are_rotated_where_that_raises_the_pixel_ap(
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
def test_parts_at_random_angles_are_recognised(tmp_path: Path, seeds, expected):
    """Brackets of different seeds lie at different angles; copies of one gain nothing."""
    settings = PreparationSettings(size=96)
    parts = [prepare(render_scene("bracket", "good", seed, 128), settings) for seed in seeds]
    config = DetectionConfig.make(data=tmp_path, out=tmp_path, image_size=96)
    choice = {"scale": GeometryScale(height=0.02), "frozen": frozen_detector(config)}
    assert rotation.choose_rotations(config, parts, owners=range(5), **choice) == expected


def test_the_number_of_rotations_falls_with_the_number_of_parts(tmp_path: Path):
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


def test_the_report_states_the_rotations(parts: Path, tmp_path: Path):
    settings = {"train_epochs": 1, "batch": 4, "fusion": "concatenation", "rotate": True}
    train(DetectionConfig.make(data=parts, out=tmp_path / "run", **TINY | settings))
    evaluate(tmp_path / "run", data=parts, out=tmp_path / "report")
    assert "shown at 12 rotations" in (tmp_path / "report/report.html").read_text()


@pytest.fixture(scope="module")
def part():
    return prepare(render_scene("flange", "hole", 3, 128), PreparationSettings(size=96))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_rotations_are_those_of_the_array(part, quarters):
    after = rotated(part, 90 * quarters)
    for name in ("rgb", "height", "foreground", "valid", "mask"):
        expected = np.rot90(getattr(part, name), -quarters)  # clockwise
        np.testing.assert_allclose(getattr(after, name), expected, atol=1e-5)


def test_a_full_rotation_in_steps_keeps_normals_and_points(part):
    after = part
    for _ in range(4):
        after = rotated(after, 90)
    np.testing.assert_allclose(after.normals, part.normals, atol=1e-5)
    np.testing.assert_allclose(after.xyz, part.xyz, atol=1e-5)
    np.testing.assert_allclose(after.plane, part.plane, atol=1e-6)


def test_slopes_rotate_with_the_picture(part):
    scale = GeometryScale(height=0.02)
    before, after = geometry_picture(part, scale), geometry_picture(rotated(part, 90), scale)
    expected = np.rot90(before, -1)
    inside = np.rot90(part.valid, -1)  # elsewhere two neighbours may be equally near
    np.testing.assert_allclose(after[..., 0][inside], expected[..., 0][inside], atol=1e-4)
    # Slopes are positive to the right and up; rotated by 90 degrees, right becomes down.
    right, up = expected[..., 1] - 0.5, expected[..., 2] - 0.5
    away = np.abs(after[..., 1] - 0.5 - up)[inside], np.abs(after[..., 2] - 0.5 + right)[inside]
    assert np.quantile(away[0], 0.9) < 0.01
    assert np.quantile(away[1], 0.9) < 0.01


def test_heights_are_above_the_rotated_plane(part):
    after = rotated(part, 37)
    a, b, c, d = after.plane
    height = after.xyz @ np.array([a, b, c]) + d
    np.testing.assert_allclose(height[after.valid], after.height[after.valid], atol=1e-5)
    measured = {round(float(h), 7) for h in part.height[part.valid]}
    assert all(round(float(h), 7) in measured for h in after.height[after.valid])


BASELINES = {
    **{name: {} for name in ("area", "brightness", "missing_points", "pixel_gaussian")},
    "ast": {"hidden": 8, "couplings": 2, "blocks": 1, "teacher_epochs": 1, "student_epochs": 1},
    "btf": {"bank_mb": 0.5},
    "crossmodal_mapping": {"hidden": 16, "epochs": 1},
    "easynet_slim": {"epochs": 1},
    "m3dm": {"bank_mb": 1.0, "fused": 16, "epochs": 1},
    "shape_guided": {"bank_mb": 1.0, "points": 16, "neighbours": 2, "epochs": 1},
}


def test_every_baseline_is_tried():
    named = {model.name for model in models("detector") if model.baseline and model.size == "small"}
    assert named == set(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_fitted_to_the_copies_that_ours_are_fitted_to(
    name: str, parts: Path, tmp_path: Path, monkeypatch
):
    """Every part and copy is seen, and the copies of a part are one part to a memory."""
    seen: list[int] = []
    monkeypatch.setattr(baseline, "to_batch", _remember(baseline.to_batch, seen))
    monkeypatch.setattr(synthetic, "to_batch", _remember(synthetic.to_batch, seen))
    settings = {"model": name, "options": BASELINES[name], "rotate": True}
    settings |= {"image_size": 64, "shots": 3}
    train(DetectionConfig.make(data=parts, out=tmp_path, **settings))
    counts = Counter(seen[:36])
    assert set(counts) == {0, 1, 2}
    assert counts.total() >= 32  # an incomplete batch of an epoch is left out
    assert max(counts.values()) <= 12
    assert json.loads((tmp_path / "learning.json").read_text())["rotations"] == 12


def test_a_baseline_is_rotated_where_ours_is_and_not_elsewhere(
    parts: Path, tmp_path: Path, monkeypatch
):
    for rotated_ap, expected in ((0.5, 12), (0.1, 1)):
        precisions = {1: 0.3, 12: rotated_ap}
        monkeypatch.setattr(rotation, "_trial_ap", lambda _, parts, count, **__: precisions[count])  # noqa: B023
        for model in ("adnas_light", "btf", "pixel_gaussian"):
            config = DetectionConfig.make(data=parts, out=tmp_path, model=model, **TINY)
            assert open_data(config).rotations == expected


def _remember(to_batch: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    def remembering(parts: Any, *args: Any, **options: Any) -> Any:
        seen.extend(options["indices"])
        return to_batch(parts, *args, **options)

    return remembering
