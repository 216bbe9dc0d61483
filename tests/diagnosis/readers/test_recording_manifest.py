"""Tables of recordings: layouts of series, rows of one sensor, labels and kinds, faults."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from chiasm.diagnosis.readers.manifest import RecordingManifest
from chiasm.diagnosis.readers.source import KINDS
from chiasm.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
SERIES = RNG.integers(0, 200, (3, 16)).astype(np.float32)
CYCLE = {"frequency": 50, "samples_per_cycle": 8}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), PIXELS[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), PIXELS[..., 0])
    cv2.imwrite(str(tmp_path / "grey.bmp"), PIXELS[..., 0])
    np.savetxt(tmp_path / "s.csv", SERIES, fmt="%d", delimiter=",")
    np.savetxt(tmp_path / "fine.csv", SERIES / 3, fmt="%.6e", delimiter=",")
    np.save(tmp_path / "s.npy", SERIES)
    np.save(tmp_path / "flat.npy", SERIES[0].astype(np.uint8))
    return tmp_path


def table(folder: Path, rows: list[dict], suffix: str = ".csv") -> Path:
    path = folder / f"list{suffix}"
    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_columns_are_understood(folder, suffix):
    rows = [
        {"image": "a.png", "series": "s.npy", "label": 2, "kind": "arc", "site": "X", **CYCLE},
        {"image": "b.png", "label": 0, "split": "val", **CYCLE},
        {"series": str(folder / "s.csv"), "kind": "arc", **CYCLE},
    ]
    source = RecordingManifest(table(folder, rows, suffix))
    assert source.name == "list" and source.problems == () and source.kinds == ("0", "1", "arc")
    facts = [(r.label, r.kind, r.split, r.group) for r in source.refs]
    expected = [(2, "arc", "", {"site": "X"}), (0, "0", "validation", {}), (2, "arc", "", {})]
    assert facts == expected
    both, image, series = map(source.load, source.refs)
    np.testing.assert_array_equal(both.image, PIXELS / np.float32(255))
    np.testing.assert_array_equal(both.series, SERIES)
    assert (both.frequency, both.samples_per_cycle, both.group) == (50, 8, {"site": "X"})
    assert image.series is None and series.image is None
    assert series.source == str(folder / "s.csv")


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("s.csv", "", SERIES.reshape(1, -1)),
        ("s.csv", "channels", SERIES),
        ("s.npy", "", SERIES),
        ("s.npy", "rows", SERIES.reshape(1, -1)),
        ("flat.npy", "", SERIES[:1]),
        ("fine.csv", "", SERIES.reshape(1, -1) / 3),
    ],
)
def test_rows_follow_each_other_in_time_or_are_channels(folder, name, layout, expected):
    source = RecordingManifest(table(folder, [{"series": name, "layout": layout, **CYCLE}]))
    series = source.load(source.refs[0]).series
    assert series.dtype == np.float32 and series.shape == expected.shape
    np.testing.assert_allclose(series, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "kinds", "labels"),
    [
        ([{"kind": "void"}, {"kind": "normal"}], KINDS, [4, 0]),
        ([{"kind": "worn"}, {"kind": "arc"}], ("arc", "worn"), [1, 0]),
        ([{"kind": "arc", "label": 1}, {"label": 1}], ("0", "arc"), [1, 1]),
        ([{}, {"label": 0}], ("0",), [None, 0]),
        ([{}, {}], (), [None, None]),
    ],
)
def test_label_and_kind_complete_each_other(folder, rows, kinds, labels):
    images = [{"image": "a.png"}, {"image": "b.png"}]
    source = RecordingManifest(table(folder, [a | b for a, b in zip(images, rows)]))
    assert source.kinds == kinds and [ref.label for ref in source.refs] == labels
    for ref in source.refs:
        assert ref.kind == ("" if ref.label is None else kinds[ref.label])


def test_repairs_are_counted(folder):
    rows = [
        {"image": "grey.png", "series": "s.csv"},
        {"image": "grey.bmp"},
        {"image": "a.png"},
        {"image": "gone.png"},
    ]
    source = RecordingManifest(table(folder, rows), image_size=(3, 4), segment=10)
    sentences = " ".join(map(str, source.problems))
    assert len(source.refs) == 3 and len(source.problems) == 3
    assert "row 4 names" in sentences and "no column samples_per_cycle; 128 is assumed" in sentences
    assert [p.left_out for p in source.problems] == [True, False, False]
    grey, _, colour = map(source.load, source.refs)
    assert len(source.problems) == 3 + 2 + 2 + 1 + 1  # rows may be cycles, or channels
    blocks = PIXELS.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(colour.image, blocks, atol=1e-6)
    np.testing.assert_allclose(grey.image, blocks[..., :1].repeat(3, 2), atol=1e-6)
    assert source.repairs(source.refs[2])[0].sentence.endswith(
        "6 x 8 pixels; it was resized to 3 x 4."
    )


def test_a_series_shorter_than_a_segment_is_refused(folder):
    path = table(folder, [{"series": "flat.npy", **CYCLE}])
    assert RecordingManifest(path, segment=16).load(RecordingManifest(path).refs[0]) is not None
    source = RecordingManifest(path, segment=17)
    with pytest.raises(DataError, match="holds 16 values a channel; one segment has 17"):
        source.load(source.refs[0])
    source = RecordingManifest(table(folder, [{"series": "flat.npy", "samples_per_cycle": 17}]))
    with pytest.raises(DataError, match="one mains cycle has 17"):
        source.load(source.refs[0])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"picture": "a.png"}], "neither image nor series"),
        ([{"image": "a.png", "serie": "s.csv"}], "'series' was probably meant"),
        ([{"image": "a.png"}, {"image": "a.png"}], "row 2 names .* as row 1 does"),
        ([{"image": "", "series": "", "label": 1}], "row 1 names neither"),
        ([{"image": "a.xyz"}], "row 1 names the image"),
        ([{"series": "a.mp3"}], "row 1 names the series .*a.mp3; .asc, .bin, .csv"),
        ([{"series": "s.csv", "layout": "columns"}], "row 1 has layout 'columns'"),
        ([{"image": "a.png", "split": "later"}], "row 1 has split 'later'"),
        ([{"image": "a.png", "label": "-1"}], "row 1 has label '-1'"),
        ([{"image": "a.png", "label": "bad"}], "row 1 has label 'bad'"),
        ([{"series": "s.csv", "frequency": 0}], "row 1 has frequency '0'"),
        ([{"series": "s.csv", "samples_per_cycle": 153.6}], "no multiple of the mains frequency"),
        ([{"image": "gone.png"}], "lists no usable recording"),
        (
            [{"image": "a.png", "kind": "x", "label": 1}, {"image": "b.png", "kind": "y"}],
            "row 2 has kind 'y' without a label",
        ),
        (
            [{"image": f"{n}.png", "kind": "x", "label": k} for n, k in (("a", 1), ("b", 2))],
            "row 2 gives 'x' the label 2, an earlier row 1",
        ),
        (
            [{"image": f"{n}.png", "kind": n, "label": 1} for n in "ab"],
            "gives label 1 to 'a' and to 'b'",
        ),
    ],
)
def test_faults_of_the_table_name_the_row(folder, rows, sentence):
    with pytest.raises(DataError, match=sentence):
        RecordingManifest(table(folder, rows))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1,2\n3\n4,5\n", "row 2 has 1 cells; 2 were expected"),
        ("1,2\n3,x\n", "row 2, column 2 holds 'x'; a number"),
        ("time,value\n1,2\n", "has one row of numbers"),
        ("1,2\n,4\n", "row 2, column 1 is empty"),
        ("1,inf\n", "row 1, column 2 holds inf"),
        ("1,1e39\n", "row 1, column 2 holds 1e\\+39"),
        (np.ones((2, 2, 2)), "shape \\(2, 2, 2\\)"),
        (np.ones((9, 2)), "more channels than values"),
        (np.array([[1, 2], [3, np.nan]]), "row 2, column 2 is empty or holds NaN"),
        (np.array([1, np.inf]), "row 1, column 2 holds inf"),
        (np.array(["a"]), "array of real numbers"),
        (b"\x93NUMPY damaged", "cannot be read as a numpy or MATLAB file"),
    ],
)
def test_faults_of_a_series_name_file_and_row(folder, content, sentence):
    name = "odd.csv" if isinstance(content, str) else "odd.npy"
    if isinstance(content, str):
        (folder / name).write_text(content)
    elif isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        np.save(folder / name, content)
    row = {"series": name, "frequency": 50, "samples_per_cycle": 1}
    source = RecordingManifest(table(folder, [row]))
    with pytest.raises(DataError, match=sentence) as caught:
        source.load(source.refs[0])
    assert str(folder / name) in str(caught.value)
