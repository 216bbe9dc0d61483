"""Folders of colour images alone: MVTec AD, VisA, anomalib's folders, and plain ones."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from chiasm.detection.config import DetectionConfig
from chiasm.detection.opening import GEOMETRY_ENTRIES, _with_sensors
from chiasm.detection.readers.image_folders import ImageFolder
from chiasm.detection.readers.opening import open_as_trained, open_source
from chiasm.detection.readers.source import SampleRef, sensors_of
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz

IMAGE = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)
MASK = np.zeros((6, 8), bool)
MASK[2, 3] = True


def images(folder: Path, *names: str) -> None:
    for name in names:
        write_rgb(folder / name, IMAGE)


def facts(source) -> set[tuple[str, str, int | None]]:
    return {(ref.split, ref.kind, ref.label) for ref in source.refs}


def test_mvtec_ad_has_its_masks(tmp_path):
    images(tmp_path / "train/good", "0.png", "1.jpg")
    images(tmp_path / "test/good", "0.png")
    images(tmp_path / "test/cut", "0.png")
    write_mask(tmp_path / "ground_truth/cut/0_mask.png", MASK)
    source = open_source(tmp_path)
    assert facts(source) == {("train", "good", 0), ("test", "good", 0), ("test", "cut", 1)}
    assert source.problems == () and source.remarks == ()
    cut = source.load(next(ref for ref in source.refs if ref.label))
    np.testing.assert_array_equal(cut.mask, MASK)
    assert cut.xyz is None and cut.valid.all()


def test_several_masks_of_a_part_are_joined(tmp_path):
    """MVTec LOCO."""
    images(tmp_path / "train/good", "0.png")
    images(tmp_path / "validation/good", "0.png")
    images(tmp_path / "test/logical_anomalies", "0.png")
    for number, mask in enumerate((MASK, MASK[::-1])):
        write_mask(tmp_path / f"ground_truth/logical_anomalies/0/{number:03d}.png", mask)
    source = open_source(tmp_path)
    assert ("validation", "good", 0) in facts(source)
    np.testing.assert_array_equal(source.load(source.refs[-1]).mask, MASK | MASK[::-1])


def test_masks_inside_the_test_folder_are_no_parts(tmp_path):
    """MVTec AD 2."""
    images(tmp_path / "train/good", "0.png")
    images(tmp_path / "test_public/bad", "0.png")
    images(tmp_path / "test_public/good", "0.png")
    write_mask(tmp_path / "test_public/ground_truth/bad/0_mask.png", MASK)
    source = open_source(tmp_path)
    assert len(source.refs) == 3 and source.load(source.refs[1]).mask.any()


def test_other_words_for_good_and_loose_images(tmp_path):
    images(tmp_path / "train/OK", "0.png")
    images(tmp_path / "test/NOK", "0.png")
    images(tmp_path / "train", "loose.png")
    source = open_source(tmp_path)
    assert facts(source) == {("train", "good", 0), ("test", "NOK", 1)}
    (problem,) = source.problems
    assert "loose.png" in problem.sentence and str(tmp_path / "train/good") in problem.sentence


def test_a_mask_that_is_missing_leaves_the_part_out(tmp_path):
    images(tmp_path / "train/good", "0.png")
    images(tmp_path / "test/cut", "0.png", "1.png")
    write_mask(tmp_path / "ground_truth/cut/0_mask.png", MASK)
    source = open_source(tmp_path)
    assert [Path(ref.source).name for ref in source.refs if ref.label] == ["0.png"]
    assert "1.png has no mask" in source.problems[0].sentence


def visa(root: Path) -> Path:
    images(root / "candle/Data/Images/Normal", *(f"{n:04d}.JPG" for n in range(10)))
    images(root / "candle/Data/Images/Anomaly", "000.JPG")
    write_mask(root / "candle/Data/Masks/Anomaly/000.png", MASK)
    return root / "candle"


def test_visa_takes_the_published_split(tmp_path):
    folder = visa(tmp_path)
    rows = [f"candle,train,normal,candle/Data/Images/Normal/{n:04d}.JPG," for n in range(7)]
    rows += [f"candle,test,normal,candle/Data/Images/Normal/{n:04d}.JPG," for n in range(7, 9)]
    rows += ["candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/000.png"]
    (tmp_path / "split_csv").mkdir()
    table = tmp_path / "split_csv/1cls.csv"
    table.write_text("\n".join(["object,split,label,image,mask", *rows]))
    source = open_source(folder)
    assert Counter((ref.split, ref.label) for ref in source.refs) == {
        ("train", 0): 7,
        ("test", 0): 2,
        ("test", 1): 1,
    }
    assert "0009.JPG has no split" in source.problems[0].sentence
    assert source.load(source.refs[-1]).mask is not None
    table.write_text("name\n")
    with pytest.raises(DataError, match="object, split and image were expected"):
        open_source(folder)


def test_without_a_published_split_a_fifth_of_the_good_parts_is_tested(tmp_path):
    folder = visa(tmp_path)
    source = open_source(folder)
    tested = {ref.source for ref in source.refs if ref.split == "test" and ref.label == 0}
    assert len(tested) == 2 and "2 of 10 good parts" in source.remarks[0]
    images(folder / "Data/Images/Normal", "0010.JPG")  # the names decide, not their order
    later = {
        ref.source for ref in open_source(folder).refs if ref.split == "test" and not ref.label
    }
    assert len(tested & later) >= 1
    assert "2 of 11 good parts" in open_as_trained(folder, None)[1][0]


@pytest.mark.parametrize("masks", ["mask", "ground_truth", "Masks"])
def test_anomalibs_folders(tmp_path, masks):
    images(tmp_path / "good", *(f"{n}.png" for n in range(5)))
    images(tmp_path / "crack", "5.png")
    write_mask(tmp_path / masks / "crack/5.png", MASK)
    source = open_source(tmp_path)
    assert facts(source) == {("train", "good", 0), ("test", "good", 0), ("test", "crack", 1)}
    assert source.load(source.refs[-1]).mask is not None
    images(tmp_path / "good_test", "6.png")
    source = open_source(tmp_path)
    assert source.remarks == ()
    assert sum(ref.split == "train" for ref in source.refs) == 5


def test_masks_of_all_kinds_in_one_folder(tmp_path):
    images(tmp_path / "normal", "0.png", "1.png")
    images(tmp_path / "abnormal", "5.png")
    write_mask(tmp_path / "masks/5.png", MASK)
    source = open_source(tmp_path)
    assert source.load(source.refs[-1]).mask is not None and source.problems == ()


def test_a_plain_folder_has_parts_of_unknown_quality(tmp_path):
    images(tmp_path, "b.png", "a.webp")
    (tmp_path / "notes.txt").touch()
    source = open_source(tmp_path)
    assert isinstance(source, ImageFolder)
    assert [Path(ref.source).name for ref in source.refs] == ["a.webp", "b.png"]
    assert facts(source) == {("", "", None)}


def test_grey_and_16_bits(tmp_path):
    tmp_path.joinpath("train/good").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train/good/0.png"), np.full((6, 8), 30_000, np.uint16))
    sample = open_source(tmp_path).load(open_source(tmp_path).refs[0])
    assert sample.rgb.shape == (6, 8, 3)
    np.testing.assert_allclose(sample.rgb, 30_000 / 65535)


def test_the_colours_of_mulsen_ad(tmp_path):
    images(tmp_path / "RGB/train", "0.png", "1.png")
    images(tmp_path / "RGB/test/good", "0.png")
    images(tmp_path / "RGB/test/hole", "0.png", "1.png")
    write_mask(tmp_path / "RGB/GT/hole/0.png", MASK)
    (tmp_path / "RGB/GT/hole/data.csv").write_text("object,a,b,c\n0,1,1,1\n1,0,1,0\n")
    images(tmp_path / "Infrared/train", "0.png")
    source = open_source(tmp_path)
    assert Counter((ref.split, ref.kind) for ref in source.refs) == {
        ("train", "good"): 2,
        ("test", "good"): 1,
        ("test", "hole"): 1,
    }
    assert "1 parts whose defect" in source.remarks[0] and source.problems == ()
    np.testing.assert_array_equal(source.load(source.refs[-1]).mask, MASK)


def test_anomalibs_folders_of_colour_and_point_maps(tmp_path):
    for kind in ("good", "crack"):
        images(tmp_path / kind, "0.png", "1.png")
        for name in ("0", "1"):
            write_xyz(tmp_path / f"{kind}_depth/{name}.tiff", np.full((6, 8, 3), 0.5))
    source = open_source(tmp_path)
    assert {ref.kind for ref in source.refs} == {"good", "crack"} and len(source.refs) == 4
    assert all(source.load(ref).xyz is not None for ref in source.refs)
    (tmp_path / "good_depth/1.tiff").unlink()
    assert len(open_source(tmp_path).refs) == 3
    assert "1.png has no partner" in open_source(tmp_path).problems[0].sentence


@pytest.mark.parametrize("name", ["good_depth", "depth"])
def test_a_folder_of_depth_is_no_kind_of_defect(tmp_path, name):
    images(tmp_path / "good", "0.png", "1.png")
    images(tmp_path / name, "0.png", "1.png")
    with pytest.raises(DataError, match=rf"{name} holds 3D files .* chiasm data convert"):
        open_source(tmp_path)


def write_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    Image.fromarray((IMAGE * 255).astype(np.uint8)).save(stream, "PNG", exif=exif)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


@pytest.mark.parametrize("stored", [True, False])
def test_a_turned_image_and_its_mask_lie_alike(tmp_path, stored):
    write_turned(tmp_path / "test/cut/0.png", 6)
    shown = np.rot90(MASK, -1)
    write_mask(tmp_path / "ground_truth/cut/0_mask.png", MASK if stored else shown)
    source = open_source(tmp_path)
    sample = source.load(source.refs[0])
    np.testing.assert_array_equal(sample.mask, shown)
    np.testing.assert_allclose(sample.rgb, np.rot90(IMAGE, -1), atol=0.01)


def test_a_turned_image_beside_points_is_refused_where_nothing_tells(tmp_path):
    write_turned(tmp_path / "rgb/0.png", 3)
    write_xyz(tmp_path / "xyz/0.tiff", np.full((6, 8, 3), 0.5))
    source = open_source(tmp_path)
    with pytest.raises(DataError, match=r"0\.png is to be turned"):
        source.load(source.refs[0])


COLOUR = SampleRef("a.png", {"rgb": Path("a.png")}, split="train", label=0)
BOTH = SampleRef("b.png", {"rgb": Path("b.png"), "depth": Path("b.tiff")}, split="train", label=0)


def test_the_sensors_are_those_that_all_parts_have():
    assert sensors_of([COLOUR]) == ("rgb",)
    assert sensors_of([BOTH, BOTH]) == ("rgb", "geometry")
    assert sensors_of([]) == ()
    with pytest.raises(ConfigurationError, match=r"1 of 2 .*no 3D points, such as a\.png"):
        sensors_of([BOTH, COLOUR])


def test_settings_take_the_sensors_of_the_data_unless_given(tmp_path):
    images(tmp_path / "train/good", "0.png")
    source = open_source(tmp_path)
    config = DetectionConfig.make(data=tmp_path, out=tmp_path / "run")
    assert _with_sensors(config, source).modalities == ("rgb",)
    asked = DetectionConfig.make(data=tmp_path, out=tmp_path / "run", modalities="rgb,geometry")
    with pytest.raises(ConfigurationError, match=r"no 3D points.*leave modalities out"):
        _with_sensors(asked, source)


@pytest.mark.parametrize("given", [{}, {"modalities": "geometry"}])
def test_a_memory_of_3d_alone_is_larger_unless_given(tmp_path, given):
    depth = SampleRef("c.tiff", {"depth": Path("c.tiff")}, split="train", label=0)
    source = SimpleNamespace(refs=[depth])
    places = {"data": tmp_path, "out": tmp_path / "run"} | given
    alone = _with_sensors(DetectionConfig.make(**places), source)
    assert (alone.modalities, alone.memory_entries) == (("geometry",), GEOMETRY_ENTRIES)
    for more, entries in (({"memory_entries": 900}, 900), ({"model": "btf"}, 4_000)):
        assert (
            _with_sensors(DetectionConfig.make(**places, **more), source).memory_entries == entries
        )
    both = _with_sensors(
        DetectionConfig.make(data=tmp_path, out=tmp_path / "r"), SimpleNamespace(refs=[BOTH])
    )
    assert both.memory_entries == 4_000
