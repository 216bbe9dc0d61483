"""Textures from folders and formulas, and their augmenters."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.anomalies.textures import AUGMENTERS, PROCEDURAL, TextureSource, augment
from chiasm.errors import DataError


@pytest.mark.parametrize("family", sorted(PROCEDURAL))
def test_procedural_textures_have_structure(family: str) -> None:
    drawn = [PROCEDURAL[family]((48, 64), np.random.default_rng(seed)) for seed in range(3)]
    second = PROCEDURAL[family]((48, 64), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[0], second)
    assert not np.array_equal(drawn[0], drawn[1])
    for texture in drawn:
        assert texture.shape == (48, 64, 3) and texture.dtype == np.float32
        assert np.ptp(texture, axis=(0, 1)).max() > 0.02


def test_there_are_at_least_six_procedural_families() -> None:
    assert len(PROCEDURAL) >= 6


@pytest.mark.parametrize("number", range(len(AUGMENTERS)))
def test_augmenters_keep_shape_and_type(number: int) -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(30, 200, (30, 40, 3), dtype=np.uint8)
    before = image.copy()
    changed = False
    for _ in range(8):
        result = AUGMENTERS[number](image, rng)
        assert result.shape == image.shape and result.dtype == np.uint8
        changed = changed or not np.array_equal(result, image)
    assert changed
    np.testing.assert_array_equal(image, before)


def test_augment_is_repeatable_and_in_range() -> None:
    texture = TextureSource().draw((32, 32), np.random.default_rng(0))
    for seed in range(20):
        result = augment(texture, np.random.default_rng(seed))
        np.testing.assert_array_equal(result, augment(texture, np.random.default_rng(seed)))
        assert result.min() >= 0.0 and result.max() <= 1.0 and result.dtype == np.float32


def test_folder_textures_are_rgb_and_resized(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    red = np.zeros((20, 20, 3), dtype=np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red" / "one.png"), red)
    source = TextureSource.from_folder(tmp_path)
    texture = source.draw((10, 14), np.random.default_rng(0))
    assert texture.shape == (10, 14, 3)
    np.testing.assert_array_equal(texture[0, 0], [1.0, 0.0, 0.0])


def test_memory_of_pictures_is_bounded(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), number, dtype=np.uint8))
    source = TextureSource.from_folder(tmp_path)
    source.cache_size = 2
    rng = np.random.default_rng(0)
    for _ in range(30):
        source.draw((8, 8), rng)
    assert len(source._cache) == 2


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        TextureSource.from_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no picture"):
        TextureSource.from_folder(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        TextureSource.from_folder(tmp_path).draw((8, 8), np.random.default_rng(0))


def test_real_textures_are_read() -> None:
    root = os.environ.get("CHIASM_DATA")
    folder = Path(root or "") / "textures" / "dtd"
    if not root or not folder.is_dir():
        pytest.skip("CHIASM_DATA is not set to a folder with textures/dtd")
    source = TextureSource.from_folder(folder)
    assert len(source.files) == len(list(folder.glob("*/*.jpg")))
    texture = source.draw_augmented((64, 64), np.random.default_rng(0))
    assert texture.shape == (64, 64, 3) and texture.std() > 0
