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
        ({"rgb": "a.png", "label": "bad"}, "row 2, column label: 'bad'"),
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
