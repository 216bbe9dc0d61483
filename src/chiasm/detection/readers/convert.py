"""Convert readable samples of any layout into the MVTec 3D-AD layout."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chiasm.detection.readers.camera import Intrinsics, back_project, read_intrinsics
from chiasm.detection.readers.checked_sample import checked_sample
from chiasm.detection.readers.mvtec3d import SPLITS
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.point_cloud_files import CLOUD_SUFFIXES, read_cloud
from chiasm.detection.readers.source import SampleRef
from chiasm.errors import DataError
from chiasm.files.images import (
    RGB_SUFFIXES,
    image_files,
    read_depth,
    read_rgb,
    write_mask,
    write_rgb,
    write_xyz,
)
from chiasm.samples import FloatArray, Problem, RGBDSample

SENSOR_FOLDERS = ("depth", "ply", "pcd", "cloud", "xyz")


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        root: the new folder.
        written: number of parts.
        problems: one for each part or file that was left out.
    """

    root: Path
    written: int
    problems: tuple[Problem, ...]


def convert(
    origin: Path | str,
    destination: Path | str,
    *,
    split: str | None = None,
    kind: str | None = None,
    unit_m: float | None = None,
    intrinsics: Path | str | None = None,
    lamp: int | None = None,
) -> Conversion:
    """Write samples as ``destination/{split}/{kind}/{rgb,xyz,gt}/NNN``.

    ``origin`` is a path that ``open_source`` reads, or a folder with ``rgb/`` and one of
    ``depth/`` (16-bit PNG or TIFF; needs ``intrinsics``, a JSON file), ``ply/``, ``pcd/``,
    ``cloud/``, where the files of one part share a name. ``split`` and ``kind`` are used for parts
    whose origin has none. ``unit_m`` is the length in metres of one depth count or of the points'
    unit; None takes metres, and refuses integer counts of depth. Colours are written with 8 bits.
    Parts that cannot be read are left out; ``origin.csv`` lists the origin of each file. Raises
    ``DataError`` if no part can be written, or ``destination`` is not empty.
    """
    origin, destination = Path(origin), Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DataError(f"{destination} is not empty; name a new folder so that nothing mixes.")
    _check_category(split, kind)
    if unit_m is not None and not 0 < unit_m < float("inf"):
        raise DataError(f"The unit is {unit_m} m; a positive length was expected, e.g. 0.001.")
    problems: list[Problem] = []
    rows: list[tuple[str, str]] = []
    numbers: Counter[tuple[str, str]] = Counter()
    camera = read_intrinsics(intrinsics) if intrinsics is not None else None
    for sample in _samples(origin, problems, unit_m, camera, lamp):
        try:
            category = _category(sample, split, kind)
            _write(sample, destination.joinpath(*category), f"{numbers[category]:03d}")
        except DataError as error:
            problems.append(Problem(sample.source, str(error), left_out=True))
            continue
        rows.append(("/".join((*category, "rgb", f"{numbers[category]:03d}.png")), sample.source))
        numbers[category] += 1
    if not rows:
        raise DataError(
            f"Nothing in {origin} could be converted. {' '.join(map(str, problems[:3]))}"
        )
    with (destination / "origin.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "origin"), *rows])
    return Conversion(root=destination, written=len(rows), problems=tuple(problems))


def _samples(
    origin: Path,
    problems: list[Problem],
    unit_m: float | None,
    camera: Intrinsics | None,
    lamp: int | None,
) -> Iterator[RGBDSample]:
    pairs = _sensor_pairs(origin, problems)
    if pairs is not None:
        for rgb_path, points_path in pairs:
            files = {"rgb": rgb_path, "xyz": points_path}
            ref = SampleRef(source=str(rgb_path), files=files)
            try:
                rgb = read_rgb(rgb_path)
                xyz = _points_of_file(points_path, (rgb.shape[0], rgb.shape[1]), unit_m, camera)
                yield checked_sample(ref, rgb=rgb, xyz=xyz, mask=None)
            except DataError as error:
                problems.append(Problem(ref.source, str(error), left_out=True))
        return
    if camera is not None:
        raise DataError(
            f"{origin} already holds 3D points or names its own intrinsics; leave the given "
            "intrinsics out."
        )
    source = open_source(origin, lamp=lamp, unit_m=unit_m or 1.0)
    problems.extend(source.problems)
    for ref in source.refs:
        try:
            yield source.load(ref)
        except DataError as error:
            problems.append(Problem(ref.source, str(error), left_out=True))


def _sensor_pairs(origin: Path, problems: list[Problem]) -> list[tuple[Path, Path]] | None:
    """Return the pairs of colour and depth or cloud files, or None for another layout."""
    rgb = image_files(origin / "rgb", RGB_SUFFIXES)
    for name in SENSOR_FOLDERS:
        # open_source reads point maps that are TIFF files in xyz/.
        suffixes = CLOUD_SUFFIXES if name == "xyz" else CLOUD_SUFFIXES | RGB_SUFFIXES
        points = image_files(origin / name, suffixes)
        if rgb and points:
            break
        if points:
            raise DataError(
                f"{origin} has {name}/ but no images in rgb/, and the MVTec 3D-AD layout holds "
                "pairs. Use a manifest with a column depth or xyz for 3D alone."
            )
    else:
        return None
    for stem in sorted(rgb.keys() ^ points.keys()):
        path = rgb.get(stem) or points[stem]
        sentence = (
            f"{path} has no partner of the name '{stem}' in "
            f"{origin / (name if stem in rgb else 'rgb')}; add it or remove the file."
        )
        problems.append(Problem(str(path), sentence, left_out=True))
    return [(rgb[stem], points[stem]) for stem in sorted(rgb.keys() & points.keys())]


def _points_of_file(
    path: Path, size: tuple[int, int], unit_m: float | None, camera: Intrinsics | None
) -> FloatArray:
    if path.suffix.lower() in CLOUD_SUFFIXES:
        return read_cloud(path, size=size, unit_m=unit_m or 1.0)
    if camera is None:
        raise DataError(
            f"{path} is a depth image, which needs the camera's intrinsics: a JSON file with fx, "
            "fy, cx and cy in pixels."
        )
    return back_project(read_depth(path, unit_m), camera)


def _check_category(split: str | None, kind: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise DataError(f"The split is '{split}'; {', '.join(SPLITS)} are possible.")
    if kind is not None and (not kind or kind[0] == "." or {"/", "\\"} & set(kind)):
        raise DataError(f"The kind is '{kind}'; it becomes a folder's name, such as 'good'.")


def _category(sample: RGBDSample, split: str | None, kind: str | None) -> tuple[str, str]:
    split, kind = sample.split or split, sample.kind or kind
    if split is None or kind is None:
        raise DataError(
            f"{sample.source} lacks its split or its kind of defect; "
            "give both, e.g. split 'test' and kind 'good'."
        )
    _check_category(split, kind)
    return split, kind


def _write(sample: RGBDSample, folder: Path, stem: str) -> None:
    if sample.rgb is None or sample.xyz is None:
        raise DataError(
            f"{sample.source} has only one of colour and 3D points; the MVTec 3D-AD layout holds "
            "pairs. Use a manifest for such data."
        )
    write_rgb(folder / "rgb" / f"{stem}.png", sample.rgb)
    write_xyz(folder / "xyz" / f"{stem}.tiff", sample.xyz)
    if sample.mask is not None and folder.parent.name == "test":
        write_mask(folder / "gt" / f"{stem}.png", sample.mask)
