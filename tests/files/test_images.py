"""Image files: precision, units, and a sentence that names the file for each fault."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from chiasm.errors import DataError
from chiasm.files.images import (
    RGB_SUFFIXES,
    image_files,
    read_depth,
    read_mask,
    read_rgb,
    read_xyz,
    write_mask,
    write_rgb,
    write_xyz,
)


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def save(path: Path, pixels) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def save_tiff(path: Path, values) -> Path:
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")
    return path


def test_16_bit_colour_keeps_16_bits(tmp_path):
    counts = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) + 30000
    rgb = read_rgb(save(tmp_path / "deep.png", counts))
    assert rgb.dtype == np.float32
    np.testing.assert_array_equal(np.rint(rgb.astype(float) * 65535), counts[..., ::-1])


def test_colours_are_in_rgb_order_between_0_and_1(tmp_path):
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 255, 51  # OpenCV writes blue, green, red
    rgb = read_rgb(save(tmp_path / "blue.png", pixels))
    np.testing.assert_allclose(rgb[1, 1], [0, 0.2, 1], atol=1e-7)


def test_grey_is_repeated_and_alpha_dropped(tmp_path):
    grey = read_rgb(save(tmp_path / "grey.png", np.full((2, 3), 51, np.uint8)))
    np.testing.assert_allclose(grey, np.full((2, 3, 3), 0.2), atol=1e-7)
    pixels = np.full((2, 3, 4), (0, 51, 255, 7), np.uint8)
    rgb = read_rgb(save(tmp_path / "alpha.png", pixels))
    np.testing.assert_allclose(rgb[0, 0], [1, 0.2, 0], atol=1e-7)


def test_written_images_are_read_back(tmp_path):
    rgb, xyz = noise((5, 6, 3)), noise((5, 6, 3), 1) - 0.5
    mask = noise((5, 6), 2) > 0.5
    write_rgb(tmp_path / "new" / "ä.png", rgb)
    write_xyz(tmp_path / "x.tiff", xyz)
    write_mask(tmp_path / "m.png", mask)
    np.testing.assert_allclose(read_rgb(tmp_path / "new" / "ä.png"), rgb, atol=0.501 / 255)
    np.testing.assert_array_equal(read_xyz(tmp_path / "x.tiff"), xyz)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), mask)


def test_point_maps_keep_their_metres(tmp_path):
    xyz = (noise((4, 5, 3)) - 0.5).astype(np.float64)
    xyz[0, 0] = 0
    points = read_xyz(save_tiff(tmp_path / "x.tiff", xyz))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, xyz.astype(np.float32))


def test_a_mask_is_any_colour_that_is_not_black(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 3] = 255  # opaque black is background
    pixels[0, 1, 0] = 1
    pixels[1, 2, 2] = 255
    mask = read_mask(save(tmp_path / "m.png", pixels))
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True, False], [False, False, True]]


def test_depth_counts_times_unit_are_metres(tmp_path):
    counts = np.array([[0, 1000], [2500, 65535]], np.uint16)
    depth = read_depth(save(tmp_path / "d.png", counts), unit_m=0.001)
    np.testing.assert_allclose(depth, [[0, 1], [2.5, 65.535]], rtol=1e-6)


def test_missing_float_depth_becomes_0(tmp_path):
    values = np.array([[np.nan, 2], [np.inf, 4]], np.float32)
    depth = read_depth(save_tiff(tmp_path / "d.tiff", values), unit_m=0.5)
    assert depth.tolist() == [[0, 1], [0, 2]]


def test_image_files_are_found_by_stem_without_hidden_and_other_files(tmp_path):
    for name in ("b.PNG", "a.jpg", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    files = image_files(tmp_path, RGB_SUFFIXES)
    assert list(files) == ["a", "b"]
    assert files["b"] == tmp_path / "b.PNG"
    assert image_files(tmp_path / "nowhere", RGB_SUFFIXES) == {}


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tiff"])
def test_a_colour_image_cut_short_is_refused(tmp_path, name, share):
    write_rgb(tmp_path / name, noise((32, 32, 3)))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{name} cannot be decoded"):
        read_rgb(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_point_map_cut_short_is_refused(tmp_path, share):
    write_xyz(tmp_path / "packed.tiff", noise((32, 32, 3)))
    save_tiff(tmp_path / "plain.tiff", noise((32, 32, 3)))
    for name in ("packed.tiff", "plain.tiff"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=rf"{name} cannot be decoded as TIFF"):
            read_xyz(tmp_path / name)


def test_a_flipped_byte_in_a_png_is_refused(tmp_path):
    write_mask(tmp_path / "m.png", noise((32, 32)) > 0.5)
    content = bytearray((tmp_path / "m.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.png cannot be decoded"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("read", [read_rgb, read_mask, read_xyz])
def test_empty_and_absent_files_are_named(tmp_path, read):
    (tmp_path / "e.tiff").touch()
    with pytest.raises(DataError, match=r"e\.tiff is empty"):
        read(tmp_path / "e.tiff")
    with pytest.raises(DataError, match=r"nix\.tiff cannot be opened"):
        read(tmp_path / "nix.tiff")


def test_float_colours_are_refused(tmp_path):
    path = save_tiff(tmp_path / "f.tiff", noise((4, 4, 3)))
    with pytest.raises(DataError, match=r"f\.tiff holds float32 values; .* 8 or 16"):
        read_rgb(path)


def test_point_maps_of_another_shape_or_type_are_refused(tmp_path):
    two = save_tiff(tmp_path / "two.tiff", noise((4, 5, 2)))
    flat = save_tiff(tmp_path / "flat.tiff", noise((4, 5)))
    whole = save_tiff(tmp_path / "whole.tiff", np.ones((4, 5, 3), np.uint16))
    with pytest.raises(DataError, match=r"two\.tiff has shape \(4, 5, 2\)"):
        read_xyz(two)
    with pytest.raises(DataError, match=r"flat\.tiff has shape \(4, 5\)"):
        read_xyz(flat)
    with pytest.raises(DataError, match=r"whole\.tiff holds uint16 values"):
        read_xyz(whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_that_are_no_numbers_are_missing(tmp_path, bad):
    xyz = noise((4, 5, 3))
    xyz[1, 2, 0] = xyz[3, 3, 1] = xyz[3, 3, 2] = bad
    points = read_xyz(save_tiff(tmp_path / "n.tiff", xyz))
    xyz[1, 2] = xyz[3, 3] = 0
    np.testing.assert_array_equal(points, xyz)


def test_depth_of_8_bits_several_channels_or_below_0_is_refused(tmp_path):
    preview = save(tmp_path / "preview.png", np.full((4, 4), 9, np.uint8))
    colour = save(tmp_path / "colour.png", np.full((4, 4, 3), 9, np.uint16))
    behind = save_tiff(tmp_path / "behind.tiff", np.full((4, 4), -1, np.float32))
    for path, what in ((preview, "8 bits"), (colour, "one channel"), (behind, "negative depth")):
        with pytest.raises(DataError, match=rf"{path.name} .*{what}"):
            read_depth(path, unit_m=0.001)


def test_two_files_of_one_name_are_refused(tmp_path):
    for name in ("000.png", "000.jpg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"000\.jpg and 000\.png"):
        image_files(tmp_path, RGB_SUFFIXES)
