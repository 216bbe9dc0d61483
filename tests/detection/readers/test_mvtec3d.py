"""The MVTec 3D-AD layout, the plain folder, and how a path is recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.plain_folder import PlainFolder
from chiasm.errors import DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz

SIZE = (6, 8)


def put(folder: Path, stem: str, seed: int, mask=None, size=SIZE) -> None:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(0.2, 0.4, (*size, 3)).astype(np.float32)
    xyz[0, 0] = 0
    write_rgb(folder / "rgb" / f"{stem}.png", rng.random((*size, 3), dtype=np.float32))
    write_xyz(folder / "xyz" / f"{stem}.tiff", xyz)
    if mask is not None:
        write_mask(folder / "gt" / f"{stem}.png", mask)


def spot(size=SIZE):
    mask = np.zeros(size, bool)
    mask[2:4, 3:5] = True
    return mask


@pytest.fixture
def category(tmp_path) -> Path:
    root = tmp_path / "peg"
    put(root / "train/good", "000", 0)
    put(root / "train/good", "001", 1)
    put(root / "validation/good", "000", 2)
    put(root / "test/cut", "000", 3, spot())
    put(root / "test/good", "000", 4, np.zeros(SIZE, bool))
    return root


def only(root: Path, part: str = "test/cut/rgb/000.png"):
    source = Mvtec3d(root)
    (ref,) = (ref for ref in source.refs if ref.source == str(root / part))
    return source.load(ref)


def test_splits_kinds_and_labels_come_from_the_folders(category):
    refs = Mvtec3d(category).refs
    assert [(r.split, r.kind, r.label, r.group) for r in refs] == [
        ("train", "good", 0, "peg"),
        ("train", "good", 0, "peg"),
        ("validation", "good", 0, "peg"),
        ("test", "cut", 1, "peg"),
        ("test", "good", 0, "peg"),
    ]
    assert refs[3].source == str(category / "test/cut/rgb/000.png")


def test_a_sample_holds_the_values_of_its_files(category):
    sample = only(category)
    rng = np.random.default_rng(3)
    xyz = rng.uniform(0.2, 0.4, (*SIZE, 3)).astype(np.float32)
    xyz[0, 0] = 0
    np.testing.assert_array_equal(sample.xyz, xyz)
    rgb = rng.random((*SIZE, 3), dtype=np.float32)
    np.testing.assert_allclose(sample.rgb, rgb, atol=0.01)
    np.testing.assert_array_equal(sample.mask, spot())
    assert (sample.label, sample.kind, sample.split) == (1, "cut", "test")


def test_points_are_valid_where_any_coordinate_is_not_0(category):
    xyz = np.zeros((*SIZE, 3), np.float32)
    xyz[1, 2] = 0, 0, 0.3
    xyz[3, 4] = -0.1, 0, 0
    write_xyz(category / "test/cut/xyz/000.tiff", xyz)
    assert np.argwhere(only(category).valid).tolist() == [[1, 2], [3, 4]]


def test_a_good_part_without_mask_gets_an_empty_one(category):
    mask = only(category, "train/good/rgb/000.png").mask
    assert mask.shape == SIZE and not mask.any()


def test_defective_parts_without_any_mask_have_none(category):
    (category / "test/cut/gt/000.png").unlink()
    sample = only(category)
    assert sample.mask is None and sample.label == 1


def test_files_without_partner_are_listed_and_left_out(category):
    (category / "train/good/xyz/000.tiff").unlink()
    (category / "validation/good/rgb/000.png").unlink()
    put(category / "test/cut", "001", 5)
    source = Mvtec3d(category)
    assert [Path(r.source).relative_to(category).as_posix() for r in source.refs] == [
        "train/good/rgb/001.png",
        "test/cut/rgb/000.png",
        "test/good/rgb/000.png",
    ]
    for problem, name in zip(
        source.problems,
        ("train/good/rgb/000.png", "validation/good/xyz/000.tiff", "test/cut/rgb/001.png"),
        strict=True,
    ):
        assert problem.source == str(category / name) and problem.left_out
        assert str(category / name) in problem.sentence


def test_a_folder_without_one_pair_is_refused_by_name(tmp_path):
    put(tmp_path / "train/good", "000", 0)
    (tmp_path / "train/good/xyz/000.tiff").unlink()
    with pytest.raises(DataError, match=r"no complete pair.*000\.png has no partner .*000\.tiff"):
        Mvtec3d(tmp_path)


def test_images_of_different_size_are_refused(category):
    write_xyz(category / "test/cut/xyz/000.tiff", np.ones((6, 9, 3), np.float32))
    with pytest.raises(DataError, match=r"rgb 6x8 .*rgb/000\.png.* xyz 6x9 .*xyz/000\.tiff"):
        only(category)
    put(category / "test/cut", "000", 0, spot((7, 8)))
    with pytest.raises(DataError, match=r"mask 7x8 .*gt/000\.png"):
        only(category)


def test_a_part_without_any_point_is_refused(category):
    write_xyz(category / "test/cut/xyz/000.tiff", np.zeros((*SIZE, 3), np.float32))
    with pytest.raises(DataError, match=r"xyz/000\.tiff holds no 3D point"):
        only(category)


def test_an_empty_mask_of_a_defective_part_is_refused(category):
    write_mask(category / "test/cut/gt/000.png", np.zeros(SIZE, bool))
    with pytest.raises(DataError, match=r"cut/gt/000\.png is empty .*defective \(cut\)"):
        only(category)


def test_a_mask_with_a_defect_on_a_good_part_is_refused(category):
    write_mask(category / "test/good/gt/000.png", spot())
    with pytest.raises(DataError, match=r"good/gt/000\.png marks 4 defective pixels"):
        only(category, "test/good/rgb/000.png")


def test_a_damaged_file_is_named_when_its_part_is_loaded(category):
    (category / "test/cut/rgb/000.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"cut/rgb/000\.png cannot be decoded"):
        only(category)


def test_plain_folders_pair_by_name_and_know_no_labels(tmp_path):
    put(tmp_path, "b", 0)
    put(tmp_path, "a", 1)
    put(tmp_path, "c", 2)
    (tmp_path / "xyz/c.tiff").unlink()
    source = PlainFolder(tmp_path)
    assert [Path(ref.source).name for ref in source.refs] == ["a.png", "b.png"]
    assert [problem.source for problem in source.problems] == [str(tmp_path / "rgb/c.png")]
    sample = source.load(source.refs[0])
    assert (sample.label, sample.mask, sample.split) == (None, None, "")
    assert not sample.valid[0, 0] and sample.valid.sum() == sample.valid.size - 1


@pytest.mark.parametrize(("present", "absent"), [("rgb", "xyz"), ("xyz", "rgb")])
def test_plain_folders_of_one_sensor_are_read(tmp_path, present, absent):
    put(tmp_path, "a", 0)
    next((tmp_path / absent).iterdir()).unlink()
    source = PlainFolder(tmp_path)
    sample = source.load(source.refs[0])
    assert getattr(sample, absent) is None and getattr(sample, present).shape == (*SIZE, 3)
    assert sample.valid.all() == (present == "rgb")


def test_layouts_are_recognised_and_others_explained(category, tmp_path):
    assert isinstance(open_source(category), Mvtec3d)
    assert isinstance(open_source(category / "test/cut"), PlainFolder)
    with pytest.raises(DataError, match=r"holds data: open one of them, e\.g\. .*peg"):
        open_source(tmp_path)
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path / "notes.txt", tmp_path / "nowhere", category / "train/good/rgb"):
        with pytest.raises(DataError, match=rf"{path} .*Known layouts"):
            open_source(path)
    with pytest.raises(DataError, match=rf"{category} .*has no lamp to choose; leave out lamp=2"):
        open_source(category, lamp=2)


def test_masks_may_lie_in_ground_truth(tmp_path):
    """3D-ADAM, as it is published for anomalib."""
    for kind in ("train/good", "test/bulge"):
        put(tmp_path / kind, "001_C", 0)
    write_mask(tmp_path / "train/good/ground_truth/001_C.png", np.zeros(SIZE, bool))
    write_mask(tmp_path / "test/bulge/ground_truth/001_C.png", spot())
    good, bulge = open_source(tmp_path).refs
    assert not open_source(tmp_path).load(good).mask.any()
    np.testing.assert_array_equal(open_source(tmp_path).load(bulge).mask, spot())
