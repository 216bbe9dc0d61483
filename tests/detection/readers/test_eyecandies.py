"""Eyecandies: depth between min and max, any subset of lamps, labels from the metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from chiasm.cli.main import app
from chiasm.detection.readers.eyecandies import DEFECTS, FOCAL_PER_WIDTH, Eyecandies
from chiasm.detection.readers.opening import open_source
from chiasm.errors import DataError

SIDE = 4


def put(data: Path, stem: str, lamps=(0,), *, defects=(), low=2.0, high=4.0, metadata=True):
    data.mkdir(parents=True, exist_ok=True)
    for lamp in lamps:
        image = np.full((SIDE, SIDE, 3), 10 * (lamp + 1), np.uint8)
        cv2.imwrite(str(data / f"{stem}_image_{lamp}.png"), image)
    depth = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    cv2.imwrite(str(data / f"{stem}_depth.png"), depth)
    info = {"normalization": {"min": low, "max": high}}
    (data / f"{stem}_info_depth.yaml").write_text(yaml.safe_dump(info))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[1, 2] = 255 * bool(defects)
    cv2.imwrite(str(data / f"{stem}_mask.png"), mask)
    facts = {"anomalous": int(bool(defects))}
    facts |= {f"anomalous_{defect}": int(defect in defects) for defect in DEFECTS}
    if metadata:
        (data / f"{stem}_metadata.yaml").write_text(yaml.safe_dump(facts))


@pytest.fixture
def candy(tmp_path) -> Path:
    root = tmp_path / "Drop"
    put(root / "train/data", "0", (1, 3))
    put(root / "train/data", "10", (3,))
    put(root / "train/data", "2", (3,))
    put(root / "val/data", "0", (3,), metadata=False)
    put(root / "test_public/data", "0", (3, 5), defects=("dents",))
    put(root / "test_public/data", "1", (3,), defects=("bumps", "normals"))
    return root


def test_depth_runs_from_min_to_max_in_metres(candy):
    source = Eyecandies(candy)
    xyz = source.load(source.refs[0]).xyz
    counts = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    z = 2 + counts / 65535 * 2
    np.testing.assert_allclose(xyz[..., 2], z, rtol=1e-6)
    ray = (np.arange(SIDE) - 1.5) / (FOCAL_PER_WIDTH * SIDE)
    np.testing.assert_allclose(xyz[..., 0], ray[None, :] * z, rtol=1e-5)
    np.testing.assert_allclose(xyz[..., 1], ray[:, None] * z, rtol=1e-5)


def test_a_count_of_0_is_the_nearest_point_not_a_missing_one(candy):
    source = Eyecandies(candy)
    assert source.load(source.refs[0]).valid.all()


def test_parts_come_by_split_and_number_with_label_and_kind(candy):
    refs = Eyecandies(candy).refs
    assert [(Path(r.source).name, r.split, r.label, r.kind) for r in refs] == [
        ("0_image_3.png", "train", 0, "good"),
        ("2_image_3.png", "train", 0, "good"),
        ("10_image_3.png", "train", 0, "good"),
        ("0_image_3.png", "validation", 0, "good"),
        ("0_image_3.png", "test", 1, "dents"),
        ("1_image_3.png", "test", 1, "bumps+normals"),
    ]


def test_masks_are_those_of_the_whole_defect(candy):
    source = Eyecandies(candy)
    assert np.argwhere(source.load(source.refs[4]).mask).tolist() == [[1, 2]]
    assert not source.load(source.refs[0]).mask.any()


def test_test_parts_without_metadata_are_unknown(candy):
    (candy / "test_public/data/1_metadata.yaml").unlink()
    ref = Eyecandies(candy).refs[-1]
    assert (ref.label, ref.kind) == (None, "")


def test_the_lamp_that_most_parts_have_is_taken_the_lowest_of_equals(candy):
    assert Eyecandies(candy).lamp == 3
    for stem in ("10", "2"):
        put(candy / "train/data", stem, (1,))
    for folder, stem in (("val", "0"), ("test_public", "0"), ("test_public", "1")):
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(candy / folder / f"data/{stem}_image_1.png"), image)
    assert Eyecandies(candy).lamp == 1


def test_of_all_lamps_training_draws_one_and_the_test_takes_each(tmp_path):
    root = tmp_path / "Drop"
    for number in range(30):
        put(root / "train/data", str(number), range(6))
    put(root / "val/data", "0", range(6))
    put(root / "test_public/data", "0", range(6), defects=("dents",))
    put(root / "test_public/data", "1", (2, 4))
    refs = open_source(root, lamp="all").refs
    drawn = [ref.lamp for ref in refs if ref.split == "train"]
    assert len(drawn) == 30 and len(set(drawn)) > 3
    assert drawn == [ref.lamp for ref in open_source(root, lamp="all").refs if ref.split == "train"]
    assert len([ref for ref in refs if ref.split == "validation"]) == 1
    tested = [(Path(ref.source).name, ref.lamp, ref.kind) for ref in refs if ref.split == "test"]
    each = [(f"0_image_{lamp}.png", lamp, "dents") for lamp in range(6)]
    assert tested == [*each, ("1_image_2.png", 2, "good"), ("1_image_4.png", 4, "good")]
    assert len({ref.source for ref in refs}) == len(refs)


def test_a_sample_without_any_image_is_told_also_of_all_lamps(candy):
    (candy / "train/data/2_image_3.png").unlink()
    source = open_source(candy, lamp="all")
    assert [problem.left_out for problem in source.problems] == [True]
    assert "Sample 2 in" in str(source.problems[0])


def test_all_lamps_are_what_data_under_one_lamp_have(tmp_path):
    folder = tmp_path / "plain"
    (folder / "rgb").mkdir(parents=True)
    cv2.imwrite(str(folder / "rgb" / "0.png"), np.zeros((SIDE, SIDE, 3), np.uint8))
    assert len(open_source(folder, lamp="all").refs) == len(open_source(folder).refs) == 1


@pytest.mark.parametrize(("given", "status"), [("all", 0), ("3", 0), ("dim", 2)])
def test_the_command_line_takes_a_number_or_all(candy, given, status):
    result = CliRunner().invoke(app, ["data", "check", str(candy), "--lamp", given])
    assert result.exit_code == status, result.output
    assert status == 0 or "neither a number nor 'all'" in " ".join(result.output.split())


@pytest.mark.parametrize(("lamp", "parts"), [(1, 1), (3, 6), (5, 1)])
def test_any_lamp_can_be_chosen_and_gives_its_own_image(candy, lamp, parts):
    source = open_source(candy, lamp=lamp)
    assert isinstance(source, Eyecandies)
    assert len(source.refs) == parts and len(source.problems) == 6 - parts
    rgb = source.load(source.refs[0]).rgb
    np.testing.assert_allclose(rgb, np.full((SIDE, SIDE, 3), 10 * (lamp + 1) / 255), rtol=1e-6)
    assert {ref.lamp for ref in source.refs} == {lamp}


def test_a_lamp_that_is_nowhere_is_refused(candy):
    with pytest.raises(DataError, match=rf"{candy} has no image under lamp 4; .* 1, 3, 5"):
        Eyecandies(candy, lamp=4)


@pytest.mark.parametrize("words", [["--light", "5"], ["--light=5"]])
def test_the_earlier_option_is_read_with_a_remark(candy, words):
    check = ["data", "check", str(candy), "--json"]
    present = CliRunner().invoke(app, [*check, "--lamp", "5"])
    earlier = CliRunner().invoke(app, [*check, *words])
    assert json.loads(earlier.stdout)["problems"]  # five of six parts have no image under it
    assert (earlier.exit_code, earlier.stdout) == (present.exit_code, present.stdout)
    assert "'--light' is now called '--lamp'" in earlier.stderr and not present.stderr
    assert "--light" not in CliRunner().invoke(app, ["data", "check", "--help"]).stdout


@pytest.mark.parametrize("lost", ["image_3.png", "depth.png", "info_depth.yaml"])
def test_parts_that_lack_a_file_are_listed_and_left_out(candy, lost):
    (candy / f"train/data/2_{lost}").unlink()
    (candy / "train/data/2_mask.png").unlink()
    source = Eyecandies(candy)
    assert len(source.refs) == 5
    (problem,) = source.problems
    assert f"2_{lost}" in problem.sentence and str(candy / "train/data") in problem.sentence
    assert problem.source == str(candy / f"train/data/2_{lost}") and problem.left_out


def test_without_one_complete_part_the_folder_is_refused_by_name(tmp_path):
    put(tmp_path / "train/data", "0")
    (tmp_path / "train/data/0_depth.png").unlink()
    with pytest.raises(DataError, match=rf"{tmp_path} has no complete sample.*0_depth\.png"):
        Eyecandies(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["normalization: 3", "x: 1", "[", "- 1", "normalization: {min: a, max: 2}"]
    + [f"normalization: {{min: {a}, max: {b}}}" for a, b in ((".nan", 2), (1, ".inf"), (3, 2))]
    + ["normalization: {min: -1, max: 2}"],
)
def test_depth_bounds_that_are_no_range_are_refused(candy, text):
    (candy / "train/data/0_info_depth.yaml").write_text(text)
    source = Eyecandies(candy)
    with pytest.raises(DataError, match=r"train/data/0_info_depth\.yaml"):
        source.load(source.refs[0])


def test_metadata_without_a_label_is_listed(candy):
    (candy / "test_public/data/0_metadata.yaml").write_text("anomalous: maybe")
    source = Eyecandies(candy)
    assert len(source.refs) == 5
    assert source.problems[0].source.endswith("test_public/data/0_metadata.yaml")
    assert "0_metadata.yaml has no field 'anomalous'" in source.problems[0].sentence


def test_masks_that_contradict_the_metadata_are_refused(candy):
    data = candy / "test_public/data"
    put(data, "0", (3,), defects=("dents",))
    cv2.imwrite(str(data / "0_mask.png"), np.zeros((SIDE, SIDE), np.uint8))
    cv2.imwrite(str(candy / "train/data/0_mask.png"), np.ones((SIDE, SIDE), np.uint8))
    source = Eyecandies(candy)
    with pytest.raises(DataError, match=r"test_public/data/0_mask\.png is empty"):
        source.load(source.refs[4])
    with pytest.raises(DataError, match=r"train/data/0_mask\.png marks 16 defective pixels"):
        source.load(source.refs[0])


def test_colour_and_depth_of_different_size_are_refused(candy):
    cv2.imwrite(str(candy / "train/data/0_depth.png"), np.ones((SIDE, 9), np.uint16))
    source = Eyecandies(candy)
    with pytest.raises(DataError, match=r"rgb 4x4 .*0_image_3\.png.* xyz 4x9 .*0_depth\.png"):
        source.load(source.refs[0])


@pytest.mark.skipif("CHIASM_DATA" not in os.environ, reason="CHIASM_DATA, real data, is not set")
def test_candy_cane_opens():
    source = open_source(Path(os.environ["CHIASM_DATA"]) / "eyecandies/CandyCane")
    assert source.lamp == 4 and source.problems == ()
    assert [sum(r.split == s for r in source.refs) for s in ("train", "validation", "test")] == [
        100,
        50,
        25,
    ]
    ref = next(ref for ref in source.refs if ref.label == 1)
    sample = source.load(ref)
    assert sample.valid.all() and sample.mask.any() and sample.xyz.shape == (512, 512, 3)
    bounds = yaml.safe_load(ref.files["info_depth"].read_text())["normalization"]
    assert bounds["min"] - 1e-4 <= sample.xyz[..., 2].min()
    assert sample.xyz[..., 2].max() <= bounds["max"] + 1e-4
