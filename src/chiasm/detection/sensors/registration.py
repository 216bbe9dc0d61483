"""Registration of colour and depth of two cameras, or of one camera in two sizes.

A colour image is brought into the frame of the depth image, so that nothing of the 3D points is
resampled. Each pixel of the depth image takes the colour that the colour camera sees at its point.
What a nearer surface hides from that camera, and what lies outside its image, gets no colour. A
pixel without depth is taken to lie as deep as the nearest pixel with depth, so that its colour may
be displaced where the two differ; its point stays missing.

References:
    Hartley and Zisserman, Multiple View Geometry, 2nd ed., chapter 6 (projection); Brown,
    Decentering distortion of lenses, Photogrammetric Engineering 1966, in OpenCV's order of the
    coefficients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.readers.camera import (
    Intrinsics,
    back_project,
    camera_for,
    distorted,
    rays,
)
from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray

# Cells of the z-buffer per spacing of the depth pixels: above 1, tilted surfaces would have holes.
_CELLS = 0.7
# A surface hides a point if it is nearer by more than the width of so many cells. What is missed
# displaces colours by less than a cell, because parallax grows with the difference of depth.
_TOLERANCE = 3.0
_FARTHEST = 2.0  # metres between two cameras of a station; more are millimetres
_RIGID = 1e-3  # how much a rotation may differ from an orthogonal matrix
_MARKED = 0.25  # of the mask in a pixel, beyond which it is marked
_FITTED, _FEWEST, _OFF = 20_000, 100, 2.0  # points to fit a camera to; pixels it may be off
_SHRUNK = 0.75  # colour images that are finer than this share of the depth's pixels are averaged


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredColour:
    """A colour image in the frame of a depth image.

    Attributes:
        rgb: ``(H, W, 3)`` of the type that was given, 0 without colour.
        hidden: ``(H, W)`` bool, a nearer surface hides the point from the colour camera.
        outside: ``(H, W)`` bool, the point lies outside the colour image.
        remarks: how much is without colour, and what of it was assumed, a sentence each.
    """

    rgb: NDArray[Any]
    hidden: BoolArray
    outside: BoolArray
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColourView:
    """The camera of colours that are to be brought into the frame of the 3D points.

    Attributes:
        camera: its intrinsics.
        extrinsic: 4 rows of 4, from the depth camera's frame to the colour camera's, metres.
    """

    camera: Intrinsics
    extrinsic: tuple[tuple[float, ...], ...]

    def coloured(
        self,
        rgb: FloatArray,
        xyz: FloatArray,
        mask: BoolArray | None,
        *,
        depth_camera: Intrinsics | None,
        name: str,
    ) -> tuple[FloatArray, BoolArray | None, tuple[str, ...]]:
        """Return colours and mask in the frame of the points, and what was assumed or lost.

        Args:
            rgb: ``(H', W', 3)`` in [0, 1].
            xyz: ``(H, W, 3)`` metres in the depth camera's frame.
            mask: of either frame; one of the colours' size was drawn on them.
            depth_camera: None takes the one that the points are of.
            name: of the 3D file in messages.
        """
        camera = camera_of_points(xyz, name) if depth_camera is None else depth_camera
        layers = rgb
        drawn = mask is not None and mask.shape == rgb.shape[:2]
        if mask is not None and drawn:
            layers = np.dstack([rgb, mask.astype(np.float32)])
        found = register_colour(
            layers,
            xyz[..., 2],
            depth_camera=camera,
            colour_camera=self.camera,
            extrinsic=np.array(self.extrinsic),
        )
        if drawn:
            mask = np.asarray(found.rgb[..., 3] > _MARKED)
        return np.ascontiguousarray(found.rgb[..., :3]), mask, found.remarks


def camera_of_points(xyz: FloatArray, name: str) -> Intrinsics:
    """Return the pinhole camera whose pixels see organised points; ``name`` is that of their file.

    Raises:
        DataError: they are not those of a pinhole camera, or too few.
    """
    rows, columns = np.nonzero(xyz[..., 2] > 0)
    chosen = slice(None, None, max(1, len(rows) // _FITTED))
    rows, columns = rows[chosen], columns[chosen]
    points = xyz[rows, columns].astype(np.float64)
    numbers: list[float] = []
    for across, pixels in ((points[:, 0], columns), (points[:, 1], rows)):
        slopes = np.column_stack([across / points[:, 2], np.ones(len(points))])
        found, *_ = np.linalg.lstsq(slopes, pixels.astype(np.float64), rcond=None)
        off = float(np.abs(slopes @ found - pixels).max()) if len(pixels) else np.inf
        if len(pixels) < _FEWEST or off > _OFF or found[0] <= 0:
            raise DataError(
                f"{name} holds points that are not in the pixels of a pinhole camera (by {off:.3g} "
                "pixels), so that colours of another camera cannot be brought to them. Save the "
                "depth map and give --intrinsics of the depth camera."
            )
        numbers += [float(found[0]), float(found[1])]
    return Intrinsics(numbers[0], numbers[2], numbers[1], numbers[3])


def register_colour(
    rgb: NDArray[Any],
    depth_m: FloatArray,
    *,
    depth_camera: Intrinsics,
    colour_camera: Intrinsics,
    extrinsic: NDArray[np.float64],
) -> RegisteredColour:
    """Bring a colour image into the frame of a depth image.

    Args:
        rgb: ``(H', W', 3)``, 8 or 16 bits or floats; a fourth channel is treated as they are.
        depth_m: ``(H, W)`` metres along the optical axis, 0 where missing.
        depth_camera, colour_camera: with their distortion.
        extrinsic: ``(4, 4)``, from the depth camera's frame to the colour camera's, metres.

    Raises:
        DataError: there is no depth, the intrinsics are of images of other shapes, or no point lies
            in the colour image.
    """
    size = (depth_m.shape[0], depth_m.shape[1])
    remarks: list[str] = []
    depth_camera = camera_for(depth_camera, size, "the depth image", remarks)
    colour_camera = camera_for(
        colour_camera, (rgb.shape[0], rgb.shape[1]), "the colour image", remarks
    )
    measured = depth_m > 0
    if not measured.any():
        raise DataError("The depth image holds no measured pixel, so that nothing can be coloured.")
    filled = _filled(depth_m, measured)
    u, v, z = _seen_by(colour_camera, rays(depth_camera, size), filled, extrinsic)
    height, width = rgb.shape[:2]
    outside = (z <= 0) | ~((u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5))
    if outside[measured].all():
        raise DataError(
            "No point of the depth image lies in the colour image: check both intrinsics, and the "
            "extrinsic, which leads from the depth camera to the colour camera, in metres."
        )
    share = _CELLS * depth_camera.fx / colour_camera.fx
    hidden = _hidden(u, v, z, measured & ~outside, outside, colour_camera, min(share, 1.0))
    image, shift = _averaged(rgb, depth_camera.fx / colour_camera.fx)
    coloured = cv2.remap(
        image,
        *cv2.convertMaps(u * shift[0] + shift[1], v * shift[2] + shift[3], cv2.CV_32FC1),
        interpolation=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    coloured[hidden | outside] = 0
    remarks += [
        f"{_in_words(share)} of the pixels {reason} and have no colour."
        for lost, reason in (
            (hidden, "are hidden from the colour camera by a nearer surface"),
            (outside & ~hidden, "lie outside the colour image"),
        )
        if (share := float(lost.mean())) > 0
    ]
    return RegisteredColour(coloured, hidden, outside, tuple(remarks))


def _in_words(share: float) -> str:
    """Return a share in whole per cent, so that equal remarks of many parts can be counted."""
    return "Less than 1 %" if share < 0.01 else f"{share:.0%}"


def register_points(
    depth_m: FloatArray,
    *,
    depth_camera: Intrinsics,
    colour_size: tuple[int, int],
    colour_camera: Intrinsics,
    extrinsic: NDArray[np.float64],
) -> FloatArray:
    """Bring a depth image into the frame of a colour image of ``colour_size`` (height, width).

    Each point covers as many pixels as its own pixel does at its distance, and the nearest point of
    a pixel is kept. Arguments as ``register_colour``. Returns ``(H', W', 3)`` float32 metres in the
    colour camera's frame, 0 where missing.
    """
    size = (depth_m.shape[0], depth_m.shape[1])
    depth_camera = camera_for(depth_camera, size, "the depth image")
    colour_camera = camera_for(colour_camera, colour_size, "the colour image")
    measured = depth_m > 0
    u, v, z = _seen_by(colour_camera, rays(depth_camera, size), depth_m, extrinsic)
    used = measured & (z > 0)
    u, v, z, own = u[used], v[used], z[used], depth_m[used]
    # Pixels of the colour image that one of the depth image covers.
    wide = float(np.median(own / z)) * colour_camera.fx / depth_camera.fx if z.size else 1.0
    reach = max(int(np.ceil(wide)), 1)
    nearest = np.full(colour_size, np.inf, np.float32)
    start = -((reach - 1) / 2)
    for row in range(reach):
        for column in range(reach):
            _keep_nearest(nearest, u + start + column, v + start + row, z)
    depth = np.where(np.isfinite(nearest), nearest, np.float32(0))
    return back_project(depth, colour_camera)


def scaled_to(
    image: NDArray[Any], size: tuple[int, int], *, mask: bool = False
) -> NDArray[Any] | None:
    """Scale an image of one camera to ``size`` (height, width) by a whole ratio, or return None.

    Args:
        image: ``(H, W)`` or ``(H, W, 3)``. Where it is finer, its pixels are averaged.
        size: of the 3D points of the same camera.
        mask: whether any marked pixel marks the pixel that it falls into.
    """
    height, width = image.shape[:2]
    coarser, finer = height // size[0], size[0] // height
    if coarser > 1 and (size[0] * coarser, size[1] * coarser) == (height, width):
        values = image.astype(np.float32) if mask else image
        scaled = cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(scaled > 0) if mask else np.asarray(scaled)
    if finer > 1 and (height * finer, width * finer) == size:
        values = image.astype(np.uint8) if mask else image
        kind = cv2.INTER_NEAREST if mask else cv2.INTER_LINEAR
        scaled = cv2.resize(values, size[::-1], interpolation=kind)
        return np.asarray(scaled > 0) if mask else np.asarray(scaled)
    return None


def read_extrinsic(path: Path | str) -> NDArray[np.float64]:
    """Read where the colour camera stands: ``(4, 4)``, from the depth camera's frame to its own.

    JSON or YAML: a matrix 4 x 4 or 3 x 4, or a mapping of one (``extrinsic``, ``T``, ``matrix``),
    or of a rotation 3 x 3 by rows (``rotation``, ``R``) and a translation in metres
    (``translation``, ``t``).

    Raises:
        DataError: the file cannot be read, or holds no rigid motion in metres.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be read: {cause}") from cause
    return extrinsic_from_bytes(content, str(path))


def extrinsic_from_bytes(
    content: bytes, source: str, suffix: str | None = None
) -> NDArray[np.float64]:
    """Decode a file as ``read_extrinsic`` does; ``source`` names it in messages.

    ``suffix`` is that of its name; None takes that of ``source``.
    """
    suffix = Path(source).suffix.lower() if suffix is None else suffix.lower()
    try:
        text = content.decode("utf-8-sig")
        if suffix in (".yaml", ".yml"):
            import yaml  # not part of a station

            values = yaml.safe_load(text)
        else:
            values = json.loads(text)
    except ValueError as cause:
        raise DataError(f"{source} cannot be read as JSON: {cause}") from cause
    except Exception as cause:  # of the YAML reader
        raise DataError(f"{source} cannot be read as YAML: {cause}") from cause
    return checked_extrinsic(_matrix(values, source), source)


def checked_extrinsic(matrix: NDArray[np.float64], source: str) -> NDArray[np.float64]:
    """Return ``(4, 4)``; raises ``DataError`` unless it is a rigid motion of metres."""
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    if not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
        raise DataError(f"{source} has the last row {matrix[3].tolist()}; 0, 0, 0, 1 was expected.")
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > _RIGID or np.linalg.det(rotation) < 0:
        raise DataError(
            f"{source} holds no rotation: its rows are no orthogonal unit vectors (by "
            f"{error:.3g}), or it mirrors. Give the rotation from the depth camera to the colour "
            "camera."
        )
    if float(np.linalg.norm(translation)) > _FARTHEST:
        raise DataError(
            f"{source} has the translation {translation.tolist()}, which is "
            f"{np.linalg.norm(translation):.3g} m long; two cameras of one station are nearer. "
            "Write it in metres: millimetres divided by 1000."
        )
    return matrix


_WHOLE = ("extrinsic", "extrinsics", "matrix", "transform", "transformation", "t", "pose")
_ROTATIONS, _TRANSLATIONS = ("rotation", "r", "rot"), ("translation", "t", "trans")


def _matrix(content: Any, source: str) -> NDArray[np.float64]:
    """Return a 4 x 4 matrix of what a file holds."""
    if isinstance(content, Mapping):
        facts = {str(name).lower(): value for name, value in content.items()}
        rotation = next((facts[name] for name in _ROTATIONS if name in facts), None)
        shift = next((facts[name] for name in _TRANSLATIONS if name in facts), None)
        if rotation is not None and shift is not None:
            rows = _numbers(rotation, source)
            if rows.size == 9:
                joined = np.column_stack([rows.reshape(3, 3), _numbers(shift, source).ravel()[:3]])
                return np.vstack([joined, [0.0, 0.0, 0.0, 1.0]])
        inner = next((facts[name] for name in _WHOLE if name in facts), None)
        if inner is None and len(facts) == 1:
            inner = next(iter(facts.values()))
        if inner is not None:
            return _matrix(inner, source)
    else:
        values = _numbers(content, source)
        if values.size == 16:
            matrix = values.reshape(4, 4)
            by_columns = bool(matrix[3, :3].any()) and not matrix[:3, 3].any()
            return matrix.T if by_columns else matrix
        if values.size == 12:
            return np.vstack([values.reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
    raise DataError(
        f"{source} holds no extrinsic; write a matrix of 4 rows, or "
        '{"rotation": [[...], [...], [...]], "translation": [x, y, z]} in metres, from the depth '
        "camera to the colour camera."
    )


def _numbers(value: Any, source: str) -> NDArray[np.float64]:
    data = value.get("data", value) if isinstance(value, Mapping) else value
    try:
        return np.asarray(data, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"{source} holds {value!r}, where numbers were expected.") from cause


def _filled(depth: FloatArray, measured: BoolArray) -> FloatArray:
    """Return depth where missing pixels have that of the nearest measured one."""
    if measured.all():
        return depth
    _, labels = cv2.distanceTransformWithLabels(
        (~measured).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(labels.max()) + 1, np.float32)
    of_label[labels[measured]] = depth[measured]
    return np.asarray(of_label[labels])


def _seen_by(
    camera: Intrinsics,
    across: FloatArray,
    depth: FloatArray,
    extrinsic: NDArray[np.float64],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return column, row and distance of points in a camera's image, each ``(H, W)`` float32."""
    turn = extrinsic.astype(np.float32)
    x, y = across[..., 0] * depth, across[..., 1] * depth
    right, down, z = (r[0] * x + r[1] * y + r[2] * depth + r[3] for r in turn[:3])
    inverse = np.float32(1) / np.where(z > 0, z, np.float32(np.inf))
    right, down = distorted(camera.distortion, right * inverse, down * inverse)
    u = right * np.float32(camera.fx) + np.float32(camera.cx)
    v = down * np.float32(camera.fy) + np.float32(camera.cy)
    return u, v, z


def _hidden(
    u: FloatArray,
    v: FloatArray,
    z: FloatArray,
    used: BoolArray,
    outside: BoolArray,
    camera: Intrinsics,
    scale: float,
) -> BoolArray:
    """Return ``(H, W)`` bool: a nearer measured point covers the pixel in the camera's image.

    Args:
        u, v, z: column, row and distance of all pixels.
        used: measured ones inside the image, which may cover others.
        outside: of the image.
        camera: of the image.
        scale: cells of the z-buffer per pixel of the image.
    """
    columns, rows = (u + np.float32(0.5)) * scale, (v + np.float32(0.5)) * scale
    inside = ~outside
    width = int(np.ceil(columns[inside].max())) + 1
    height = int(np.ceil(rows[inside].max())) + 1
    nearest = np.full((height, width), np.inf, np.float32)
    _keep_nearest(nearest, columns[used] - np.float32(0.5), rows[used] - np.float32(0.5), z[used])
    # Gaps between the points of a surface are closed, and its borders stay where they are.
    around = np.ones((3, 3), np.uint8)
    covering = cv2.dilate(cv2.erode(nearest, around), around)
    cell = np.where(inside, rows, 0).astype(np.int64) * width
    cell += np.where(inside, columns, 0).astype(np.int64)
    margin = np.float32(_TOLERANCE / (camera.fx * scale))
    return np.asarray(inside & (covering.ravel()[cell] < z * (1 - margin)))


def _keep_nearest(nearest: FloatArray, u: FloatArray, v: FloatArray, z: FloatArray) -> None:
    """Put distances into the cells of their points, in place; the nearest of a cell stays."""
    height, width = nearest.shape
    columns, rows = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    np.minimum.at(nearest.ravel(), (rows * width + columns)[inside], z[inside])


def _averaged(
    rgb: NDArray[Any], share: float
) -> tuple[NDArray[Any], tuple[np.float32, np.float32, np.float32, np.float32]]:
    """Return a colour image about as coarse as the depth image, and how columns and rows shift.

    Sampling a finer image would show single pixels of it, with their noise.
    """
    height, width = rgb.shape[:2]
    if share >= _SHRUNK:
        new_height, new_width, image = height, width, rgb
    else:
        new_height, new_width = max(round(height * share), 1), max(round(width * share), 1)
        image = cv2.resize(rgb, (new_width, new_height), interpolation=cv2.INTER_AREA)
    across, down = new_width / width, new_height / height
    shift = (across, across / 2 - 0.5, down, down / 2 - 0.5)
    return image, tuple(map(np.float32, shift))  # type: ignore[return-value]
