"""Folders as sensors' programs write them: colour in one, depth or clouds in another beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chiasm.detection.readers.range_image import RANGE_SUFFIXES
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, image_files
from chiasm.samples import Problem

COLOUR_FOLDERS = ("rgb", "color", "colour", "image", "images", "intensity", "grey", "gray")
SENSOR_FOLDERS = (
    *("depth", "height", "heights", "heightmap", "range", "z", "ply", "pcd", "cloud", "clouds"),
    *("points", "exr", "xyz"),
)
_MESH = (
    "It is a mesh, which knows no pixels: save the sensor's organised cloud or depth map instead."
)
_EXPORTS = {
    ".praw": "Open it in PhoXi Control and save it as an organised PLY with texture.",
    ".bag": "Take its frames apart with RealSense's rs-convert (-p writes PNG, 16-bit depth).",
    ".las": "Save the sensor's range image instead: a survey's cloud has no pixels.",
    ".e57": "Save the sensor's range image instead, or an organised PCD.",
    **dict.fromkeys((".stl", ".obj", ".off", ".glb", ".gltf"), _MESH),
}
_SPLITS = ("train", "validation", "test")


def sensor_refs(origin: Path, problems: list[Problem]) -> list[SampleRef] | None:
    """Return the parts in a folder, or in its ``split/kind`` folders; None for another layout.

    Parts of colour and 3D are pairs of one name; with no colour at all they are 3D alone. Files
    without a partner are listed in ``problems``.
    """
    refs = _parts(origin, problems)
    if refs is not None:
        return refs
    found: list[SampleRef] = []
    for split in _SPLITS:
        for folder in _folders(origin / split):
            refs = _parts(folder, problems, split=split)
            found += refs or ()
    return found or None


def _parts(folder: Path, problems: list[Problem], split: str = "") -> list[SampleRef] | None:
    """Return the parts of one folder; None where no file needs a conversion."""
    name, points = _sensor_files(folder)
    if not points:
        return None
    colour = next(
        (n for n in COLOUR_FOLDERS if image_files(folder / n, RGB_SUFFIXES)), COLOUR_FOLDERS[0]
    )
    rgb = image_files(folder / colour, RGB_SUFFIXES)
    masks = image_files(folder / "gt", RGB_SUFFIXES) if split else {}
    kind = folder.name if split else ""
    label = None if not split else int(kind != "good")
    refs = []
    for stem in sorted(rgb.keys() | points.keys()):
        if rgb and (stem not in rgb or stem not in points):
            path = rgb.get(stem) or points[stem]
            other = folder / (name if stem in rgb else colour)
            sentence = (
                f"{path} has no partner of the name '{stem}' in {other}; add it or remove the file."
            )
            problems.append(Problem(str(path), sentence, left_out=True))
            continue
        files = {"xyz": points[stem]}
        if stem in rgb:
            files["rgb"] = rgb[stem]
        if stem in masks:
            files["mask"] = masks[stem]
        source = str(files.get("rgb") or files["xyz"])
        refs.append(SampleRef(source, files, split=split, label=label, kind=kind))
    return refs


def _sensor_files(folder: Path) -> tuple[str, dict[str, Path]]:
    """Return the first folder of 3D files that readers do not take as they are, and its files."""
    for name in SENSOR_FOLDERS:
        suffixes = RANGE_SUFFIXES - XYZ_SUFFIXES if name == "xyz" else RANGE_SUFFIXES
        points = image_files(folder / name, suffixes)
        if points:
            return name, points
    return "", {}


def refuse_unread(folder: Path) -> None:
    """Refuse a folder with 3D files that would not be read, alone or beside its colour.

    Raises:
        DataError: with the command that converts them, or with what to export instead.
    """
    if image_files(folder / "xyz", XYZ_SUFFIXES):
        return
    beside = "beside rgb/" if image_files(folder / "rgb", RGB_SUFFIXES) else "without xyz/"
    alone = " For colours alone, move it away." if beside == "beside rgb/" else ""
    name, points = _sensor_files(folder)
    if points:
        first = next(iter(points.values()))
        raise DataError(
            f"{folder} has {name}/ {beside}, such as {first}, which is not read as it is. Convert "
            "the parts: chiasm data convert FOLDER NEW, with --intrinsics and --unit for depth, or "
            f"--pitch and --unit for heights.{alone}"
        )
    for name in SENSOR_FOLDERS:
        if path := next(_files(folder / name), None):
            raise DataError(
                f"{path} is a 3D file of no format that is read. {how_to_export(path)}{alone}"
            )


def how_to_export(path: Path) -> str:
    """Return what to write instead of a file of a format that is not read, as a sentence."""
    return _EXPORTS.get(
        path.suffix.lower(),
        "Save depth as a 16-bit PNG or float TIFF, points as a float32 TIFF or .npy file (height, "
        "width, 3), or as an organised PLY or PCD cloud.",
    )


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
