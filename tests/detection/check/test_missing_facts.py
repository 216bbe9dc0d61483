"""All that a conversion needs is asked at once, with the command to repeat."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from chiasm.detection.check.missing_facts import (
    convert_command,
    missing_facts,
    missing_facts_error,
    survey_sensor_files,
    with_answers,
)
from chiasm.errors import DataError

CAMERA = {"fx": 400.0, "fy": 400.0, "ppx": 160.0, "ppy": 120.0}


def folder(tmp_path: Path, name: str, values: np.ndarray, *, below: str = "") -> Path:
    path = tmp_path / below / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        cv2.imencode(".png", values)[1].tofile(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        tifffile.imwrite(path, values)
    return tmp_path


def asked(origin: Path, **given: object) -> dict[str, str]:
    return {fact.name: fact.guess for fact in missing_facts(survey_sensor_files(origin), given)}


def test_counts_of_a_depth_camera_need_unit_and_intrinsics_asked_at_once(tmp_path: Path):
    origin = folder(tmp_path, "depth/0.png", np.full((8, 9), 612, np.uint16))
    assert asked(origin) == {"intrinsics": "", "unit": "0.001"}
    assert asked(origin, unit=0.001, pitch=1e-4) == {}


def test_a_file_of_intrinsics_beside_the_images_is_proposed(tmp_path: Path):
    (tmp_path / "notes.json").write_text('{"date": 1}')
    (tmp_path / "realsense.json").write_text(json.dumps(CAMERA))
    origin = folder(tmp_path, "depth/0.tiff", np.full((8, 9), 0.6, np.float32))
    assert asked(origin) == {"intrinsics": str(tmp_path / "realsense.json")}


@pytest.mark.parametrize(
    ("distance", "guess"), [(612, "0.001"), (6120, ""), (61200, ""), (0.6, None)]
)
def test_points_far_away_need_a_unit(tmp_path: Path, distance: float, guess: str | None):
    origin = folder(tmp_path, "xyz/0.npy", np.full((8, 9, 3), distance, np.float32))
    assert asked(origin).get("unit") == guess


def test_the_marker_of_missing_counts_does_not_enter_the_guess(tmp_path: Path):
    counts = np.full((8, 9), 65535, np.uint16)
    counts[:2] = 700
    assert asked(folder(tmp_path, "depth/0.png", counts))["unit"] == "0.001"


def test_clouds_and_damaged_files_raise_no_question(tmp_path: Path):
    (tmp_path / "ply").mkdir()
    (tmp_path / "ply/0.ply").write_bytes(b"ply")
    assert asked(tmp_path) == {}
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth/0.png").write_bytes(b"nothing")
    assert asked(tmp_path) == {}
    assert asked(tmp_path / "absent") == {}


def test_parts_of_unknown_quality_need_no_kind_and_test_parts_do(tmp_path: Path):
    origin = folder(tmp_path, "xyz/0.npy", np.full((8, 9, 3), 0.6, np.float32))
    assert asked(origin) == {} and asked(origin, split="train") == {}
    assert asked(origin, split="test") == {"kind": ""}
    assert asked(origin, split="test", kind="good") == {}


def test_files_below_split_and_kind_are_found(tmp_path: Path):
    depth = np.full((8, 9), 612, np.uint16)
    origin = folder(tmp_path, "depth/0.png", depth, below="train/good")
    assert set(asked(origin, split="test")) == {"intrinsics", "unit"}


def test_the_error_names_everything_with_a_command_to_complete(tmp_path: Path):
    origin = folder(tmp_path, "depth/0.png", np.full((8, 9), 612, np.uint16))
    given = {"split": "train", "missing": (0.0, 65535.0), "unit": None}
    facts = missing_facts(survey_sensor_files(origin), given)
    message = str(missing_facts_error(facts, origin, Path("my parts"), given))
    assert "2 facts are needed" in message and "--pitch" in message
    assert message.endswith(
        f"chiasm data convert {origin} 'my parts' --split train --missing 0 --missing 65535 "
        "--intrinsics FILE --unit 0.001"
    )


def test_flags_and_numbers_stand_in_the_command():
    given = {"strict": True, "up": False, "pitch_y": 0.00025, "kind": None}
    assert convert_command("a", "b", given) == (
        "chiasm data convert a b --strict --pitch-y 0.00025"
    )


def test_a_camera_file_that_names_the_unit_leaves_no_question_of_it(tmp_path: Path):
    origin = folder(tmp_path, "depth/0.png", np.full((8, 9), 612, np.uint16))
    camera = tmp_path / "camera.json"
    camera.write_text(json.dumps(CAMERA | {"depth_scale": 0.001}))
    assert asked(origin) == {"intrinsics": str(camera)}
    assert asked(origin, intrinsics=camera) == {}


def test_answers_become_values_and_a_number_for_intrinsics_is_a_pitch():
    answers = {"intrinsics": "0.0001", "unit": "1e-5", "kind": "good"}
    assert with_answers({"kind": None, "lamp": 2}, answers) == {
        "kind": "good",
        "lamp": 2,
        "pitch": 1e-4,
        "unit": 1e-5,
    }
    assert with_answers({}, {"intrinsics": "k.json"}) == {"intrinsics": Path("k.json")}
    with pytest.raises(DataError, match="metres"):
        with_answers({}, {"unit": "mm"})


def test_negative_counts_are_heights_and_need_a_pitch_whatever_camera_lies_beside(tmp_path: Path):
    (tmp_path / "k.json").write_text(json.dumps(CAMERA))
    heights = np.full((8, 9), 700, np.int16)
    heights[:2], heights[2] = -32768, -40
    origin = folder(tmp_path, "depth/0.tiff", heights)
    (pitch, unit) = missing_facts(survey_sensor_files(origin), {})
    assert (pitch.option, pitch.guess) == ("--pitch METRES", "")
    assert unit.name == "unit"
