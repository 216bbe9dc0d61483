"""Folders as sensors' programs write them: colour in one, depth or clouds in another beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from chiasm.detection.readers.range_image import RANGE_SUFFIXES
from chiasm.detection.readers.source import SampleRef
from chiasm.detection.sensors.exports import EXPORTS, how_to_export
from chiasm.detection.sensors.pairing import Pairing, pair_files, sides_of
from chiasm.detection.sensors.point_clouds import CLOUD_SUFFIXES
from chiasm.errors import DataError
from chiasm.files.images import RGB_SUFFIXES, XYZ_SUFFIXES, holds_points, image_files
from chiasm.files.words import is_good, words_of

COLOUR_FOLDERS = ("rgb", "color", "colour", "image", "images", "intensity", "grey", "gray")
SENSOR_FOLDERS = (
    *("depth", "height", "heights", "heightmap", "range", "z", "ply", "pcd", "cloud", "clouds"),
    *("points", "exr", "xyz"),
)
_CONVERT = (
    "Convert the parts: chiasm data convert FOLDER NEW, with --intrinsics and --unit for depth, or "
    "--pitch and --unit for heights."
)
# Words in the name of a folder of 3D files, and those of what is derived from them.
_SENSOR_WORDS = frozenset(
    {*SENSOR_FOLDERS, "depths", "depthmap", "depthimage", "pointcloud", "pointclouds", "zmap"}
) - {"z", "exr"}
_DERIVED_WORDS = frozenset(
    {
        *("mask", "masks", "gt", "truth", "label", "labels", "valid", "normal", "normals"),
        *("preview", "vis", "colored", "coloured", "colormap", "segmentation", "annotation"),
    }
)
_DISPARITY = frozenset({"disparity", "disparities", "disp"})
_TABLES = frozenset({".csv", ".tsv", ".txt"})
# Formats of no colour image; tables of numbers may be tables of parts.
_ALWAYS_POINTS = RANGE_SUFFIXES - RGB_SUFFIXES - _TABLES
_SPLITS = ("train", "validation", "test")


def sensor_refs(
    origin: Path, found: Pairing, *, all_points: bool = False
) -> list[SampleRef] | None:
    """Return the parts in a folder, or in its ``split/kind`` folders; None for another layout.

    Colour and 3D lie in two folders, or in one with names that tell them apart, and are paired as
    ``pair_files`` does; with no colour at all parts are 3D alone. ``found`` gets the files without
    a partner, and how names that differ were paired. ``all_points``: also point maps in ``xyz/``,
    which readers take as they are.
    """
    if origin.is_file():
        return [SampleRef(str(origin), {"xyz": origin})] if is_range_file(origin) else None
    refs = _parts(origin, found, all_points=all_points)
    if refs is not None:
        return refs
    parts: list[SampleRef] = []
    for split in _SPLITS:
        for folder in _folders(origin / split):
            parts += _parts(folder, found, split=split, all_points=all_points) or ()
    return parts or None


def _parts(
    folder: Path, found: Pairing, *, split: str = "", all_points: bool = False
) -> list[SampleRef] | None:
    """Return the parts of one folder; None where no file needs a conversion."""
    name, points = _sensor_files(folder, all_points=all_points)
    named = {place.name.lower(): place for place in _folders(folder)}
    places_of_colour = [named[n] for n in COLOUR_FOLDERS if n in named]
    colour = next(
        (place for place in places_of_colour if image_files(place, RGB_SUFFIXES)),
        folder / COLOUR_FOLDERS[0],
    )
    rgb = list(image_files(colour, RGB_SUFFIXES).values())
    places = (colour, folder / name)
    if not points:
        rgb, points = both_in(folder)
        places = (folder, folder)
    if not points:
        return None
    read = (places[0].name, places[1].name, "gt")
    found.remarks += unread_beside(folder, [*rgb, *points], read)
    masks = image_files(folder / "gt", RGB_SUFFIXES) if split else {}
    kind = folder.name if split else ""
    label = None if not split else int(not is_good(kind))
    if rgb:
        pairing = pair_files(rgb, points, folders=places)
        found.problems += pairing.problems
        found.remarks += pairing.remarks
        pairs = [({"xyz": p.points, "rgb": p.colour}, p.lamp) for p in pairing.pairs]
    else:
        pairs = [({"xyz": path}, None) for path in points]
    refs = []
    for files, lamp in pairs:
        main = files.get("rgb") or files["xyz"]
        mask = masks.get(main.stem) or masks.get(files["xyz"].stem)
        if mask is not None:
            files["mask"] = mask
        refs.append(SampleRef(str(main), files, split=split, label=label, kind=kind, lamp=lamp))
    return refs


def both_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return colours and 3D files that lie in one folder, told by their formats or names.

    Two empty lists where there are no 3D files; then the images are no parts of 3D.
    """
    files = list(_files(folder))
    images = [path for path in files if path.suffix.lower() in RGB_SUFFIXES]
    points = [path for path in files if path.suffix.lower() in _ALWAYS_POINTS]
    if not points and not any(path.is_dir() for path in folder.iterdir()):
        points = [p for p in files if p.suffix.lower() == ".csv" and is_range_file(p)]
    tiffs = [path for path in images if path.suffix.lower() in (".tif", ".tiff")]
    if tiffs and holds_points(tiffs[0]):
        points += tiffs
    if points:
        return [path for path in images if path not in set(points)], points
    return sides_of(images)


def is_range_file(path: Path) -> bool:
    """Return whether a file alone is of a 3D sensor: no picture, and no table that lists parts."""
    suffix = path.suffix.lower()
    if suffix not in RANGE_SUFFIXES or suffix in RGB_SUFFIXES - {".tif", ".tiff"}:
        return False
    if suffix not in _TABLES:
        return suffix not in (".tif", ".tiff") or holds_points(path)
    with path.open("rb") as stream:
        first = stream.readline(10_000).decode("utf-8-sig", errors="replace").lower()
    names = {cell.strip(' "\r\n') for cell in re.split("[,;\t]", first)}
    # A name of a column that only a table of parts has.
    return not any(re.search("rgb|image|path|file|label|split|kind|depth|series", n) for n in names)


def _sensor_files(folder: Path, *, all_points: bool = False) -> tuple[str, list[Path]]:
    """Return the first folder of 3D files that readers do not take as they are, and its files."""
    for place in _sensor_places(folder):
        as_they_are = place.name == "xyz" and not all_points
        suffixes = RANGE_SUFFIXES - XYZ_SUFFIXES if as_they_are else RANGE_SUFFIXES
        points = image_files(place, suffixes)
        if points:
            return place.name, list(points.values())
    # Clouds are 3D whatever their folder is called.
    for place in _folders(folder):
        points = image_files(place, CLOUD_SUFFIXES) if place.name not in _SPLITS else {}
        if points:
            return place.name, list(points.values())
    return "", []


def _sensor_places(folder: Path) -> list[Path]:
    """Return the folders that are called after 3D data: by the names of sensors, then by words.

    Raises:
        DataError: one is called after disparities.
    """
    places = _folders(folder)
    named = {place.name.lower(): place for place in places}
    by_name = [named[name] for name in SENSOR_FOLDERS if name in named]
    by_words = [
        place
        for place in places
        if words_of(place.name) & _SENSOR_WORDS and not words_of(place.name) & _DERIVED_WORDS
    ]
    for place in places:
        if words_of(place.name) & _DISPARITY and not by_name:
            raise DataError(
                f"{place} is called after disparities, which are no depth. Save the depth, which "
                "is the focal length in pixels times the baseline over the disparity, as depth/; "
                "for colours alone, move the folder away."
            )
    return list(dict.fromkeys([*by_name, *by_words]))


def unread_beside(folder: Path, parts: Sequence[Path], read: Sequence[str]) -> list[str]:
    """Return a sentence on each other folder that has files with the names of parts.

    Args:
        folder: with the folders of one kind of parts.
        parts: files that are read.
        read: names of the folders that are read.
    """
    stems = {path.stem for path in parts}
    return [
        f"The folder {place.name}/ is not read; parts are of {', '.join(read)}."
        for place in _folders(folder)
        if place.name not in (*read, *_SPLITS) and _shares(place, stems)
    ]


def _shares(place: Path, stems: set[str]) -> bool:
    """Return whether half of the files of a folder have a name of some parts."""
    files = _files_of(place)
    return bool(files) and 2 * sum(path.stem in stems for path in files) >= len(files)


def _of_range(path: Path) -> bool:
    """Return whether a file holds what no picture does: one channel of 16 bits or floats."""
    if path.suffix.lower() in _ALWAYS_POINTS:
        return True
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return pixels is not None and pixels.ndim == 2 and pixels.dtype != np.uint8


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
        first = points[0]
        raise DataError(
            f"{folder} has {name}/ {beside}, such as {first}, which is not read as it is. "
            f"{_CONVERT}{alone}"
        )
    stems = set(image_files(folder / "rgb", RGB_SUFFIXES))
    for place in _folders(folder) if stems else ():
        derived = words_of(place.name) & _DERIVED_WORDS or place.name in ("rgb", *_SPLITS)
        if not derived and _shares(place, stems) and _of_range(_files_of(place)[0]):
            raise DataError(
                f"{place}/ lies beside rgb/ and holds depth or points by its files, which would "
                f"not be read. If it is 3D, call it depth/ or xyz/ (data convert); else move it "
                "away."
            )
    if beside == "without xyz/" and folder.is_dir() and (here := both_in(folder)[1]):
        raise DataError(f"{folder} holds 3D files, such as {here[0]}. {_CONVERT}")
    for place in (folder, *_folders(folder)):
        for path in _files(place):
            if place.name in SENSOR_FOLDERS or path.suffix.lower() in EXPORTS:
                raise DataError(
                    f"{path} is a 3D file of no format that is read. {how_to_export(path)}{alone}"
                )


def refuse_mixed(folder: Path) -> None:
    """Raise ``DataError`` for a folder of images in which 3D files or a folder of them lie."""
    refuse_unread(folder)
    _, points = both_in(folder)
    if points:
        raise DataError(
            f"{folder} holds 3D files beside images, such as {points[0]}, which are not read as "
            f"they are. {_CONVERT} For colours alone, move the 3D files away."
        )


def _files_of(folder: Path) -> list[Path]:
    """Return the pictures and 3D files of a folder."""
    return [p for p in _files(folder) if p.suffix.lower() in RGB_SUFFIXES | RANGE_SUFFIXES]


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
