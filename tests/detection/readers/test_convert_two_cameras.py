"""Folders of sensors with two cameras, names that differ, and several lamps: converted and read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.readers.camera import Intrinsics, back_project
from chiasm.detection.readers.convert import convert
from chiasm.detection.readers.opening import open_source
from chiasm.detection.sensors.registration import camera_of_points
from chiasm.errors import DataError
from chiasm.files.images import read_mask, read_rgb, read_xyz, write_mask, write_rgb, write_xyz

SIZE, COLOUR_SIZE = (24, 32), (48, 64)
CAMERA = {"fx": 40.0, "fy": 40.0, "cx": 15.5, "cy": 11.5, "width": 32, "height": 24}
COLOUR_CAMERA = {"K": [80, 0, 31.5, 0, 80, 23.5, 0, 0, 1], "width": 64, "height": 48}
SHIFT = 4  # colour pixels, of the plane at 0.5 m: 80 x 0.025 / 0.5


def write_cameras(root: Path) -> dict[str, Path]:
    root.mkdir(parents=True, exist_ok=True)
    (root / "d.json").write_text(json.dumps(CAMERA))
    (root / "c.json").write_text(json.dumps(COLOUR_CAMERA))
    motion = {"rotation": np.eye(3).tolist(), "translation": [0.025, 0, 0]}
    (root / "t.json").write_text(json.dumps(motion))
    return {
        "intrinsics": root / "d.json",
        "colour_intrinsics": root / "c.json",
        "extrinsic": root / "t.json",
    }


def stripes() -> np.ndarray:
    """Colours whose red is the column, in the colour camera's frame."""
    rgb = np.zeros((*COLOUR_SIZE, 3), np.float32)
    rgb[..., 0] = np.arange(COLOUR_SIZE[1]) / 255
    return rgb


def depth_counts() -> np.ndarray:
    counts = np.full(SIZE, 500, np.uint16)
    counts[3, 4] = 0
    return counts


def two_cameras(root: Path, colour: str = "color/{}_color.png", depth: str = "depth/{}_depth.png"):
    for number in ("0001", "0007"):
        write_rgb(root / colour.format(number), stripes())
        path = root / depth.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), depth_counts())
    return root


@pytest.mark.parametrize(
    ("colour", "depth"),
    [
        ("color/{}_color.png", "depth/{}_depth.png"),
        ("{}_color.png", "{}_depth.png"),
        ("rgb/{}.png", "depth/{}.png"),
    ],
)
def test_colour_comes_to_the_points_in_one_command(tmp_path, colour, depth):
    origin = two_cameras(tmp_path / "raw", colour, depth)
    cameras = write_cameras(tmp_path)
    result = convert(origin, tmp_path / "new", split="train", kind="good", unit_m=0.001, **cameras)
    assert result.written == 2 and result.problems == ()
    said = " ".join(sentence for sentence, _ in result.remarks)
    assert "outside the colour image" in said
    assert ("names that differ" in said) == ("_color" in colour)
    source = open_source(tmp_path / "new")
    sample = source.load(source.refs[0])
    assert not sample.valid[3, 4] and sample.valid.sum() == sample.valid.size - 1
    columns = sample.rgb[5, 2:-4, 0] * 255
    np.testing.assert_allclose(columns, 2 * np.arange(2, 28) + 0.5 + SHIFT, atol=1)


def test_masks_on_the_colours_come_along(tmp_path):
    kind = tmp_path / "raw/test/cut"
    two_cameras(kind, "rgb/{}.png", "depth/{}.png")
    mask = np.zeros(COLOUR_SIZE, bool)
    mask[20:24, 24 + SHIFT : 28 + SHIFT] = True
    for number in ("0001", "0007"):
        write_mask(kind / f"gt/{number}.png", mask)
    convert(tmp_path / "raw", tmp_path / "new", unit_m=0.001, **write_cameras(tmp_path))
    found = read_mask(tmp_path / "new/test/cut/gt/000.png")
    rows, columns = np.nonzero(found)
    assert found.shape == SIZE and (rows.min(), rows.max()) == (10, 11)
    assert (columns.min(), columns.max()) == (12, 13)


def test_without_the_cameras_the_refusal_names_the_options_that_help(tmp_path):
    origin = two_cameras(tmp_path / "raw")
    cameras = write_cameras(tmp_path)
    # 48 x 64 is a whole multiple of 24 x 32, which one camera's sizes have, too.
    for path in sorted((origin / "color").iterdir()):
        write_rgb(path, stripes()[:46])
    given = {"split": "train", "kind": "good", "unit_m": 0.001}
    with pytest.raises(DataError, match=r"give --intrinsics .*--colour-intrinsics.*--extrinsic"):
        convert(origin, tmp_path / "new", intrinsics=cameras["intrinsics"], **given)
    del cameras["extrinsic"]
    with pytest.raises(DataError, match="extrinsic is not given"):
        convert(origin, tmp_path / "new", **cameras, **given)


def test_two_sizes_of_one_camera_are_scaled_and_it_is_said(tmp_path):
    origin = two_cameras(tmp_path / "raw")
    camera = write_cameras(tmp_path)["intrinsics"]
    given = {"split": "train", "kind": "good", "unit_m": 0.001, "intrinsics": camera}
    result = convert(origin, tmp_path / "new", **given)
    assert "64 x 48 pixels were scaled to the 32 x 24" in " ".join(s for s, _ in result.remarks)
    rgb = read_rgb(tmp_path / "new/train/good/rgb/000.png")
    np.testing.assert_allclose(rgb[5, :, 0] * 255, 2 * np.arange(32) + 0.5, atol=1)


def test_point_maps_need_no_intrinsics(tmp_path):
    xyz = back_project(depth_counts() / 1000, Intrinsics(40.0, 41.0, 15.5, 11.0))
    camera = camera_of_points(xyz, "a")
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((40, 41, 15.5, 11), 1e-3)
    with pytest.raises(DataError, match="not in the pixels of a pinhole camera"):
        camera_of_points(np.abs(np.random.default_rng(0).normal(size=(24, 32, 3))), "a")


def test_data_whose_colours_fit_take_no_colour_camera(tmp_path):
    write_rgb(tmp_path / "a/rgb/0.png", stripes())
    write_xyz(tmp_path / "a/xyz/0.tiff", np.full((*COLOUR_SIZE, 3), 0.5))
    with pytest.raises(DataError, match="are of the same pixels; leave out colour-intrinsics"):
        convert(tmp_path / "a", tmp_path / "new", **write_cameras(tmp_path))


def test_colours_alone_are_converted_to_colours_alone(tmp_path):
    """So that images of 12 bits in 16 can be scaled."""
    folder = tmp_path / "raw/train/good"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), np.full(SIZE, 4000, np.uint16))
    result = convert(tmp_path / "raw", tmp_path / "new")
    assert result.written == 1 and "12 bits" in result.remarks[0][0]
    source = open_source(tmp_path / "new")
    (ref,) = source.refs
    assert (ref.split, ref.kind, set(ref.files)) == ("train", "good", {"rgb"})
    np.testing.assert_allclose(source.load(ref).rgb, 4000 / 4095, atol=0.01)


def under_lamps(folder: Path) -> None:
    for part in range(2):
        write_xyz(folder / f"xyz/{part:03d}.tiff", np.full((*SIZE, 3), 0.3 + part / 10))
        for lamp in (1, 2, 3):
            rgb = np.full((*SIZE, 3), lamp / 10, np.float32)
            write_rgb(folder / f"rgb/{part:03d}_L{lamp}.png", rgb)


@pytest.mark.parametrize("inside", ["", "train/good"])
def test_pictures_under_lamps_are_one_part_in_folders_too(tmp_path, inside):
    under_lamps(tmp_path / inside)
    source = open_source(tmp_path)
    assert [(ref.files["xyz"].stem, ref.lamp) for ref in source.refs] == [("000", 1), ("001", 1)]
    assert source.lamps == (1, 2, 3) and source.problems == ()
    assert "6 pictures show 2 parts" in " ".join(source.remarks)
    chosen = open_source(tmp_path, lamp=3)
    np.testing.assert_allclose(chosen.load(chosen.refs[1]).rgb, 0.3, atol=0.01)
    with pytest.raises(DataError, match="no picture under lamp 7; the lamps found are 1, 2, 3"):
        open_source(tmp_path, lamp=7)
    result = convert(tmp_path, tmp_path / "new", split="train", kind="good", lamp=2)
    assert result.written == 2
    np.testing.assert_allclose(read_rgb(tmp_path / "new/train/good/rgb/001.png"), 0.2, atol=0.01)
    assert read_xyz(tmp_path / "new/train/good/xyz/001.tiff")[0, 0, 2] == np.float32(0.4)


def test_copies_of_a_point_map_for_each_lamp_are_one_part(tmp_path):
    for part in range(2):
        for lamp in range(3):
            write_rgb(tmp_path / f"rgb/{part}_{lamp}.png", np.full((*SIZE, 3), 0.1, np.float32))
            write_xyz(tmp_path / f"xyz/{part}_{lamp}.tiff", np.full((*SIZE, 3), 0.3 + part / 10))
    source = open_source(tmp_path)
    assert [Path(ref.source).name for ref in source.refs] == ["0_0.png", "1_0.png"]
    assert source.lamps == (0, 1, 2) and "6 pictures show 2 parts" in source.remarks[0]
    for part in range(2):
        for lamp in range(3):
            xyz = np.full((*SIZE, 3), 0.3 + part / 10 + lamp / 100)
            write_xyz(tmp_path / f"xyz/{part}_{lamp}.tiff", xyz)
    assert len(open_source(tmp_path).refs) == 6 and open_source(tmp_path).remarks == ()


@pytest.mark.parametrize(
    "points", ["0001_depth.png", "0001.ply", "0001.npy", "0001.pcd", "depth/0001.png"]
)
@pytest.mark.parametrize("inside", ["", "train/good"])
def test_images_beside_3d_files_in_one_folder_are_never_colour_alone(tmp_path, points, inside):
    folder = tmp_path / inside
    write_rgb(folder / "0001_color.png", stripes())
    (folder / points).parent.mkdir(exist_ok=True)
    (folder / points).write_bytes(b"ply\n")
    with pytest.raises(DataError, match=r"0001.*Convert the parts: chiasm data convert"):
        open_source(tmp_path)
