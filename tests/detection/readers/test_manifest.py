"""Tables of samples: CSV and Parquet, depth with a camera, rows of one sensor."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from chiasm.detection.readers.manifest import Manifest
from chiasm.detection.readers.opening import open_source
from chiasm.diagnosis.readers.opening import is_diagnosis_data
from chiasm.errors import DataError
from chiasm.files.images import write_mask, write_rgb, write_xyz

SIZE = (4, 5)
CAMERA = {"fx": 20, "fy": 10, "cx": 2, "cy": 1.5}


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write_rgb(tmp_path / f"{name}.png", rng.random((*SIZE, 3), dtype=np.float32))
    write_xyz(tmp_path / "a.tiff", rng.uniform(0.2, 0.4, (*SIZE, 3)))
    mask = np.zeros(SIZE, bool)
    mask[1, 3] = True
    write_mask(tmp_path / "cut.png", mask)
    write_mask(tmp_path / "none.png", np.zeros(SIZE, bool))
    counts = np.arange(20, dtype=np.uint16).reshape(SIZE) * 100
    cv2.imwrite(str(tmp_path / "depth.png"), counts)
    (tmp_path / "camera.json").write_text(json.dumps(CAMERA))
    return tmp_path


def table(folder: Path, rows: list[dict], suffix: str = ".csv") -> Path:
    path = folder / f"parts{suffix}"
    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_columns_are_understood(folder, suffix):
    rows = [
        {"rgb": "a.png", "xyz": "a.tiff", "mask": "cut.png", "label": 1, "kind": "cut"},
        {"rgb": "b.png", "label": 0, "split": "val", "group": "monday", "lamp": 2},
        {"rgb": str(folder / "c.png"), "lot": "L7"},
    ]
    source = open_source(table(folder, rows, suffix))
    assert isinstance(source, Manifest) and source.name == "parts" and source.problems == ()
    facts = [(r.label, r.kind, r.split, r.group, r.lamp, dict(r.extra)) for r in source.refs]
    assert facts == [
        (1, "cut", "", "", None, {}),
        (0, "good", "validation", "monday", 2, {}),
        (None, "", "", "", None, {"lot": "L7"}),
    ]
    assert np.argwhere(source.load(source.refs[0]).mask).tolist() == [[1, 3]]
    assert not source.load(source.refs[1]).mask.any()
    assert source.load(source.refs[2]).mask is None


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("camera", [CAMERA, {"intrinsics": "camera.json"}])
def test_depth_with_unit_and_camera_becomes_metres(folder, suffix, camera):
    row = {"rgb": "a.png", "depth": "depth.png", "depth_unit": 0.001, **camera}
    source = Manifest(table(folder, [row], suffix))
    sample = source.load(source.refs[0])
    z = np.arange(20).reshape(SIZE) * 0.1
    np.testing.assert_allclose(sample.xyz[..., 2], z, rtol=1e-6)
    np.testing.assert_allclose(sample.xyz[..., 0], (np.arange(5) - 2) / 20 * z, atol=1e-6)
    np.testing.assert_allclose(
        sample.xyz[..., 1], (np.arange(4)[:, None] - 1.5) / 10 * z, atol=1e-6
    )
    np.testing.assert_array_equal(sample.valid, z > 0)


def test_rows_of_one_sensor_are_legal(folder):
    rows = [
        {"rgb": "a.png"},
        {"xyz": "a.tiff"},
        {"depth": "depth.png", "depth_unit": 0.001, **CAMERA},
    ]
    source = Manifest(table(folder, rows))
    colour, points, depth = (source.load(ref) for ref in source.refs)
    assert colour.xyz is None and colour.valid.all() and colour.rgb.shape == (*SIZE, 3)
    assert points.rgb is None and points.source == str(folder / "a.tiff")
    assert depth.rgb is None and depth.xyz[3, 4, 2] == pytest.approx(1.9)


def test_label_and_kind_follow_from_each_other(folder):
    rows = [{"rgb": "a.png", "kind": "dent"}, {"rgb": "b.png", "label": 1}]
    rows.append({"rgb": "c.png", "kind": "good"})
    facts = [(ref.label, ref.kind) for ref in Manifest(table(folder, rows)).refs]
    assert facts == [(1, "dent"), (1, "defect"), (0, "good")]


@pytest.mark.parametrize("column", ["lamp", "light"])  # the present and the earlier name
def test_a_lamp_keeps_its_rows(folder, column):
    path = table(folder, [{"rgb": "a.png", column: 1}, {"rgb": "b.png", column: 4}])
    assert [dict(ref.extra) for ref in Manifest(path).refs] == [{}, {}]
    assert [Path(r.source).name for r in Manifest(path, lamp=4).refs] == ["b.png"]
    with pytest.raises(DataError, match=r"parts\.csv has no row with lamp 2; lamps found: 1, 4"):
        Manifest(path, lamp=2)


def test_rows_of_absent_files_are_listed_and_left_out(folder):
    rows = [{"rgb": "a.png", "xyz": "nix.tiff"}, {"rgb": "b.png", "xyz": ""}]
    source = Manifest(table(folder, rows))
    assert [Path(ref.source).name for ref in source.refs] == ["b.png"]
    (problem,) = source.problems
    assert f"parts.csv, row 1 names {folder / 'nix.tiff'}" in problem.sentence
    assert problem.source.endswith("parts.csv, row 1") and problem.left_out
    with pytest.raises(DataError, match=r"parts\.csv lists no usable sample\..*row 1 .*nix\.tiff"):
        Manifest(table(folder, rows[:1]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"rgb": "a.png", "label": 2}, "row 2 has label '2"),
        ({"rgb": "a.png", "label": "maybe"}, "row 2 has label 'maybe'; 0, good or ok"),
        ({"rgb": "a.png", "label": 0, "kind": "cut"}, "row 2 .*contradict"),
        ({"rgb": "a.png", "label": 1, "kind": "good"}, "row 2 .*contradict"),
        ({"rgb": "a.png", "split": "dev"}, "row 2 has split 'dev'"),
        ({"rgb": "a.png", "lamp": 1.5}, "row 2, column lamp: '1.5'"),
        ({"rgb": "b.png"}, "row 2 names .*b.png, as row 1 does"),
        ({"mask": "cut.png"}, "row 2 names neither"),
        ({"xyz": "a.tiff", "depth": "depth.png"}, "row 2 names both xyz and depth"),
        ({"depth": "depth.png", **CAMERA}, "row 2 has depth_unit ''"),
        ({"depth": "depth.png", "depth_unit": -1, **CAMERA}, "row 2 has depth_unit '-1"),
        ({"depth": "depth.png", "depth_unit": "inf", **CAMERA}, "row 2 has depth_unit 'inf'"),
        ({"depth": "depth.png", "depth_unit": 1}, "row 2 has fx=, fy=, cx=, cy="),
        ({"depth": "depth.png", "depth_unit": 1, **CAMERA, "fx": 0}, "row 2: Camera .*fx=0"),
        ({"rgb": "a.png", "lable": 1}, "column 'lable'; 'label' was probably meant"),
    ],
)
def test_faults_in_the_table_are_named_by_row(folder, row, words):
    with pytest.raises(DataError, match=rf"parts\.csv.*{words}"):
        Manifest(table(folder, [{"rgb": "b.png"}, row]))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"", r"columns \(none\)"),
        ("x.csv", b"picture\na.png\n", "columns picture"),
        ("x.csv", b"rgb\n", "no usable sample"),
        ("x.csv", b"rgb,rgb\na.png,b.png\n", "column 'rgb' twice"),
        ("x.csv", b"rgb,kind\na.png,cut,deep\n", "row 1 has 3 cells for 2 columns"),
        ("x.csv", b"rgb\n\xff\n", "cannot be read as UTF-8 CSV"),
        ("x.parquet", b"PAR1 nonsense", "cannot be read as Parquet"),
    ],
)
def test_tables_that_are_none_are_refused_by_name(folder, name, content, words):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} .*{words}|{name}, {words}"):
        Manifest(folder / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read as JSON"), ("[1]", "no JSON object"), ('{"fx": 1}', "fx=1, fy=, cx=")],
)
def test_a_faulty_camera_file_is_named(folder, content, words):
    (folder / "camera.json").write_text(content)
    row = {"depth": "depth.png", "depth_unit": 1, "intrinsics": "camera.json"}
    source = Manifest(table(folder, [row]))
    with pytest.raises(DataError, match=rf"camera\.json .*{words}"):
        source.load(source.refs[0])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"rgb": "a.png", "label": 1, "mask": "none.png"}, r"none\.png is empty"),
        ({"rgb": "a.png", "label": 0, "mask": "cut.png"}, r"cut\.png marks 1 defective pixels"),
        ({"rgb": "a.png", "mask": "big.png"}, r"rgb 4x5 .*a\.png.* mask 9x9 .*big\.png"),
        ({"depth": "zero.png", "depth_unit": 1, **CAMERA}, r"zero\.png holds no 3D point"),
        ({"depth": "a.png", "depth_unit": 1, **CAMERA}, r"a\.png holds uint8 values"),
    ],
)
def test_faulty_files_are_named_when_loaded(folder, row, words):
    write_mask(folder / "big.png", np.ones((9, 9), bool))
    cv2.imwrite(str(folder / "zero.png"), np.zeros(SIZE, np.uint16))
    source = Manifest(table(folder, [row]))
    with pytest.raises(DataError, match=words):
        source.load(source.refs[0])


def test_spreadsheets_in_german_and_tables_with_tabs(folder):
    camera = "fx;fy;cx;cy\n", "20,0;10;2;1,5\n"
    text = f"\ufeffsep=;\nrgb;depth;depth_unit;{camera[0]}a.png;depth.png;0,001;{camera[1]}"
    expected = None
    for suffix, separator in ((".csv", ";"), (".tsv", "\t"), (".csv", "|")):
        path = folder / f"parts{suffix}"
        path.write_text(text.replace(";", separator))
        source = open_source(path)
        sample = source.load(source.refs[0])
        assert sample.xyz[3, 4, 2] == pytest.approx(1.9)
        expected = sample.xyz if expected is None else expected
        np.testing.assert_array_equal(sample.xyz, expected)


def test_a_decimal_comma_between_commas_is_refused(folder):
    (folder / "parts.csv").write_text("rgb,depth,depth_unit\na.png,depth.png,0,001\n")
    with pytest.raises(DataError, match="decimal comma need semicolons"):
        open_source(folder / "parts.csv")


def test_json_lines(folder):
    path = folder / "parts.jsonl"
    path.write_text(
        '{"rgb": "a.png", "label": 0}\n\n'
        '{"rgb": "b.png", "label": 1, "kind": "cut", "box": [1, 2]}\n'
    )
    refs = open_source(path).refs
    assert [(ref.label, ref.kind, dict(ref.extra)) for ref in refs] == [
        (0, "good", {}),
        (1, "cut", {"box": "[1, 2]"}),
    ]
    for content in ("{", "[1]\n"):
        path.write_text(content)
        with pytest.raises(DataError, match="cannot be read as JSON lines"):
            open_source(path)


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (("good", "OK", "Normal", " pass ", "i.O.", "0.0"), 0),
        (("bad", "NOK", "Anomaly", "defect", "FAIL", "n.i.O.", "1.0"), 1),
    ],
)
def test_labels_in_words(folder, words, label):
    for word in words:
        (ref,) = Manifest(table(folder, [{"rgb": "a.png", "label": word}])).refs
        assert ref.label == label and ref.kind == ("defect" if label else "good")


def test_anomalibs_columns(folder):
    """Its tables have the kind of defect as ``label``, and point maps as ``depth_path``."""
    rows = [
        {"image_path": "a.png", "label": "good", "label_index": 0, "split": "Train"},
        {"image_path": "b.png", "label": "crack", "label_index": 1, "mask_path": "cut.png"},
    ]
    source = open_source(table(folder, rows))
    facts = [(ref.split, ref.label, ref.kind, set(ref.files)) for ref in source.refs]
    assert facts == [("train", 0, "good", {"rgb"}), ("", 1, "crack", {"rgb", "mask"})]
    (remark,) = source.remarks
    assert "image_path as rgb" in remark and "label_index as label" in remark
    source = open_source(table(folder, [{"image_path": "a.png", "depth_path": "a.tiff"}]))
    assert source.load(source.refs[0]).xyz is not None
    with pytest.raises(DataError, match="depth_unit ''"):
        open_source(table(folder, [{"image_path": "a.png", "depth_path": "depth.png"}]))


def test_whether_there_is_an_anomaly_may_be_true_or_false(folder):
    rows = [{"image": "a.png", "is_anomaly": True}, {"image": "b.png", "is_anomaly": False}]
    assert [ref.label for ref in Manifest(table(folder, rows, ".parquet")).refs] == [1, 0]


def test_paths_may_be_relative_to_the_folder_above_and_have_backslashes(folder):
    """VisA's split_csv/1cls.csv."""
    write_rgb(folder / "candle/1.png", np.zeros((*SIZE, 3), np.float32))
    (folder / "split_csv").mkdir()
    rows = [{"object": "candle", "image": "candle\\1.png", "split": "test", "label": "anomaly"}]
    rows += [{"object": "pcb", "image": "a.png", "split": "train", "label": "normal"}]
    path = folder / "split_csv/1cls.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    source = open_source(path)
    assert [ref.label for ref in source.refs] == [1, 0] and source.problems == ()
    assert source.load(source.refs[0]).rgb.shape == (*SIZE, 3)
    said = " ".join(source.remarks)
    assert f"relative to {folder}" in said and "2 products (candle, pcb)" in said


def test_a_table_of_parts_is_no_table_of_recordings(folder):
    for rows, recordings in (
        ([{"image": "a.png", "mask": "cut.png"}], False),
        ([{"image": "a.png", "label": "ok"}, {"image": "b.png", "label": "nok"}], False),
        ([{"image": "a.png", "kind": "corona", "session": "s"}], True),
    ):
        assert is_diagnosis_data(table(folder, rows)) == recordings


def pictures_under_lamps(folder: Path, *, points: bool, lamps: bool = True) -> Path:
    rows = []
    for part in range(3):
        write_xyz(folder / f"p{part}.tiff", np.full((*SIZE, 3), 0.3))
        for lamp in (2, 5):
            write_rgb(folder / f"{part}_{lamp}.png", np.full((*SIZE, 3), lamp / 10))
            row = {"rgb": f"{part}_{lamp}.png", "group": f"g{part}", "label": 0}
            row |= {"split": "test" if part == 2 else "train"}
            rows.append(row | ({"xyz": f"p{part}.tiff"} if points else {}))
            rows[-1] |= {"light": lamp} if lamps else {}
    return table(folder, rows)


@pytest.mark.parametrize("points", [True, False])
def test_a_part_under_several_lamps_is_one_part(folder, points):
    path = pictures_under_lamps(folder, points=points)
    source = open_source(path)
    assert [(ref.group, ref.lamp) for ref in source.refs] == [("g0", 2), ("g1", 2), ("g2", 2)]
    assert source.lamps == (2, 5)
    (remark,) = source.remarks
    assert "6 pictures show 3 parts" in remark and "under lamp 2" in remark
    assert [ref.lamp for ref in open_source(path, lamp=5).refs] == [5, 5, 5]
    drawn = open_source(path, lamp="all")
    assert [ref.group for ref in drawn.refs] == ["g0", "g1", "g2", "g2"]
    assert drawn.refs == open_source(path, lamp="all").refs


def test_rows_with_the_same_points_need_lamps(folder):
    with pytest.raises(DataError, match=r"same 3D points, .*p0\.tiff.* column lamp"):
        open_source(pictures_under_lamps(folder, points=True, lamps=False))
