"""Files of verdicts: names that do not collide, maps, masks and COCO that say the same."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile

from chiasm.detection.prediction.outcomes import COLUMNS, flat_row, row_of, write_meanings
from chiasm.detection.prediction.part_files import (
    PartFiles,
    file_stem,
    run_lengths,
    write_coco,
)
from chiasm.samples import AnomalyMap, Region, Verdict

NAME = file_stem("a/000.png")


def verdict(source: str = "a/000.png") -> Verdict:
    scores = np.zeros((12, 20), np.float32)
    scores[2:5, 3:9], scores[8:10, 1:4] = 7.5, 6.0
    regions = (Region((3, 2, 6, 3), (5.5, 3.0), 18, 7.5, (1.0, 2.0, 500.0), 3.5, 1.0, -0.25),)
    regions += (Region((1, 8, 3, 2), (2.0, 8.5), 6, 6.0),)
    found = AnomalyMap(scores, np.ones((12, 20), bool), 8.0, source)
    return Verdict(source, 8.0, 0.02, True, found, regions=regions, pixel_threshold=5.0)


def decoded(runs: dict) -> np.ndarray:
    """An independent decoder: column by column, alternately outside and inside."""
    height, width = runs["size"]
    flat: list[bool] = []
    for number, count in enumerate(runs["counts"]):
        flat += [number % 2 == 1] * count
    assert len(flat) == height * width
    return np.array([[flat[x * height + y] for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_run_length_code_is_decoded_to_its_mask(share: float):
    mask = np.random.default_rng(1).random((7, 11)) < share
    assert (decoded(run_lengths(mask)) == mask).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cut/rgb/000.png", "good/rgb/000.png"),
        ("a/part.png", "a/part.tiff"),
        ("x" * 300 + "1.png", "x" * 300 + "2.png"),
        ("teil:1.png", "teil?1.png"),
        ("größe/Teil.png", "grosse/Teil.png"),
    ],
)
def test_names_of_files_never_collide_and_fit_a_disk(one: str, other: str):
    assert file_stem(one) != file_stem(other)
    for name in (file_stem(one), file_stem(other)):
        assert len(f"{name}.tiff".encode()) <= 255 and not set(name) & set('/\\:?*"<>|')
    assert file_stem(one) == file_stem(one)


def test_parts_of_one_picture_and_other_points_have_files_of_their_own():
    names = {file_stem("a.png", files) for files in ((), ("a.png", "1.tiff"), ("a.png", "2.tiff"))}
    assert len(names) == 3
    assert file_stem("a.png", ["a.png"]) == file_stem("a.png")


def test_a_long_name_of_a_part_is_not_cut_to_pieces():
    assert file_stem("new/gland_2026-11-30_camera3_0001.png").startswith(
        "gland_2026-11-30_camera3_0001-"
    )


def test_maps_masks_and_coco_say_the_same(tmp_path):
    rows = []
    for maps in ("npy", "tiff"):
        files = PartFiles(tmp_path, maps=maps, masks=True, coco=True)
        rows.append(files.write_row(verdict(), row_of(verdict()), name=NAME))
    assert (np.load(tmp_path / rows[0]["map"]) == verdict().anomaly_map.scores).all()
    assert (tifffile.imread(tmp_path / rows[1]["map"]) == verdict().anomaly_map.scores).all()
    mask = cv2.imread(str(tmp_path / rows[0]["mask"]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 255}
    failed = row_of(Verdict("b.png", float("nan"), float("nan"), None, error="It is empty."))
    write_coco([rows[0], failed, {**rows[0], "source": "c.png"}], tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a/000.png", "c.png"]
    union = np.zeros(mask.shape, bool)
    for number, note in enumerate(coco["annotations"][:2]):
        inside = decoded(note["segmentation"])
        assert inside.sum() == note["area"] and note["image_id"] == 1
        left, top, width, height = note["bbox"]
        assert inside[top : top + height, left : left + width].sum() == note["area"]
        assert note["score"] == verdict().regions[number].peak
        union |= inside
    assert (union == (mask > 0)).all()
    assert len({note["id"] for note in coco["annotations"]}) == 4
    assert not list(tmp_path.glob("**/.*"))


def test_no_part_at_all_is_still_a_coco_file(tmp_path):
    write_coco([], tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert coco["images"] == [] and coco["annotations"] == []


def test_nothing_is_written_that_was_not_asked_for(tmp_path):
    row = PartFiles(tmp_path).write_row(verdict(), row_of(verdict()), name=NAME)
    assert row == row_of(verdict()) and not list(tmp_path.iterdir())


def test_a_row_has_the_columns_of_its_table_and_each_is_explained(tmp_path):
    assert list(row_of(verdict())) == list(COLUMNS)
    flat = flat_row(row_of(verdict()))
    assert flat["regions"] == 2 and flat["area_mm2"] == 3.5 and flat["x"] == 5.5
    write_meanings(tmp_path)
    text = (tmp_path / "columns.md").read_text()
    assert [name for name in flat if f"`{name}`" not in text] == []
