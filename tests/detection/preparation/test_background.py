"""Whether parts lie on a background is decided from all normals; in doubt it is looked at."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.preparation.background import mask_by_border
from chiasm.detection.preparation.prepare import (
    PreparationSettings,
    part_mask,
    prepare,
    settings_from_json,
)
from chiasm.detection.readers.manifest import Manifest
from chiasm.detection.readers.survey import survey
from chiasm.errors import DataError
from chiasm.files.images import write_rgb
from chiasm.samples import RGBDSample

SIZE = 96
NORMALS = 8
TRAY = (0.55, 0.6, 0.62)
TRAYS = ((0.5, 0.5, 0.5), (0.9, 0.5, 0.5))
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def sample(rgb: np.ndarray, source: str = "part.png") -> RGBDSample:
    rgb = np.clip(rgb, 0, 1).astype(np.float32)
    return RGBDSample(rgb, None, np.ones(rgb.shape[:2], bool), source=source)


def disc(seed: int, radius: float = 22.0) -> np.ndarray:
    """Where the part lies."""
    row, column = 48 + np.random.default_rng(seed).uniform(-8, 8, 2)
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2


def on_tray(seed: int, tray: tuple[float, ...] = TRAY, **shape: float) -> np.ndarray:
    """A dark disc with grain on a plain tray, under exposures that differ a little."""
    rng = np.random.default_rng(seed)
    rgb = np.full((SIZE, SIZE, 3), tray) * (1 + rng.normal(0, 0.01))
    part = disc(seed, **shape)
    rgb[part] = 0.2 + 0.05 * rng.random((int(part.sum()), 1))
    return rgb + rng.normal(0, 0.01, rgb.shape)


def tyre(seed: int) -> np.ndarray:
    """A tyre that fills the frame at any angle: dark rubber with a weak tread, a bright hub."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(ROWS - 48, COLUMNS - 48) / SIZE
    angle = np.arctan2(ROWS - 48, COLUMNS - 48) + rng.uniform(0, 6)
    grey = 0.15 + 0.04 * np.sign(np.sin(9 * angle)) * np.sign(np.sin(60 * radius))
    grey[radius < 0.2] = 0.6
    return np.repeat(grey[..., None], 3, axis=2) + rng.normal(0, 0.005, (SIZE, SIZE, 3))


def stripes(seed: int) -> np.ndarray:
    """A disc on a table with joints, which are the same in every frame."""
    rgb = on_tray(seed)
    joints = ((ROWS % 24 < 3) | (COLUMNS % 24 < 3)) & ~disc(seed)
    rgb[joints] -= 0.06
    return rgb


def surveyed(folder: Path, pictures: list[np.ndarray], remove_background="auto"):
    """Return settings and sentence for normals with these pictures."""
    rows = ["rgb,split,label"]
    for number, picture in enumerate(pictures):
        write_rgb(folder / f"{number}.png", np.clip(picture, 0, 1).astype(np.float32))
        rows.append(f"{number}.png,train,0")
    (folder / "parts.csv").write_text("\n".join(rows) + "\n")
    source = Manifest(folder / "parts.csv")
    settings = PreparationSettings(size=64)
    return survey(source, source.refs, settings, remove_background=remove_background)


@pytest.fixture
def told(tmp_path: Path) -> PreparationSettings:
    """The settings of a run whose normals lay on a plain tray."""
    settings, _ = surveyed(tmp_path, [on_tray(seed) for seed in range(NORMALS)])
    return settings


def test_a_plain_tray_is_left_out(tmp_path: Path):
    settings, sentence = surveyed(tmp_path, [on_tray(seed) for seed in range(NORMALS)])
    assert settings.remove_background and settings.told_by == "colours"
    assert "have in common" in sentence
    np.testing.assert_allclose(settings.background.colour, TRAY, atol=0.02)
    for seed in range(20, 26):
        mask = part_mask(sample(on_tray(seed)), settings)
        assert mask[disc(seed)].all()
        assert not mask[~disc(seed, radius=22 + 4)].any()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (tyre, "varies between normal parts"),
        (stripes, "is not plain"),
        (
            lambda seed: on_tray(seed, tray=(0.5 + 0.4 * (seed % 2), 0.5, 0.5)),
            "another colour in some",
        ),
        (lambda seed: on_tray(seed, radius=(9, 22)[seed == 3]), "other sizes"),
        (lambda seed: np.full((SIZE, SIZE, 3), 0.5), "hardly anything"),
    ],
    ids=["tyre", "table with joints", "trays of two colours", "parts of two sizes", "empty"],
)
def test_what_may_be_the_part_is_looked_at(tmp_path: Path, picture, words):
    settings, sentence = surveyed(tmp_path, [picture(seed) for seed in range(NORMALS)])
    assert not settings.remove_background
    assert sentence.startswith("Whole frames are looked at") and words in sentence
    part = prepare(sample(picture(50)), settings)
    assert part.foreground.all() and part.notes == ()


def test_a_tyre_was_cut_by_the_colours_of_its_border():
    assert mask_by_border(sample(tyre(50))).mean() < 0.5


def test_two_normals_do_not_tell_a_background(tmp_path: Path):
    settings, sentence = surveyed(tmp_path, [on_tray(0), on_tray(1)])
    assert not settings.remove_background and "3 are needed" in sentence


@pytest.mark.parametrize("asked", [True, False])
def test_the_rule_can_be_given(tmp_path: Path, asked: bool):
    settings, _ = surveyed(tmp_path, [tyre(seed) for seed in range(NORMALS)], asked)
    assert settings.remove_background is asked
    assert settings.told_by == ("border" if asked else None)
    shown = sample(tyre(50))
    expected = mask_by_border(shown) if asked else np.ones((SIZE, SIZE), bool)
    assert np.array_equal(part_mask(shown, settings), expected)


def test_another_tray_is_said_and_the_part_is_still_told(told: PreparationSettings):
    part = prepare(sample(on_tray(30, tray=(0.9, 0.8, 0.5))), told)
    assert "background has another colour" in part.notes[0]
    usual = prepare(sample(on_tray(30)), told)
    assert usual.notes == () and np.array_equal(part.foreground, usual.foreground)


def test_a_part_that_covers_the_border_is_refused(told: PreparationSettings):
    """Its own border has the part's colour, and the tray would be taken for the part."""
    rgb = np.full((SIZE, SIZE, 3), 0.22)
    rgb[disc(30, radius=9)] = TRAY
    with pytest.raises(DataError, match="remove_background=false"):
        prepare(sample(rgb), told)


def test_a_missing_part_is_refused(told: PreparationSettings):
    with pytest.raises(DataError, match="no part stands out"):
        prepare(sample(np.full((SIZE, SIZE, 3), TRAY)), told)


def test_a_part_beyond_its_crop_is_said(told: PreparationSettings):
    part = prepare(sample(on_tray(30, radius=29)), told)
    assert any("beyond their crop" in note for note in part.notes)


def test_points_are_not_read_by_a_model_of_colours(told: PreparationSettings):
    shown = sample(on_tray(30))
    table = np.dstack([COLUMNS, ROWS, np.full((SIZE, SIZE), 600)]).astype(np.float32) / 1000
    with_points = prepare(replace(shown, xyz=table), told)
    without = prepare(shown, told)
    assert np.array_equal(with_points.rgb, without.rgb) and with_points.xyz is None


def test_a_model_that_tells_parts_by_points_refuses_colours_alone():
    settings = PreparationSettings(size=64, told_by="points")
    with pytest.raises(DataError, match="has no 3D points"):
        prepare(sample(on_tray(0)), settings)


def test_settings_are_the_same_through_json(told: PreparationSettings):
    assert settings_from_json(json.loads(json.dumps(asdict(told)))) == told
    earlier = {"size": 64, "remove_background": True, "crop_fraction": 0.5}
    assert settings_from_json(earlier) == PreparationSettings(size=64, crop_fraction=0.5)


def test_a_turned_frame_is_told_alike(told: PreparationSettings):
    mask = part_mask(sample(on_tray(30)), told)
    turned = part_mask(sample(np.rot90(on_tray(30))), told)
    assert np.array_equal(turned, np.rot90(mask))


def test_light_that_falls_off_is_no_structure(tmp_path: Path):
    falling = 1 - 0.1 * cv2.GaussianBlur((np.hypot(ROWS - 48, COLUMNS - 48) / 68) ** 2, (0, 0), 3)
    pictures = [on_tray(seed) * falling[..., None] for seed in range(NORMALS)]
    settings, _ = surveyed(tmp_path, pictures)
    assert settings.told_by == "colours"
