"""Several parts in a frame, regions, cut parts, empty belts and wrong intrinsics."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.detection.decision import AlarmRule, failed_verdict, frame_verdict
from chiasm.detection.preparation.acquisition import (
    AcquisitionObserver,
    extent_of,
    prepare_as_trained,
)
from chiasm.detection.preparation.background import BackgroundColours, BackgroundSurvey
from chiasm.detection.preparation.clusters import in_reading_order, objects_in
from chiasm.detection.preparation.distance import distance_range
from chiasm.detection.preparation.frame_mask import FrameMask, read_frame_mask
from chiasm.detection.preparation.prepare import (
    PreparationSettings,
    count_objects,
    part_mask,
    prepare,
    prepare_objects,
    settings_from_json,
)
from chiasm.detection.preparation.surface import largest_cluster
from chiasm.errors import DataError
from chiasm.samples import RGBDSample, Verdict

HEIGHT, WIDTH, FOCAL = 120, 160, 200.0
SETTINGS = PreparationSettings(size=64, told_by="points", crop_fraction=0.5)
ONE = ((40, 60, 30, 40),)  # top, left, height, width
FOUR = ((10, 10, 30, 40), (10, 90, 30, 40), (70, 12, 30, 40), (70, 92, 26, 40))


def frame(boxes=ONE, *, focal: float = FOCAL, distance: float = 0.6, seed: int = 0) -> RGBDSample:
    """Blocks of 30 mm on a plane."""
    noise = np.random.default_rng(seed).normal(0, 1e-4, (HEIGHT, WIDTH))
    z = np.full((HEIGHT, WIDTH), distance) + noise
    for top, left, height, width in boxes:
        z[top : top + height, left : left + width] -= 0.03
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    xyz = np.stack(
        [(columns - WIDTH / 2) / focal * z, (rows - HEIGHT / 2) / focal * z, z], axis=2
    ).astype(np.float32)
    rgb = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
    return RGBDSample(rgb, xyz, np.ones((HEIGHT, WIDTH), bool), source="frame.png")


@pytest.fixture(scope="module")
def trained():
    observer = AcquisitionObserver()
    parts = list(observer.watch(prepare(frame(seed=seed), SETTINGS) for seed in range(3)))
    return observer.acquisition(), distance_range(parts)


def as_trained(sample: RGBDSample, trained, settings=SETTINGS):
    return prepare_as_trained(sample, settings, trained[0], distance=trained[1])


@pytest.mark.parametrize("seed", range(8))
def test_the_first_object_is_the_largest_cluster(seed):
    points = np.random.default_rng(seed).random((60, 80))
    mask = cv2.GaussianBlur(points, (0, 0), 2) > 0.5
    first = objects_in(mask, closing=1)[0].in_frame(mask.shape)
    assert np.array_equal(first, largest_cluster(mask, closing=1))


def test_other_parts_are_told_where_nothing_looks_at_them(trained):
    (part,) = as_trained(frame(FOUR), trained)
    (note,) = (note for note in part.notes if "more objects" in note)
    assert "3 more objects" in note
    assert "right of it" in note and "below it" in note
    (alone,) = as_trained(frame(), trained)
    assert alone.notes == ()


def test_all_parts_are_looked_at_together():
    union = part_mask(frame(FOUR), replace(SETTINGS, objects="all"))
    largest = part_mask(frame(FOUR), SETTINGS)
    assert union.sum() > 3.5 * largest.sum()
    assert (union & largest).sum() == largest.sum()


def test_each_part_of_a_split_frame_is_prepared_as_if_it_were_alone():
    split = replace(SETTINGS, objects="split")
    parts = prepare_objects(frame(FOUR), split)
    assert [part.source for part in parts] == [f"frame.png#{n}" for n in (1, 2, 3, 4)]
    assert count_objects(frame(FOUR), split) == 4
    for number, (part, box) in enumerate(zip(parts, FOUR), 1):
        alone = prepare(frame((box,)), SETTINGS)
        assert part.box == alone.box
        assert np.array_equal(part.foreground, alone.foreground)
        again = prepare(frame(FOUR), split, part=number)
        assert np.array_equal(again.xyz, part.xyz)
    with pytest.raises(DataError, match="4 objects, and number 5"):
        prepare(frame(FOUR), split, part=5)


def test_objects_are_numbered_row_by_row():
    mask = part_mask(frame(FOUR), replace(SETTINGS, objects="all"))
    order = in_reading_order(objects_in(mask, closing=1)[::-1])
    assert [(c.top > 50, c.left > 50) for c in order] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]


def test_a_frame_is_as_its_worst_part():
    def verdict(number: int, score: float, defective: bool | None) -> Verdict:
        return Verdict(f"f#{number}", score, 1 / score, defective, notes=("same",))

    parts = [verdict(1, 1.0, False), verdict(2, 5.0, True), verdict(3, 2.0, False)]
    whole = frame_verdict(parts, source="f")
    assert (whole.score, whole.defective, whole.source) == (5.0, True, "f")
    assert "#2 defective" in whole.notes[0]
    assert whole.notes.count("same") == 1
    assert whole.parts == tuple(parts)
    failed = failed_verdict("f#4", DataError("cut"))
    assert frame_verdict([parts[0], failed], source="f").defective is None  # never good
    assert frame_verdict([parts[1], failed], source="f").defective is True
    assert frame_verdict([failed], source="f").error == "cut"
    assert AlarmRule((), float("nan"), None).undecided.startswith("Undecided")


def test_a_cut_part_is_told_by_the_word(trained):
    (part,) = as_trained(frame(((40, 128, 30, 32),)), trained)
    assert any("cut off by the frame's border" in note for note in part.notes)


@pytest.mark.parametrize("boxes", [(), ((50, 70, 5, 6),)], ids=["empty", "crumb"])
def test_an_empty_belt_is_told_by_the_word(boxes, trained):
    with pytest.raises(DataError, match="belt empty"):
        as_trained(frame(boxes), trained)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_intrinsics_that_are_a_fifth_off_are_noted(factor, trained):
    (part,) = as_trained(frame(focal=FOCAL * factor), trained)
    assert any("intrinsics" in note for note in part.notes)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_intrinsics_that_are_off_by_two_are_refused(factor, trained):
    with pytest.raises(DataError, match="intrinsics"):
        as_trained(frame(focal=FOCAL * factor), trained)


def test_models_without_a_recorded_extent_refuse_nothing(trained):
    old = replace(trained[0], extent=None, cut=None)
    (part,) = as_trained(frame(focal=FOCAL * 2), (old, trained[1]))
    assert not any("intrinsics" in note or "border" in note for note in part.notes)


def test_the_extent_hardly_depends_on_missing_points():
    sample = frame()
    some = np.random.default_rng(0).random(sample.valid.shape) < 0.7
    fewer = replace(sample, valid=some, xyz=sample.xyz * some[..., None])
    whole, less = (extent_of(prepare(each, SETTINGS)) for each in (sample, fewer))
    assert less == pytest.approx(whole, rel=0.1)


def region_of(box) -> FrameMask:
    top, left, height, width = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top - 4 : top + height + 4, left - 4 : left + width + 4] = True
    return FrameMask.of(mask)


def test_a_region_chooses_the_part_and_is_kept_as_data():
    for box in FOUR:
        settings = replace(SETTINGS, region=region_of(box))
        part = prepare(frame(FOUR), settings)
        assert np.array_equal(part.foreground, prepare(frame((box,)), SETTINGS).foreground)
        assert part.notes == ()
        assert settings_from_json(json.loads(json.dumps(asdict(settings)))) == settings
    with pytest.raises(DataError, match="where it is looked"):
        prepare(frame(FOUR[:1]), replace(SETTINGS, region=region_of(FOUR[3])))


def test_ignored_pixels_are_never_looked_at():
    ignore = region_of((40, 60, 10, 10))
    mask = part_mask(frame(), replace(SETTINGS, ignore=ignore))
    seen = ignore.at(HEIGHT, WIDTH, name="")
    assert not (mask & seen).any()
    assert np.array_equal(
        mask | (part_mask(frame(), SETTINGS) & seen), part_mask(frame(), SETTINGS)
    )
    # A clamp that is larger than the part is not taken for it.
    clamp = (10, 10, 60, 45)
    both = frame((clamp, (85, 100, 25, 30)))
    chosen = part_mask(both, replace(SETTINGS, ignore=region_of(clamp)))
    assert chosen[95, 115] and not chosen[30, 30]
    whole = replace(SETTINGS, remove_background=False, ignore=ignore)
    assert np.array_equal(part_mask(frame(), whole), ~seen)


def test_a_region_scales_with_the_frame_but_not_to_another_aspect():
    mask = region_of(ONE[0])
    assert mask.at(2 * HEIGHT, 2 * WIDTH, name="x").mean() == pytest.approx(
        mask.at(HEIGHT, WIDTH, name="x").mean()
    )
    with pytest.raises(DataError, match="drawn for frames of 160 x 120"):
        mask.at(HEIGHT, HEIGHT, name="x")


SQUARE = [[10, 20], [50, 20], [50, 60], [10, 60]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(SQUARE)),
        ("b.json", json.dumps([SQUARE])),
        ("c.json", json.dumps({"shapes": [{"label": "part", "points": SQUARE}]})),
        ("d.csv", "x,y\n" + "\n".join(f"{x},{y}" for x, y in SQUARE)),
        ("e.txt", "\n".join(f"{x} {y}" for x, y in SQUARE) + "\n"),
    ],
)
def test_polygons_are_read_in_their_notations(name, content, tmp_path: Path):
    path = tmp_path / name
    path.write_text(content)
    mask = read_frame_mask(path, height=HEIGHT, width=WIDTH).at(HEIGHT, WIDTH, name="")
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[20:61, 10:51] = True
    assert np.array_equal(mask, expected)


def test_an_image_is_a_region(tmp_path: Path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:61, 10:51] = 1  # not only 255
    cv2.imwrite(str(tmp_path / "r.png"), mask)
    found = read_frame_mask(tmp_path / "r.png", height=HEIGHT, width=WIDTH)
    assert np.array_equal(found.at(HEIGHT, WIDTH, name=""), mask > 0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "cannot be read as polygons"),
        ("a.json", "[[1, 2], [3, 4]]", "three are needed"),
        ("a.json", json.dumps([[0, 0], [900, 0], [0, 900]]), "beyond the frame"),
        ("a.csv", "x,y\n1,2,3\n", "cannot be read as polygons"),
        ("a.png", "no image", "cannot be read"),
        ("b.png", None, "is no file"),
    ],
)
def test_a_region_that_cannot_be_meant_is_refused(name, content, words, tmp_path: Path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        read_frame_mask(tmp_path / name, height=HEIGHT, width=WIDTH)


def tray(boxes, *, seed: int = 0) -> RGBDSample:
    """Plates on a tray of one colour, without 3D points."""
    noise = np.random.default_rng(seed).normal(0, 0.004, (HEIGHT, WIDTH, 3))
    rgb = np.full((HEIGHT, WIDTH, 3), 0.2) + noise
    for top, left, height, width in boxes:
        rgb[top : top + height, left : left + width] += (0.4, 0.3, 0.1)
    return RGBDSample(
        rgb.clip(0, 1).astype(np.float32), None, np.ones((HEIGHT, WIDTH), bool), source="tray.png"
    )


COLOURS = BackgroundColours((0.2, 0.2, 0.2), (0.024, 0.024, 0.024), (0.05, 0.09))


@pytest.mark.parametrize("background", [None, COLOURS], ids=["border", "background"])
def test_several_plates_are_told_by_colour_as_well(background):
    told = "border" if background is None else "colours"
    settings = PreparationSettings(size=64, told_by=told, background=background, crop_fraction=0.5)
    (note,) = prepare(tray(FOUR), settings).notes
    assert "3 more objects" in note
    alone = prepare(tray(FOUR[:1]), settings)
    assert alone.notes == ()
    parts = prepare_objects(tray(FOUR), replace(settings, objects="split"))
    assert [part.source for part in parts] == [f"tray.png#{n}" for n in (1, 2, 3, 4)]
    assert np.array_equal(parts[0].foreground, alone.foreground)
    union = part_mask(tray(FOUR), replace(settings, objects="all"))
    assert union.sum() > 3.5 * part_mask(tray(FOUR), settings).sum()
    for box in FOUR:
        chosen = part_mask(tray(FOUR), replace(settings, region=region_of(box)))
        top, left, height, width = box
        assert chosen[top + height // 2, left + width // 2]
        assert chosen.sum() < 2 * height * width


def test_a_background_behind_several_plates_is_one():
    frames = BackgroundSurvey(several=True)
    for seed in range(4):
        shifted = [(top + seed, left - seed, *size) for top, left, *size in FOUR]
        frames.add(tray(shifted, seed=seed))
    background, reason = frames.decide()
    assert background is not None, reason
    assert np.allclose(background.colour, 0.2, atol=0.02)
