"""Which folders hold what a 3D sensor wrote, and which hold recordings or pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.readers.opening import is_diagnosis_data
from chiasm.files.images import write_rgb
from chiasm.files.words import holds_range_data, words_of


def picture(path: Path) -> None:
    write_rgb(path, np.full((40, 40, 3), 0.5, np.float32))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("0.npy", np.zeros((40, 50))),
        ("0.npz", np.zeros((40, 50, 3))),
        ("0_depth.png", None),
        ("depth/0.png", None),
        ("0.ply", None),
        ("0.csv", None),
    ],
)
def test_pictures_beside_3d_files_are_no_recordings(tmp_path, name, array):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if array is None:
        path.write_text("Info\nVersion,XResolution,YResolution\n1,0.3,0.3\n")
    else:
        (np.save if name.endswith(".npy") else np.savez)(path, array)
    picture(tmp_path / "0.png" if name != "depth/0.png" else tmp_path / "image/0.png")
    assert holds_range_data(tmp_path) and not is_diagnosis_data(tmp_path)


@pytest.mark.parametrize("array", [np.zeros(256), np.zeros((2, 256))])
def test_pictures_beside_series_are_recordings(tmp_path, array):
    np.save(tmp_path / "measuring_point_1.npy", array)
    picture(tmp_path / "measuring_point_1.png")
    assert not holds_range_data(tmp_path) and is_diagnosis_data(tmp_path)


def test_damaged_arrays_and_pictures_alone_tell_nothing(tmp_path):
    (tmp_path / "0.npz").write_bytes(b"PK")
    picture(tmp_path / "0.png")
    assert not holds_range_data(tmp_path)
    assert words_of("Cam0_Depth-001") == {"cam", "depth"}
