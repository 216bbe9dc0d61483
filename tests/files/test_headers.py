"""The ends of files tell whether they are complete, without decoding."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from chiasm.errors import DataError
from chiasm.files.headers import check_ends

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
POINTS = np.random.default_rng(0).random((30, 40, 3), np.float32)


def written(folder: Path, name: str) -> Path:
    path = folder / name
    kind = path.suffixes[0][1:]
    if kind in ("png", "jpg"):
        cv2.imencode(f".{kind}", PIXELS)[1].tofile(path)
    else:
        options = {
            "plain": {},
            "zlib": {"compression": "zlib"},
            "tiles": {"tile": (16, 16)},
            "strips": {"rowsperstrip": 7},
            "big": {"bigtiff": True},
            "motorola": {"byteorder": ">"},
        }[path.stem]
        tifffile.imwrite(path, POINTS, photometric="minisblack", planarconfig="contig", **options)
    return path


TIFFS = ("plain", "zlib", "tiles", "strips", "big", "motorola")
NAMES = ("a.png", "a.jpg", *(f"{name}.tiff" for name in TIFFS))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_passes_and_one_without_its_last_part_does_not(tmp_path: Path, name: str):
    path = written(tmp_path, name)
    assert check_ends(path) == (None if name == "a.jpg" else (30, 40))
    content = path.read_bytes()
    for kept in (0.5, 0.9):
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(DataError, match=f"{path.name} is cut off"):
            check_ends(path)


def test_empty_and_absent_files_are_told(tmp_path: Path):
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        check_ends(tmp_path / "empty.npy")
    with pytest.raises(DataError, match="cannot be opened"):
        check_ends(tmp_path / "absent.png")


def test_what_a_camera_writes_after_the_end_does_no_harm(tmp_path: Path):
    path = written(tmp_path, "a.jpg")
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    check_ends(path)
