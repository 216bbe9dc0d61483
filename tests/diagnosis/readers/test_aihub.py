"""The layout of AI-Hub 71682: triplets, groups, what leaks, and every kind of bad file."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from chiasm.diagnosis.readers.aihub import AiHub
from chiasm.errors import DataError

ROWS, COLUMNS = 20, 7680
RNG = np.random.default_rng(0)
COUNTS = RNG.integers(0, 256, (ROWS, COLUMNS))
TEXT = "".join(",".join(map(str, row)) + "\n" for row in COUNTS)
PIXELS = RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8)


def facts(kind=1, **changes) -> dict:
    """The JSON of a recording; ``changes`` are put wherever their key stands, None removes it."""
    metadata = {
        "equipment_information": {
            "insulator_type": "solid",
            "equipment_name": "ACSR-OC",
            "equipment_id": "E7",
            "equipment_rated_voltage": "22900V",
        },
        "environment": {
            "recording_time": "230910_195222",
            "recording_time_length": 20,
            "power_supply_frequency": "60Hz",
            "sensor_type": "HFCT",
        },
        "discharge_information": {"defect_nums": 1, "defect_details": "noise"},
        "discharge_evaluation_factors": {"max_discharge_value": 76},
    }
    content = {"label": {"PD_type": kind, "image_path": "a", "timeseries_path": "b"}}
    for section in metadata.values():
        for key in section.keys() & changes.keys():
            section[key] = changes[key]
            if changes[key] is None:
                del section[key]
    return content | {"metadata": metadata}


def write(
    root: Path, stem="noise_solid_ACSR-OC_1", folder="noise_solid", *, content=None, bom=True
) -> dict[str, Path]:
    source, label = root / "원천데이터" / f"VS_{folder}", root / "라벨링데이터" / f"VL_{folder}"
    source.mkdir(parents=True, exist_ok=True)
    label.mkdir(parents=True, exist_ok=True)
    paths = {
        "image": source / f"{stem}.png",
        "series": source / f"{stem}.csv",
        "label": label / f"{stem}.json",
    }
    paths["image"].write_bytes(cv2.imencode(".png", PIXELS[..., ::-1])[1].tobytes())
    paths["series"].write_text(TEXT)
    text = json.dumps(content or facts(), ensure_ascii=False)
    paths["label"].write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    return paths


@pytest.mark.parametrize("bom", [True, False])
def test_a_triplet_becomes_a_recording(tmp_path, bom):
    paths = write(tmp_path, content=facts(3), bom=bom)
    source = AiHub(tmp_path)
    assert source.problems == () and AiHub.recognises(tmp_path) and source.kinds[3] == "corona"
    (ref,) = source.refs
    sample = source.load(ref)
    np.testing.assert_array_equal(sample.series, COUNTS.reshape(1, -1))
    assert sample.series.dtype == np.float32 and sample.series.shape == (1, 153_600)
    np.testing.assert_array_equal(sample.image, PIXELS / np.float32(255))
    assert (sample.label, sample.kind, sample.split) == (3, "corona", "")
    assert (sample.frequency, sample.samples_per_cycle) == (60, 128)
    assert sample.group == {"session": "E7_230910", "equipment": "ACSR-OC", "insulator": "solid"}
    assert sample.source == str(paths["image"])


def test_nothing_that_leaks_the_class_reaches_the_sample(tmp_path):
    write(tmp_path / "a", content=facts(2))
    leaks = {"defect_nums": 4, "defect_details": "void", "max_discharge_value": 3}
    content = facts(2, **leaks, equipment_rated_voltage="1V", sensor_type="UHF")
    content["label"] |= {"image_path": "VS_void/void.png", "timeseries_path": "VS_void/void.csv"}
    assert content != facts(2)
    write(tmp_path / "b", "void_liquid_GIS_9", "void_liquid", content=content)
    one, other = (source.load(source.refs[0]) for source in map(AiHub, tmp_path.glob("?")))
    assert one.source != other.source
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.series, other.series)
    for field in ("frequency", "samples_per_cycle", "label", "kind", "group", "split"):
        assert getattr(one, field) == getattr(other, field)
    assert set(one.group) == {"session", "equipment", "insulator"}


def test_files_are_paired_by_stem_wherever_they_lie(tmp_path):
    hangul = "노이즈_고체_1"
    paths = write(tmp_path, unicodedata.normalize("NFC", hangul), "노이즈", content=facts(1))
    far = tmp_path / "c" / "VL_x" / "deep"
    far.mkdir(parents=True)
    shutil.move(paths["label"], far / f"{unicodedata.normalize('NFD', hangul)}.json")
    write(tmp_path, "b", content=facts(0))
    (tmp_path / "readme.csv").write_text("not, a, recording")
    source = AiHub(tmp_path)
    assert [ref.label for ref in source.refs] == [0, 1] and source.problems == ()


@pytest.mark.parametrize(
    ("changes", "session", "note"),
    [
        ({}, "E7_230910", ""),
        ({"equipment_id": None}, "230910_19", "no equipment_id"),
        ({"recording_time": None}, "E7", "no recording_time"),
        ({"recording_time": None, "equipment_id": ""}, None, "no group 'session'"),
    ],
)
def test_session_is_equipment_and_day(tmp_path, changes, session, note):
    write(tmp_path, content=facts(**changes))
    source = AiHub(tmp_path)
    assert source.refs[0].group.get("session") == session
    assert note in " ".join(map(str, source.problems)) and bool(note) == bool(source.problems)
    assert not any(problem.left_out for problem in source.problems)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (facts(5), "PD_type 5; 0 normal"),
        (facts("2.0"), "PD_type '2.0'"),
        (facts(True), "PD_type True"),
        ({"metadata": {}}, "PD_type None"),
        (facts(power_supply_frequency="50Hz"), "no multiple of the mains frequency, 50 Hz"),
        (facts(power_supply_frequency="fast"), "power_supply_frequency 'fast'"),
    ],
)
def test_recordings_that_cannot_be_understood_are_left_out_and_told(tmp_path, content, sentence):
    write(tmp_path, "good")
    write(tmp_path, "odd", content=content)
    source = AiHub(tmp_path)
    assert [Path(ref.source).stem for ref in source.refs] == ["good"]
    assert len(source.problems) == 1
    assert sentence in str(source.problems[0]) and "odd" in source.problems[0].source
    assert source.problems[0].left_out


@pytest.mark.parametrize("role", ["image", "series", "label"])
def test_a_missing_member_is_told(tmp_path, role):
    write(tmp_path, "good")
    path = write(tmp_path, "lone")[role]
    path.unlink()
    source = AiHub(tmp_path)
    assert len(source.refs) == 1 and f"no partner {path.name}" in str(source.problems[0])
    assert source.problems[0].left_out
    write(tmp_path / "alone")[role].unlink()
    with pytest.raises(DataError, match="no complete recording"):
        AiHub(tmp_path / "alone")


def test_a_stem_with_two_labels_is_left_out_and_a_repeated_one_is_counted(tmp_path):
    write(tmp_path, "good")
    paths = write(tmp_path, "twice", content=facts(1))
    other = tmp_path / "VL_other"
    other.mkdir()
    shutil.copy(paths["label"], other)
    source = AiHub(tmp_path)
    assert len(source.refs) == 2 and "is ignored" in str(source.problems[0])
    (other / "twice.json").write_text(json.dumps(facts(4)))
    source = AiHub(tmp_path)
    assert len(source.refs) == 1
    assert "says PD_type 4" in str(source.problems[0]) and "says 1: one" in str(source.problems[0])
    (other / "twice.json").write_text(json.dumps(facts(1, equipment_id="E8")))
    assert "different equipment" in str(AiHub(tmp_path).problems[0])
    (other / "twice.json").write_text("{")
    assert "cannot be read as UTF-8 JSON" in str(AiHub(tmp_path).problems[0])
    (other / "twice.json").unlink()
    (tmp_path / "VS_other").mkdir()
    (tmp_path / "VS_other" / "twice.csv").write_text("1,2")
    assert "different contents" in str(AiHub(tmp_path).problems[0])


def edited(row: int, column: int, cell: str) -> str:
    lines = [line.split(",") for line in TEXT.splitlines()]
    lines[row - 1][column - 1] = cell
    return "\n".join(",".join(cells) for cells in lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TEXT + "1,2\n", "row 21 has 2 cells"),
        (TEXT + TEXT.splitlines()[0], "has 21 rows; 20"),
        ("\n".join(TEXT.splitlines()[:19]), "has 19 rows; 20"),
        (TEXT.replace("\n", ",7\n", 1), "row 1 has 7681 cells; 7680"),
        (TEXT.replace("\n", "\n\n", 1), "row 2 has 0 cells"),
        (edited(3, 5, ""), "row 3, column 5 is empty"),
        (edited(20, 7680, ""), "row 20, column 7680 is empty"),
        (edited(1, 1, ""), "row 1, column 1 is empty"),
        (edited(4, 6, "1.5"), "row 4, column 6 holds '1.5'; a whole number"),
        (edited(4, 6, "1e2"), "row 4, column 6 holds '1e2'"),
        (edited(4, 6, "nan"), "row 4, column 6 holds 'nan'"),
        (edited(4, 6, "1 2"), "row 4, column 6 holds '1 2'"),
        (edited(4, 6, "9" * 30), "row 4, column 6 holds 999"),
        (edited(4, 6, "16777217"), "row 4, column 6 holds 16777217"),
        ("", "is empty"),
    ],
)
def test_faults_of_a_table_name_file_and_row(tmp_path, text, sentence):
    paths = write(tmp_path)
    paths["series"].write_text(text)
    source = AiHub(tmp_path)
    with pytest.raises(DataError) as caught:
        source.load(source.refs[0])
    assert sentence in str(caught.value) and str(paths["series"]) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [(edited(2, 1, "-3"), -3), (edited(2, 1, " 77 "), 77), (None, None)]
)
def test_signs_blanks_marks_and_line_ends_are_read(tmp_path, text, value):
    paths = write(tmp_path)
    if text is None:
        paths["series"].write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
        value = COUNTS[1, 0]
    else:
        paths["series"].write_text(text)
    source = AiHub(tmp_path)
    expected = COUNTS.copy()
    expected[1, 0] = value
    np.testing.assert_array_equal(source.load(source.refs[0]).series, expected.reshape(1, -1))


def test_other_images_are_repaired_and_counted_once(tmp_path):
    path = write(tmp_path)["image"]
    source = AiHub(tmp_path)
    (ref,) = source.refs
    path.write_bytes(cv2.imencode(".png", PIXELS[..., 0])[1].tobytes())
    for _ in range(2):
        image = source.load(ref).image
    np.testing.assert_array_equal(image, np.repeat(PIXELS[..., :1], 3, 2) / np.float32(255))
    assert len(source.problems) == 1 and "grey-scale" in str(source.problems[0])
    large = PIXELS.repeat(2, 0).repeat(2, 1)
    path.write_bytes(cv2.imencode(".png", large[..., ::-1])[1].tobytes())
    np.testing.assert_allclose(source.load(ref).image, PIXELS / 255, atol=1e-6)
    assert source.problems == source.repairs(ref)
    assert "512 x 512 pixels; it was resized to 256 x 256" in str(source.problems[0])
    white = np.full((256, 256, 3), 255, np.uint8)
    path.write_bytes(cv2.imencode(".png", white)[1].tobytes())
    assert source.load(ref).image.min() == 1 and source.problems == ()
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        source.load(ref)
