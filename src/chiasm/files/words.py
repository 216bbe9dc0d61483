"""Words in names and tables: which sensor a file is of, and whether a part is good."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

COLOUR_WORDS = frozenset({"rgb", "color", "colour", "image", "img", "texture", "bgr"})
POINT_WORDS = frozenset(
    {
        "depth",
        "xyz",
        "points",
        "point",
        "cloud",
        "pointcloud",
        "pc",
        "pcd",
        "ply",
        "range",
        "height",
    }
)
# Those that mean nothing else.
_CLEAR_WORDS = frozenset({"depth", "xyz", "pointcloud", "pcd", "ply"})
_CLOUDS = frozenset({".ply", ".pcd", ".exr"})
# Folders of what 3D sensors write, which name no class of recordings.
RANGE_FOLDERS = frozenset(
    {
        *("depth", "height", "heights", "heightmap", "range", "z", "ply", "pcd", "cloud", "clouds"),
        *("points", "exr", "xyz"),
    }
)
# In the head of a height map as line profilers export it.
_PROFILER = re.compile(r"[xyz][ _]?(resolution|pitch|interval)", re.IGNORECASE)
_HEAD = 4096  # bytes
_LEAST_SIDE = 33  # rows and columns of an image; a series has fewer channels

GOOD = "good"  # the kind of a part without a defect
# How tables and folders say so; German ones have "i.O." and "n.i.O.".
GOOD_WORDS = frozenset({GOOD, "ok", "okay", "normal", "pass", "passed", "io", "i.o.", "i.o"})
DEFECTIVE_WORDS = frozenset(
    {
        *("nok", "not ok", "not_ok", "notok", "ng", "bad", "defect", "defective", "faulty"),
        *("anomaly", "anomalous", "anomal", "abnormal", "fail", "failed", "reject", "rejected"),
        *("nio", "n.i.o.", "n.i.o", "not good", "not_good"),
    }
)


def words_of(name: str) -> set[str]:
    """Return the words of a name in lower case."""
    return {word.lower() for word in re.findall(r"[A-Za-z]+", name)}


def holds_range_data(folder: Path) -> bool:
    """Return whether a folder holds what a 3D sensor wrote, by names and shapes.

    It lies there directly, or in a folder that is called after it, such as ``height/``.
    """
    arrays: list[Path] = []
    tables: list[Path] = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in _CLOUDS or words_of(path.stem) & _CLEAR_WORDS:
            return True
        if path.name.lower() in RANGE_FOLDERS and path.is_dir():
            return True
        if path.suffix.lower() in (".npy", ".npz"):
            arrays.append(path)
        if path.suffix.lower() == ".csv":
            tables.append(path)
    by_array = bool(arrays) and _is_image_like(min(arrays))
    return by_array or (bool(tables) and _is_of_profiler(min(tables)))


def _is_of_profiler(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(_HEAD).decode("utf-8", errors="replace")
    return _PROFILER.search(head) is not None


def _is_image_like(path: Path) -> bool:
    """Return whether an array in a file has rows and columns as an image has."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _has_sides(loaded)
        with loaded:
            return any(_has_sides(loaded[name]) for name in loaded.files)
    except (OSError, ValueError, EOFError):  # left to the reader
        return False


def _has_sides(array: np.ndarray) -> bool:
    return array.ndim in (2, 3) and min(array.shape[:2]) >= _LEAST_SIDE


def is_good(word: str) -> bool:
    """Return whether a word, such as the name of a folder, says that parts are good."""
    return word.strip().lower() in GOOD_WORDS


def is_defective(word: str) -> bool:
    """Return whether a word says that parts are defective, without naming the defect."""
    return word.strip().lower() in DEFECTIVE_WORDS
