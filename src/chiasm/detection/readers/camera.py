"""The pinhole camera: intrinsics in every usual notation, and points of a depth image."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.sensors.camera_notations import (
    depth_unit_of,
    facts_of_text,
    lens_of,
    levels_of,
    matrix_data,
)
from chiasm.errors import DataError
from chiasm.samples import FloatArray

Values = NDArray[Any]  # float32 or float64
_ROUNDS = 30  # of the iteration that takes a distortion out
# Of the width: least focal length of a pinhole, and most from the principal point to the middle.
_LEAST_FOCAL, _OFF_MIDDLE = 0.1, 0.2
# Ratio of the focal lengths of a camera, whose pixels are nearly square, and pixels of a skew.
_OBLONG, _MOST_SKEW = 1.5, 1.0


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera.

    Attributes:
        fx, fy: focal length in pixels.
        cx, cy: principal point in pixels; (0, 0) is the centre of the first pixel.
        width, height: of the image that they belong to, in pixels; None where that is unknown.
        distortion: coefficients in OpenCV's order (k1, k2, p1, p2, k3, ...); () without any.
        depth_unit: metres of one count of depth, where the camera's file says so.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None
    distortion: tuple[float, ...] = ()
    depth_unit: float | None = None

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(np.isfinite(values)) or self.fx <= 0 or self.fy <= 0:
            raise DataError(
                f"Camera intrinsics fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy} are "
                "impossible: all must be finite and the focal lengths positive, in pixels."
            )


def back_project(depth: NDArray[np.floating], camera: Intrinsics) -> FloatArray:
    """Turn a depth image into the 3D points of its pixels.

    ``depth`` is ``(H, W)`` metres along the optical axis (not along the ray), 0 where missing.
    Returns ``(H, W, 3)`` float32 metres, x right, y down, z forward, 0 where missing; the camera's
    distortion is taken out.

    Example:
        >>> back_project(np.full((1, 2), 2.0), Intrinsics(fx=1, fy=1, cx=0, cy=0))[0, 1].tolist()
        [2.0, 0.0, 2.0]
    """
    height, width = depth.shape
    z = depth.astype(np.float64)
    if camera.distortion:
        across = rays(camera, (height, width)).astype(np.float64)
        return np.dstack([across * z[..., None], z]).astype(np.float32)
    x = (np.arange(width)[None, :] - camera.cx) / camera.fx * z
    y = (np.arange(height)[:, None] - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=2).astype(np.float32)


@lru_cache(maxsize=4)
def rays(camera: Intrinsics, size: tuple[int, int]) -> FloatArray:
    """Return where the pixels of an image of ``size`` (height, width) look at a distance of 1.

    Returns ``(H, W, 2)`` float32: x and y where z is 1, without the camera's distortion.
    """
    x0 = np.broadcast_to((np.arange(size[1]) - camera.cx) / camera.fx, size)
    y0 = np.broadcast_to(((np.arange(size[0]) - camera.cy) / camera.fy)[:, None], size)
    x, y = x0, y0
    for _ in range(_ROUNDS if camera.distortion else 0):  # a fixed point, as OpenCV finds it
        shown_x, shown_y = distorted(camera.distortion, x, y)
        x, y = x + (x0 - shown_x), y + (y0 - shown_y)
    across = np.stack([x, y], axis=2).astype(np.float32)
    across.flags.writeable = False  # it is shared by all who ask
    return across


def distorted(coefficients: tuple[float, ...], x: Values, y: Values) -> tuple[Values, Values]:
    """Return where a lens shows the points ``(x, y)`` of the plane at a distance of 1.

    ``coefficients`` are those of Brown's model in OpenCV's order.
    """
    if not any(coefficients):
        return x, y
    if len(coefficients) > 8:  # with prism and tilt
        points = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 1, 3).astype(np.float64)
        shown, _ = cv2.projectPoints(
            points, np.zeros(3), np.zeros(3), np.eye(3), np.array(coefficients)
        )
        flat = shown.reshape(*x.shape, 2)
        return flat[..., 0].astype(x.dtype), flat[..., 1].astype(x.dtype)
    k1, k2, p1, p2, k3, k4, k5, k6 = (
        x.dtype.type(c) for c in (*coefficients, *[0.0] * (8 - len(coefficients)))
    )
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    if k4 or k5 or k6:
        radial /= 1 + square * (k4 + square * (k5 + square * k6))
    twice = 2 * x * y
    return (
        x * radial + p1 * twice + p2 * (square + 2 * x * x),
        y * radial + p2 * twice + p1 * (square + 2 * y * y),
    )


def camera_for(
    camera: Intrinsics, size: tuple[int, int], source: str, remarks: list[str] | None = None
) -> Intrinsics:
    """Return the intrinsics for an image of ``size`` (height, width).

    Those of an image of the same shape and another size are scaled, which ``remarks`` gets told.

    Raises:
        DataError: the intrinsics are of an image of another shape, or their principal point lies
            outside this one; ``source`` names the image.
    """
    height, width = size
    if camera.fx < _LEAST_FOCAL * width:
        raise DataError(
            f"The focal length fx is {camera.fx:g} and {source} is {width} pixels wide, so that it "
            "is in another unit: millimetres, or shares of the width. Write fx, fy, cx and cy in "
            "pixels (shares times width or height; millimetres divided by those of a pixel)."
        )
    if camera.width and camera.height and (camera.height, camera.width) != size:
        ratio = width / camera.width
        if abs(camera.height * ratio - height) > 0.5:
            raise DataError(
                f"The intrinsics are of {camera.width} x {camera.height} pixels, and {source} has "
                f"{width} x {height}: they belong to another camera or to another mode of it. Give "
                "those of this mode; if only the size is wrong in their file, remove it there."
            )
        if remarks is not None:
            remarks.append(
                f"The intrinsics are of {camera.width} x {camera.height} pixels and were scaled to "
                f"{width} x {height}."
            )
        return replace(
            camera,
            fx=camera.fx * ratio,
            fy=camera.fy * ratio,
            cx=(camera.cx + 0.5) * ratio - 0.5,
            cy=(camera.cy + 0.5) * ratio - 0.5,
            width=width,
            height=height,
        )
    if not (0 <= camera.cx <= width and 0 <= camera.cy <= height):
        raise DataError(
            f"The principal point ({camera.cx:g}, {camera.cy:g}) lies outside {source}, which has "
            f"{width} x {height} pixels: the intrinsics are of another camera or of another size "
            "of image. Give those of this image."
        )
    off = max(abs(camera.cx - (width - 1) / 2) / width, abs(camera.cy - (height - 1) / 2) / height)
    if off > _OFF_MIDDLE and not camera.width and remarks is not None:
        remarks.append(
            f"The principal point ({camera.cx:g}, {camera.cy:g}) lies far from the middle of an "
            f"image of {width} x {height}: if the intrinsics are of another size of image, write "
            "its width and height beside them."
        )
    return camera


CAMERA_COLUMNS = ("fx", "fy", "cx", "cy")
# Plain names of the four numbers, of the 3 x 3 matrix and of the other facts.
_FOCAL, _MIDDLE = ("f", "focal", "focallength"), ("principalpoint", "pp", "center", "centre")
_NUMBERS = {
    "fx": ("fx", "focalx", "focallengthx"),
    "fy": ("fy", "focaly", "focallengthy"),
    "cx": ("cx", "ppx", "px0", "principalx", "principalpointx"),
    "cy": ("cy", "ppy", "py0", "principaly", "principalpointy"),
}
_MATRICES = (
    *("k", "cameramatrix", "intrinsicmatrix", "camk", "camintrinsic", "intrinsics", "matrix"),
    *("intrinsic", "intrinsicsmatrix", "cameraintrinsics", "cameraintrinsic", "kmatrix", "mtx"),
)
_FOUR = ("intrinsics", "intrinsic", "cameraintrinsics")  # fx, fy, cx, cy: Kalibr
_WIDTHS, _HEIGHTS = ("width", "imagewidth", "w"), ("height", "imageheight", "h")
# Words in the names of levels, by what a camera is of.
_OF_DEPTH, _OF_COLOUR = ("depth",), ("color", "colour", "rgb", "texture")
_EXAMPLE = '{"fx": ..., "fy": ..., "cx": ..., "cy": ...}'


def read_intrinsics(path: Path | str, *, colour: bool = False) -> Intrinsics:
    """Read intrinsics from a JSON, YAML, MATLAB, text, npy or npz file.

    Known are fx, fy, cx and cy (or ppx and ppy), a matrix ``K``, ``camera_matrix`` (OpenCV, ROS),
    ``intrinsic_matrix`` (Open3D's order of columns too), ``cam_K`` and ``factor_depth``; they may
    lie below a name such as ``depth``. Of several cameras the one of depth is taken, or that of
    ``colour``.

    Raises ``DataError`` for a file that is missing, cannot be read, lacks one of the numbers, or
    holds several cameras of which none is named so.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be read: {cause}") from cause
    return intrinsics_from_bytes(content, str(path), colour=colour)


def intrinsics_from_bytes(content: bytes, source: str, *, colour: bool = False) -> Intrinsics:
    """Decode intrinsics as ``read_intrinsics`` does; ``source`` names them in messages."""
    values = _content(content, source, Path(source).suffix.lower())
    if isinstance(values, Mapping):
        return camera_from_mapping(values, source, colour=colour)
    return _of_matrix(values, source)


def _content(content: bytes, source: str, suffix: str) -> Any:
    """Return what a file holds: a mapping, or numbers."""
    if suffix == ".mat":
        return _matlab(content, source)
    try:
        if suffix == ".npy":
            return np.load(BytesIO(content), allow_pickle=False)
        if suffix == ".npz":
            with np.load(BytesIO(content), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        text = content.decode("utf-8-sig")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as cause:
        raise DataError(f"{source} cannot be read: {cause}") from cause
    if suffix in (".yaml", ".yml"):
        return _yaml(text, source)
    if suffix == ".xml":
        raise DataError(f"{source} is XML; write {_EXAMPLE} in a JSON file, in pixels.")
    try:
        values = json.loads(text)
    except ValueError as cause:
        try:
            return np.array([float(word) for word in text.replace(",", " ").split()])
        except ValueError:
            facts = facts_of_text(text)
            if facts is None or text.lstrip()[:1] == "{":
                raise DataError(
                    f"{source} cannot be read as JSON ({cause}); write {_EXAMPLE}, in pixels."
                ) from cause
            return facts
    if not isinstance(values, dict) and np.size(values) not in (4, 9, 12, 16):
        raise DataError(f"{source} holds no JSON object; write {_EXAMPLE}.")
    return values


def _matlab(content: bytes, source: str) -> dict[str, Any]:
    try:
        from scipy.io import loadmat  # not part of a station
    except ImportError as cause:
        raise DataError(
            f"{source} is a MATLAB file, which needs scipy: pip install scipy, or write {_EXAMPLE} "
            "in a JSON file, in pixels."
        ) from cause
    try:
        values = loadmat(BytesIO(content), simplify_cells=True)
    except Exception as cause:  # a damaged file makes scipy raise nearly anything
        raise DataError(f"{source} cannot be read as a MATLAB file up to 7.2: {cause}") from cause
    return {name: value for name, value in values.items() if not name.startswith("__")}


def _yaml(text: str, source: str) -> Any:
    try:
        import yaml  # not part of a station
    except ImportError as cause:
        raise DataError(
            f"{source} needs PyYAML: pip install pyyaml, or write {_EXAMPLE} in a JSON file."
        ) from cause

    class Loader(yaml.SafeLoader):
        """Reads OpenCV's matrices as mappings."""

    def mapping(loader: yaml.SafeLoader, node: Any) -> Any:
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", mapping)
    # OpenCV writes a directive that is no YAML.
    lines = [line for line in text.splitlines() if not line.startswith("%YAML")]
    try:
        # ROS ends each message with a mark of documents.
        documents = yaml.load_all("\n".join(lines), Loader)
        content = next((document for document in documents if document is not None), None)
    except yaml.YAMLError as cause:
        raise DataError(f"{source} cannot be read as YAML: {cause}") from cause
    if not isinstance(content, Mapping | list):
        raise DataError(f"{source} holds no 'name: value' lines with fx, fy, cx and cy.")
    return content


def camera_of(value: Any) -> Intrinsics:
    """Return the intrinsics in a record, a mapping, a 3 x 3 matrix or a file.

    Raises ``DataError`` if one of the four numbers is missing.
    """
    if isinstance(value, Intrinsics):
        return value
    if isinstance(value, str | Path):
        return read_intrinsics(value)
    if isinstance(value, Mapping):
        return camera_from_mapping(value, "intrinsics")
    return _of_matrix(value, "intrinsics")


def camera_from_mapping(
    values: Mapping[str, Any], source: str, *, colour: bool = False
) -> Intrinsics:
    """Make intrinsics from names and numbers in any notation.

    Args:
        values: that may hold cameras at deeper levels.
        source: names their origin in messages.
        colour: take the camera of colour of several; else that of depth.

    Raises:
        DataError: a number is missing, or it is not told which of several cameras is meant.
    """
    cameras: dict[str, Intrinsics] = {}
    for name, facts, outer in levels_of(values):
        camera = _camera(facts, outer, source)
        if camera is not None:
            cameras[name] = camera
        if camera is not None and not name:
            break  # what lies deeper is something else
    if not cameras:
        return camera_from_text(values, source)
    words = _OF_COLOUR if colour else _OF_DEPTH
    named = {name: c for name, c in cameras.items() if any(word in name for word in words)}
    if not named and len(cameras) > 1 and not colour:
        # Depth of a stereo camera is that of its left one.
        named = {name: c for name, c in cameras.items() if name.endswith(("left", "camera1"))}
    chosen = named or cameras
    if len({(c.fx, c.fy, c.cx, c.cy) for c in chosen.values()}) > 1:
        raise DataError(
            f"{source} holds the cameras {', '.join(cameras)}, and it is not told which one is of "
            f"{words[0]}. Write the numbers of that one into a file of its own: {_EXAMPLE}."
        )
    return next(iter(chosen.values()))


def _camera(facts: Mapping[str, Any], outer: Mapping[str, Any], source: str) -> Intrinsics | None:
    numbers = _four_numbers(facts)
    if all(value is not None for value in numbers.values()):
        camera = camera_from_text(numbers, source)
    else:
        matrix = next((facts[name] for name in _MATRICES if _is_matrix(facts.get(name))), None)
        if matrix is None:
            return None
        camera = _of_matrix(matrix_data(matrix), source)
    facts = {**outer, **facts}
    size = facts.get("imagesize", facts.get("resolution"))
    if isinstance(size, list | tuple | np.ndarray) and len(size) == 2:
        # MATLAB writes rows first, others columns; the principal point is near the middle.
        first = abs(2 * camera.cx - size[0]) + abs(2 * camera.cy - size[1])
        other = abs(2 * camera.cx - size[1]) + abs(2 * camera.cy - size[0])
        width, height = size if first <= other else size[::-1]
        facts = {"width": width, "height": height, **facts}
    return replace(
        camera,
        width=_whole(next((facts[n] for n in _WIDTHS if n in facts), None)),
        height=_whole(next((facts[n] for n in _HEIGHTS if n in facts), None)),
        distortion=lens_of(facts, source),
        depth_unit=depth_unit_of(facts),
    )


def _four_numbers(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return fx, fy, cx and cy by name, None where one is not there."""
    numbers = {
        column: next((facts[name] for name in names if name in facts), None)
        for column, names in _NUMBERS.items()
    }
    four = next((v for n in _FOUR if _length(v := facts.get(n)) == 4), None)
    if four is not None:
        return dict(zip(CAMERA_COLUMNS, four))
    for names, columns in ((_FOCAL, ("fx", "fy")), (_MIDDLE, ("cx", "cy"))):
        value = next((facts[name] for name in names if name in facts), None)
        pair: Any = value if _length(value) == 2 else (value, value) if names is _FOCAL else ()
        numbers |= {c: v for c, v in zip(columns, pair) if numbers[c] is None}
    return numbers


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | np.ndarray) else 0


def _is_matrix(value: Any) -> bool:
    data = matrix_data(value)
    try:
        return data is not None and np.asarray(data, dtype=np.float64).size in (9, 12, 16)
    except (TypeError, ValueError):
        return False


def _whole(value: Any) -> int | None:
    try:
        return int(value) if value is not None and int(value) > 0 else None
    except (TypeError, ValueError):
        return None


def _of_matrix(value: Any, source: str) -> Intrinsics:
    """Make intrinsics of 3 x 3 numbers by rows or by columns, or of fx, fy, cx and cy."""
    try:
        matrix = np.asarray(value, dtype=np.float64).squeeze()
    except (TypeError, ValueError) as cause:
        raise DataError(f"{source} holds no numbers of a camera; write {_EXAMPLE}.") from cause
    if matrix.shape == (4,):
        if min(matrix[:2]) > 0 and max(matrix[:2]) > _OBLONG * min(matrix[:2]):
            raise DataError(
                f"{source} holds the numbers {matrix.tolist()}, and fx, fy, cx, cy were expected, "
                f"in this order: these two focal lengths differ too much. Write {_EXAMPLE} in a "
                "JSON file."
            )
        return camera_from_text(dict(zip(CAMERA_COLUMNS, matrix)), source)
    if matrix.size in (12, 16) and matrix.ndim == 1:
        matrix = matrix.reshape(-1, 4)
    if matrix.shape == (4, 4) and not matrix[:3, 3].any():
        matrix = matrix[:3]
    if matrix.shape == (3, 4):
        matrix = matrix[:, :3]
    if matrix.size != 9:
        raise DataError(
            f"{source} holds numbers of shape {matrix.shape}; fx, fy, cx and cy or a 3 x 3 matrix "
            "were expected."
        )
    matrix = matrix.reshape(3, 3)
    if not matrix[:2, 2].any() and matrix[2, :2].any():
        matrix = matrix.T  # by columns, as Open3D and MATLAB write it
    if matrix[2, :2].any() or matrix[2, 2] == 0 or matrix[1, 0]:
        raise DataError(
            f"{source} holds the matrix {matrix.tolist()}, which is none of a camera: fx, 0, cx; "
            "0, fy, cy; 0, 0, 1 were expected."
        )
    matrix = matrix / matrix[2, 2]
    if abs(matrix[0, 1]) > _MOST_SKEW:
        raise DataError(
            f"{source} has a skew of {matrix[0, 1]:g} pixels in its matrix, and a camera without "
            "one was expected: calibrate with a skew of 0, or write 0 where that is good enough."
        )
    return camera_from_text(
        {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}, source
    )


def camera_from_text(values: Mapping[str, Any], source: str) -> Intrinsics:
    """Make intrinsics from four texts or numbers; ``source`` names their origin in messages."""
    try:
        fx, fy, cx, cy = (float(values[column]) for column in CAMERA_COLUMNS)
        return Intrinsics(fx, fy, cx, cy)
    except (KeyError, TypeError, ValueError) as cause:
        listing = ", ".join(f"{column}={values.get(column, '')!s}" for column in CAMERA_COLUMNS)
        raise DataError(
            f"{source} has {listing}; depth needs the camera's fx, fy, cx and cy in pixels, as "
            "columns or in an intrinsics JSON file."
        ) from cause
    except DataError as cause:
        raise DataError(f"{source}: {cause}") from cause
