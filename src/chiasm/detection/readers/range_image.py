"""Read what a 3D sensor wrote, in any format, as points in metres: one for each pixel.

Depth images, height maps, point maps, tables and point clouds all become a ``RangeImage``. The
format is told by the content, and what the content does not tell is in ``RangeSettings``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.detection.preparation.distance import (
    FAR,
    check_unit,
    distances_by_unit,
    doubts_of_unit,
)
from chiasm.detection.readers.camera import Intrinsics, back_project, camera_for, distorted
from chiasm.detection.sensors.exports import EXPORTS, how_to_export
from chiasm.detection.sensors.gridding import lattice, nearest_of_pixel
from chiasm.detection.sensors.height_tables import HeightTable, height_table
from chiasm.detection.sensors.point_clouds import (
    CLOUD_SUFFIXES,
    PointCloud,
    cloud_from_bytes,
    in_unit_range,
    is_cloud,
)
from chiasm.detection.sensors.point_order import (
    ABOVE,
    check_order,
    seen_from_above,
    without_zero_depth,
)
from chiasm.errors import DataError
from chiasm.files.decoding import Numbers, bytes_of, is_numbers, numbers_of
from chiasm.files.images import depth_image, one_channel, point_map
from chiasm.files.missing import missing_values
from chiasm.samples import BoolArray, FloatArray

RANGE_SUFFIXES = CLOUD_SUFFIXES | {
    *(".png", ".tif", ".tiff", ".npy", ".npz", ".exr", ".csv", ".txt", ".tsv", ".xyz"),
    *(".pgm", ".pfm"),
}

COLOURS_WITHIN = "Colours or intensities in the 3D file are the image of the part."
_LIST_ASPECT = 4  # rows per column, beyond which numbers are a list of points
_LEAST_FILLED = 0.02  # of the pixels of a camera, by a cloud that is to be an image


@dataclass(frozen=True, slots=True)
class RangeSettings:
    """What a file of depth, heights or points does not say itself.

    Attributes:
        unit_m: metres of one count or unit; None takes the file's own, or metres for floats.
        missing: values that mark what is missing; with any, no others are guessed.
        camera: of a depth image, or of a cloud without a grid.
        pitch_x, pitch_y: metres between the columns and between the rows of an orthographic map of
            heights; None of a camera's depth.
        offset_m: metres added to heights.
        up: whether values grow towards the sensor, as heights do; False for distances from it.
        intensity: whether intensities in a file become its grey image.
        usual_count_m: metres of a whole count of depth where nothing else says it, which is said;
            None refuses these.
    """

    unit_m: float | None = None
    missing: tuple[float, ...] = ()
    camera: Intrinsics | None = None
    pitch_x: float | None = None
    pitch_y: float | None = None
    offset_m: float = 0.0
    up: bool = True
    intensity: bool = True
    usual_count_m: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("unit", self.unit_m),
            ("pitch in x", self.pitch_x),
            ("pitch in y", self.pitch_y),
        ):
            if value is not None and not 0 < value < np.inf:
                raise DataError(
                    f"The {name} is {value} m; a positive length was expected, e.g. 0.001."
                )
        if not np.isfinite(self.offset_m):
            raise DataError(f"The offset is {self.offset_m} m; a number was expected.")


@dataclass(frozen=True, slots=True, eq=False)
class RangeImage:
    """What a 3D sensor measured.

    Attributes:
        xyz: ``(H, W, 3)`` float32 metres, 0 where missing.
        rgb: ``(H, W, 3)`` float32 in [0, 1] of the same pixels, or None.
        remarks: what was assumed or lost, a sentence each.
    """

    xyz: FloatArray
    rgb: FloatArray | None = None
    remarks: tuple[str, ...] = ()


def read_range(
    path: Path | str, settings: RangeSettings, size: tuple[int, int] | None = None
) -> RangeImage:
    """Read depth, heights, points or a cloud.

    Args:
        path: of the file.
        settings: what the file does not say.
        size: height and width of the colour image of the same part, if there is one.

    Raises:
        DataError: the file is damaged or of no known format, has another size, or needs what
            ``settings`` lack.
    """
    path = Path(path)
    return range_from_bytes(bytes_of(path), str(path), settings, size)


def range_from_bytes(
    content: bytes, source: str, settings: RangeSettings, size: tuple[int, int] | None = None
) -> RangeImage:
    """Decode a file as ``read_range`` does; ``source`` names it in messages."""
    remarks: list[str] = []
    suffix = Path(source).suffix.lower()
    if suffix in EXPORTS:
        raise DataError(
            f"{source} is a 3D file of no format that is read. {how_to_export(Path(source))}"
        )
    rgb, metres, points = None, False, True
    if is_cloud(content) or suffix in CLOUD_SUFFIXES:
        cloud = cloud_from_bytes(content, source)
        xyz, rgb = _of_cloud(cloud, source, settings, size, remarks)
    elif is_numbers(content) or suffix not in (".csv", ".txt", ".tsv", ".xyz"):
        numbers = numbers_of(content, source)
        remarks += numbers.remarks
        metres = numbers.metres
        if numbers.values.ndim == 2 and is_list(numbers.values):
            cloud = _cloud_of_rows(numbers.values)
            xyz, rgb = _of_cloud(cloud, source, settings, size, remarks)
        else:
            points = numbers.values.ndim == 3
            xyz = _of_numbers(numbers, source, settings, remarks)
            rgb = _colours_of(numbers, settings)
    else:
        table = height_table(content, source)
        points = is_list(table.values)
        xyz, rgb = _of_table(table, source, settings, size, remarks)
    if points:
        if not metres:
            check_order(xyz, source)
        above = seen_from_above(xyz, source, up=settings.up, offset_m=settings.offset_m)
        if above is not None:
            xyz = above
            remarks.append(ABOVE)
    if size is not None and not _whole_ratio(size, (xyz.shape[0], xyz.shape[1])):
        raise DataError(
            f"{source} is organised as {xyz.shape[0]} x {xyz.shape[1]}, but the colour image has "
            f"{size[0]} x {size[1]} pixels (height x width); they must be registered pixel by "
            "pixel. Colours of another camera are registered by data convert: give --intrinsics "
            "of depth, --colour-intrinsics, and --extrinsic from depth to colour."
        )
    if settings.unit_m is None and not metres:
        remarks += check_unit(xyz, source)
    elif settings.unit_m is not None:
        remarks += doubts_of_unit(xyz, settings.unit_m)
    if size is not None:
        rgb = None  # there is a colour image
    elif rgb is not None:
        remarks.append(COLOURS_WITHIN)
    return RangeImage(xyz, rgb, tuple(dict.fromkeys(remarks)))


def _whole_ratio(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether one size is a whole multiple of the other, so that colours can be scaled."""
    small, large = sorted((one, other))
    factor = large[0] // small[0]
    return (small[0] * factor, small[1] * factor) == large


def _of_numbers(
    numbers: Numbers, source: str, settings: RangeSettings, remarks: list[str]
) -> FloatArray:
    """Return the points of a depth image, a map of heights or a map of points."""
    if numbers.values.ndim == 3 and numbers.values.shape[2] in (3, 4, 6):
        numbers = replace(numbers, values=numbers.values[..., :3])
        xyz = point_map(numbers, source, settings.unit_m, missing=settings.missing, remarks=remarks)
        if numbers.metres:
            return xyz
        absent = np.asarray(~xyz.any(axis=2))
        more = without_zero_depth(xyz, absent, remarks)
        return xyz if more is absent else np.where(more[..., None], np.float32(0), xyz)
    if settings.pitch_x is not None:
        return _orthographic(numbers, source, settings, remarks)
    if settings.camera is None:
        raise DataError(
            f"{source} is a depth image, which needs the camera's intrinsics: a JSON file with fx, "
            "fy, cx and cy in pixels (--intrinsics). For heights of a line profiler, give the "
            "metres between its pixels instead (--pitch 0.0001)."
        )
    camera = camera_for(settings.camera, numbers.values.shape[:2], source, remarks)
    unit = settings.unit_m
    if unit is None and camera.depth_unit is not None:
        unit = camera.depth_unit
        remarks.append(f"One count of depth is {unit:g} m, as the camera's file says.")
    if unit is None and numbers.values.dtype.kind in "ui" and settings.usual_count_m is not None:
        unit = settings.usual_count_m
        _check_usual(numbers, source, unit)
        remarks.append(f"One count of depth is taken for {unit:g} m (--unit names another).")
    if camera.distortion:
        remarks.append("The camera's distortion was taken out of the points.")
    depth = depth_image(numbers, source, unit, missing=settings.missing, remarks=remarks)
    return back_project(depth, camera)


def _check_usual(numbers: Numbers, source: str, unit: float) -> None:
    """Refuse a usual length of one count that puts parts at no usual distance.

    Raises:
        DataError: with the distances in other units.
    """
    counts = numbers.values[numbers.values > 0]
    limit = np.iinfo(numbers.values.dtype).max  # marks what is missing
    median = float(np.median(counts[counts != limit])) if (counts != limit).any() else 0.0
    if median * unit > FAR:
        raise DataError(
            f"{source} holds whole counts of depth, {median:.4g} in the middle: of {unit:g} m each "
            f"they would be {median * unit:.3g} m away. Give the metres of one count (--unit; "
            f"{distances_by_unit(median)})."
        )


def _colours_of(numbers: Numbers, settings: RangeSettings) -> FloatArray | None:
    """Return the colours that stand beside points or depth, or None."""
    channels = numbers.values.shape[2] if numbers.values.ndim == 3 else 1
    if numbers.rgb is not None or channels == 6:
        return in_unit_range(numbers.values[..., 3:] if numbers.rgb is None else numbers.rgb)
    if channels == 4 and settings.intensity:
        return np.repeat(in_unit_range(numbers.values[..., 3:]), 3, axis=2)
    return None


def is_list(values: NDArray[Any]) -> bool:
    """Return whether numbers ``(N, C)`` are points below each other, and no image."""
    return values.shape[1] in (3, 4, 6) and len(values) > _LIST_ASPECT * values.shape[1]


def _cloud_of_rows(values: NDArray[Any]) -> PointCloud:
    rows = values.astype(np.float64)
    if rows.shape[1] == 6:
        return PointCloud(rows[:, :3], in_unit_range(rows[:, 3:]))
    if rows.shape[1] == 4:
        return PointCloud(rows[:, :3], np.repeat(in_unit_range(rows[:, 3:]), 3, axis=1), grey=True)
    return PointCloud(rows)


def _orthographic(
    numbers: Numbers,
    source: str,
    settings: RangeSettings,
    remarks: list[str],
    unit: float | None = None,
) -> FloatArray:
    """Return the points of a map of heights, as a camera would see it from afar.

    The origin lies above the middle of the map, by the longer side of the map, which is equal for
    all maps of one size.
    """
    counts = one_channel(numbers, source)
    unit = settings.unit_m or unit
    if unit is None:
        if counts.dtype.kind in "ui":
            raise DataError(
                f"{source} holds whole counts of height of an unknown unit; give the metres of one "
                "count (--unit 0.00001 for 10 um)."
            )
        unit = 1.0
    absent = missing_values(counts, (*numbers.missing, *settings.missing), remarks)
    if numbers.valid is not None:
        absent |= ~numbers.valid
    if counts.dtype.kind == "u" and not settings.missing and (counts == 0).any():
        absent |= counts == 0
        remarks.append("The count 0 is taken for missing (--missing names another marker).")
    pitch_x = settings.pitch_x or 0.0
    pitch_y = settings.pitch_y or pitch_x
    height, width = counts.shape
    heights = np.where(absent, 0.0, counts.astype(np.float64)) * unit + settings.offset_m
    origin = max(height * pitch_y, width * pitch_x)
    z = origin - heights if settings.up else origin + heights
    measured = z[~absent]
    if measured.size and measured.min() <= 0:
        # The point nearest to the sensor, in the direction in which values grow.
        nearest = float(heights[~absent].max() if settings.up else heights[~absent].min())
        raise DataError(
            f"{source} has heights of {1e3 * nearest:.4g} mm in a map that is {1e3 * origin:.4g} "
            "mm wide. If unit and pitch are right, name an offset that brings all parts near 0 "
            f"(--offset {settings.offset_m - nearest:.3g}, in metres; the same for all)."
        )
    x = (np.arange(width) - (width - 1) / 2) * pitch_x
    y = (np.arange(height) - (height - 1) / 2) * pitch_y
    points = np.stack([*np.broadcast_arrays(x[None], y[:, None]), z], axis=2)
    points[absent] = 0
    return points.astype(np.float32)


def _of_table(
    table: HeightTable,
    source: str,
    settings: RangeSettings,
    size: tuple[int, int] | None,
    remarks: list[str],
) -> tuple[FloatArray, FloatArray | None]:
    """Return the points and the grey image of a table."""
    remarks += table.remarks
    values = table.values
    if table.pitch_x is None and is_list(values):
        return _of_cloud(_cloud_of_rows(values), source, settings, size, remarks)
    pitch_x = settings.pitch_x or table.pitch_x
    pitch_y = settings.pitch_y or settings.pitch_x or table.pitch_y or table.pitch_x
    numbers = Numbers(values)
    if settings.camera is not None and settings.pitch_x is None:
        return _of_numbers(numbers, source, settings, remarks), None
    if pitch_x is None:
        raise DataError(
            f"{source} is a table of heights and does not say how far its pixels are apart; give "
            "the metres between them (--pitch 0.0001, and --pitch-y where rows differ)."
        )
    if settings.unit_m is None and table.unit_m is None:
        raise DataError(
            f"{source} is a table of heights of an unknown unit; give its metres (--unit 0.001 for "
            "millimetres)."
        )
    settings = replace(settings, pitch_x=pitch_x, pitch_y=pitch_y)
    xyz = _orthographic(numbers, source, settings, remarks, table.unit_m)
    if pitch_x == table.pitch_x:
        remarks.append(
            f"The pitch is {1e3 * pitch_x:g} x {1e3 * (pitch_y or pitch_x):g} mm, as the file says."
        )
    if table.grey is None or not settings.intensity:
        return xyz, None
    return xyz, np.repeat(in_unit_range(table.grey)[..., None], 3, axis=2)


def _of_cloud(
    cloud: PointCloud,
    source: str,
    settings: RangeSettings,
    size: tuple[int, int] | None,
    remarks: list[str],
) -> tuple[FloatArray, FloatArray | None]:
    """Return the points and colours of a cloud in the pixels of its grid, or of a camera."""
    unit = 1.0 if settings.unit_m is None else settings.unit_m
    absent = missing_values(cloud.points[:, 2], settings.missing, remarks)
    absent |= ~np.isfinite(cloud.points).all(axis=1)
    metres = np.where(absent[:, None], 0.0, cloud.points) * unit
    absent |= ~metres.any(axis=1)
    absent = without_zero_depth(metres, absent, remarks)
    metres[absent] = 0
    shown = _pixels(replace(cloud, points=metres), absent, source, settings, size, remarks)
    points = np.concatenate([metres, np.zeros((1, 3))])[shown].astype(np.float32)
    if cloud.rgb is None or (cloud.grey and not settings.intensity):
        return points, None
    return points, np.concatenate([cloud.rgb, np.zeros((1, 3), np.float32)])[shown]


def _pixels(
    cloud: PointCloud,
    absent: BoolArray,
    source: str,
    settings: RangeSettings,
    size: tuple[int, int] | None,
    remarks: list[str],
) -> NDArray[np.int64]:
    """Return ``(H, W)`` which point each pixel shows, -1 where there is none."""
    count = len(cloud.points)
    if cloud.grid is not None:
        return cloud.grid
    file_size = cloud.size or (size if size is not None and size[0] * size[1] == count else None)
    if file_size is not None and min(file_size) > 1 and file_size[0] * file_size[1] == count:
        return np.arange(count).reshape(file_size)
    if settings.camera is not None:
        return _projected(cloud.points, absent, source, settings.camera, size, remarks)
    measured = np.flatnonzero(~absent)
    found = (
        lattice(cloud.points[measured, 0], cloud.points[measured, 1])
        if cloud.size is None and measured.size
        else None
    )
    if found is not None and min(found[2]) > 1:
        rows, columns, lattice_size = found
        remarks.append(
            f"The points lie in a grid of {lattice_size[1]} x {lattice_size[0]} along x and y, "
            "which became the pixels."
        )
        shown = np.full(lattice_size, -1, np.int64)
        shown[rows, columns] = measured
        return shown
    height, width = cloud.size or (1, count)
    expected = f", {size[0]} x {size[1]} were expected" if size else ""
    raise DataError(
        f"{source} holds {count} points as {height} x {width}{expected}: it is not organised, one "
        "point per pixel. Save the sensor's full grid, with missing points as NaN or 0 (in the "
        "sensor's program: 'organised' or 'ordered' PCD or PLY, or a depth map). Points of one "
        "camera can be put into its pixels: give its intrinsics with width and height "
        "(--intrinsics)."
    )


def _projected(
    points: NDArray[np.float64],
    absent: BoolArray,
    source: str,
    camera: Intrinsics,
    size: tuple[int, int] | None,
    remarks: list[str],
) -> NDArray[np.int64]:
    """Return which point each pixel of a camera shows: the nearest one."""
    if size is None and camera.width and camera.height:
        size = camera.height, camera.width
    if size is None:
        raise DataError(
            f"{source} is not organised, and the size of the camera's image is not known: write "
            "width and height beside fx, fy, cx and cy in the file of the intrinsics."
        )
    camera = camera_for(camera, size, source, remarks)
    usable = np.flatnonzero(~absent & (points[:, 2] > 0))
    x, y, z = points[usable].T
    x, y = distorted(camera.distortion, x / z, y / z)
    columns = np.rint(x * camera.fx + camera.cx).astype(np.int64)
    rows = np.rint(y * camera.fy + camera.cy).astype(np.int64)
    shown = nearest_of_pixel(rows, columns, z, size)
    filled = shown >= 0
    kept, measured = int(filled.sum()), int((~absent).sum())
    if kept < 0.5 * measured or not kept:
        raise DataError(
            f"{source}: of {measured} points only {kept} fall into pixels of their own, of the "
            f"camera's {size[1]} x {size[0]}. The intrinsics or the unit are of another sensor, or "
            "the points are not in the camera's frame (x right, y down, z forward)."
        )
    if kept < _LEAST_FILLED * shown.size:
        raise DataError(
            f"{source}: its {measured} points fill {kept / shown.size:.2%} of the pixels of the "
            f"camera ({size[1]} x {size[0]}); it was thinned. Save all points that the sensor "
            "measured, best as an organised cloud or as a depth map."
        )
    remarks.append(
        f"The points were put into the pixels of the camera: {measured - kept} of {measured} were "
        f"hidden or outside, and {1 - kept / shown.size:.0%} of the pixels are empty."
    )
    return np.where(filled, usable[shown], -1)
