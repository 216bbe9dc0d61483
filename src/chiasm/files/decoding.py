"""Decode the bytes of a file to arrays; the format is told by the content, not by the name."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from chiasm.errors import DataError

TiffCheck = Callable[[tifffile.TiffFile], None]
TIFF_MARKS = frozenset({b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"})
METRES = "unit: metre"  # in the description of point maps that chiasm has written
_EXR_MARK, _NPY_MARK, _ZIP_MARK = b"v/1\x01", b"\x93NUMPY", b"PK\x03\x04"
_PICTURE_MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF", b"P5", b"P6", b"Pf", b"PF")
_NODATA_TAG = 42113  # GDAL's marker of missing values
# Names under which programs store depth, points and what is measured.
_DEPTH_NAMES = ("depth", "height", "range", "distance", "z", "heightmap", "depth_map")
_POINT_NAMES = ("xyz", "points", "point_map", "pointmap", "vertices", "cloud", "pc")
_COLOUR_NAMES = ("rgb", "color", "colour", "colors", "colours", "image")
_VALID_NAMES = ("valid", "valid_mask", "mask", "validity")
_MARKER_NAMES = ("invalid_sentinel", "invalid", "missing", "nodata", "no_data")


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a file of depth, heights or points holds.

    Attributes:
        values: ``(H, W)`` or ``(H, W, C)`` as stored.
        missing: markers of missing values that the file itself names.
        valid: ``(H, W)`` bool of what was measured, where the file says so.
        metres: whether the file says that its unit is the metre.
        rgb: ``(H, W, 3)`` colours of the same pixels, as stored, or None.
        remarks: what was chosen in the file, a sentence each.
    """

    values: NDArray[Any]
    missing: tuple[float, ...] = ()
    valid: NDArray[np.bool_] | None = None
    metres: bool = False
    rgb: NDArray[Any] | None = None
    remarks: tuple[str, ...] = field(default=())


def bytes_of(path: Path) -> bytes:
    """Read a file; raises ``DataError`` for one that is missing or empty."""
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
    if not content:
        raise DataError(f"{path} is empty (0 bytes); copy the file again from its origin.")
    return content


def numbers_of(content: bytes, source: str, check: TiffCheck | None = None) -> Numbers:
    """Decode TIFF, PNG, npy, npz or OpenEXR.

    Args:
        content: of the file.
        source: names it in messages.
        check: may raise ``DataError`` for a TIFF's header before it is decoded.

    Raises:
        DataError: the file is damaged or of another format.
    """
    return _of_one_channel(_decoded(content, source, check))


def _of_one_channel(numbers: Numbers) -> Numbers:
    """Return one of three channels that are equal, as programs write that know colours alone."""
    values = numbers.values
    if numbers.metres or values.ndim != 3 or values.shape[2] != 3:
        return numbers
    first = values[..., :1]
    if not (first != first[:1, :1]).any():
        return numbers  # one value throughout is no measurement
    rows = slice(None, None, max(1, len(values) // 8))
    if not (values[rows] == first[rows]).all() or not (values == first).all():
        return numbers
    return replace(
        numbers,
        values=values[..., 0],
        remarks=(*numbers.remarks, "Its three channels are equal: one of them was read."),
    )


def _decoded(content: bytes, source: str, check: TiffCheck | None) -> Numbers:
    if content[:4] in TIFF_MARKS:
        return _tiff(content, source, check)
    if content.startswith(_NPY_MARK):
        return Numbers(_shaped(_npy(content, source)))
    if content.startswith(_ZIP_MARK):
        return _npz(content, source)
    if content.startswith(_EXR_MARK):
        return Numbers(_exr(content, source))
    if content.startswith(_PICTURE_MARKS):
        values = _shaped(decode_picture(content, source))
        # OpenCV's order is blue, green, red; the file's is x, y, z.
        return Numbers(values[..., [2, 1, 0]] if values.shape[2:] == (3,) else values)
    raise DataError(
        f"{source} cannot be decoded: it is damaged, or of another format than TIFF, PNG, npy, "
        "npz and OpenEXR."
    )


def is_numbers(content: bytes) -> bool:
    """Return whether ``numbers_of`` knows the format, by the first bytes."""
    marks = (_NPY_MARK, _ZIP_MARK, _EXR_MARK, *_PICTURE_MARKS)
    return content[:4] in TIFF_MARKS or content.startswith(marks)


def decode_picture(content: bytes, source: str) -> NDArray[Any]:
    """Decode what OpenCV reads, channels in the order blue, green, red; as stored."""
    # imread fails on non-ASCII paths on some platforms, and without a reason.
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as cause:
        raise DataError(f"{source} cannot be decoded as an image ({cause.err}).") from cause
    if pixels is None:
        raise DataError(
            f"{source} cannot be decoded as an image: it is damaged or of another format than "
            "PNG, JPEG or TIFF."
        )
    return np.asarray(pixels)


def _tiff(content: bytes, source: str, check: TiffCheck | None) -> Numbers:
    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            if check is not None:
                check(file)
            values = np.asarray(file.asarray())
            tags = file.pages.first.tags
            description = str(tags[270].value) if 270 in tags else ""
            nodata = str(tags[_NODATA_TAG].value) if _NODATA_TAG in tags else ""
    except DataError:
        raise
    except Exception as cause:  # a damaged file makes tifffile raise nearly anything
        if "imagecodecs" in str(cause):
            raise DataError(
                f"{source} is compressed in a way that needs a package more ({cause}): pip install "
                "'chiasm[formats]', or save it with deflate compression or none."
            ) from cause
        raise DataError(
            f"{source} cannot be decoded as TIFF ({cause}); it may be damaged."
        ) from cause
    try:
        missing: tuple[float, ...] = (float(nodata.strip("\0 ")),)
    except ValueError:
        missing = ()
    return Numbers(_shaped(values), missing, metres=METRES in description)


def _npy(content: bytes, source: str) -> NDArray[Any]:
    try:
        values = np.asarray(np.load(BytesIO(content), allow_pickle=False))
    except (ValueError, EOFError, OSError) as cause:
        raise DataError(f"{source} cannot be read as a numpy array ({cause}).") from cause
    if values.dtype.kind not in "uif":
        raise DataError(
            f"{source} holds {values.dtype} values; numbers were expected: depth (height, width) "
            "or points (height, width, 3)."
        )
    return values


def _npz(content: bytes, source: str) -> Numbers:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as cause:
        raise DataError(f"{source} cannot be read as an npz archive ({cause}).") from cause
    name = _chosen(arrays, source)
    values = _shaped(arrays[name])
    lower = {key.lower(): array for key, array in arrays.items()}
    valid = next(
        (lower[key] for key in _VALID_NAMES if key in lower and lower[key].dtype.kind in "bu"), None
    )
    if valid is not None and valid.shape != values.shape[:2]:
        valid = None
    missing = tuple(
        float(lower[key]) for key in _MARKER_NAMES if key in lower and lower[key].shape == ()
    )
    rgb = next((lower[key] for key in _COLOUR_NAMES if key in lower), None)
    if rgb is not None and (rgb.shape != (*values.shape[:2], 3) or rgb.dtype.kind not in "uf"):
        rgb = None
    used = [name] + ["the validity"] * (valid is not None) + ["the colours"] * (rgb is not None)
    remark = f"Of an npz archive ({', '.join(arrays)}), {' and '.join(used)} were read."
    return Numbers(
        values,
        missing,
        valid=None if valid is None else valid.astype(np.bool_),
        rgb=rgb,
        remarks=(remark,) if len(arrays) > 1 else (),
    )


def _chosen(arrays: Mapping[str, NDArray[Any]], source: str) -> str:
    """Return the name of the array of an archive that is depth or points."""
    images = {
        name: array.shape
        for name, array in arrays.items()
        if array.dtype.kind in "uif" and array.ndim in (2, 3) and min(array.shape[:2]) > 1
        if name.lower() not in (*_COLOUR_NAMES, *_VALID_NAMES)
    }
    for known in (_POINT_NAMES, _DEPTH_NAMES):
        for name in images:
            if name.lower() in known:
                return name
    if len(images) == 1:
        return next(iter(images))
    listing = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    raise DataError(
        f"{source} holds {listing or 'nothing'}; name the array to read 'xyz' (height, width, 3) "
        "or 'depth' (height, width)."
    )


def _exr(content: bytes, source: str) -> NDArray[Any]:
    try:
        import OpenEXR
    except ImportError as cause:
        raise DataError(
            f"{source} is an OpenEXR file, which needs a package: pip install 'chiasm[formats]'. "
            "Or write the values as a float32 TIFF or .npy file of the same numbers."
        ) from cause
    # The package opens paths alone.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.exr"
        path.write_bytes(content)
        try:
            with OpenEXR.File(str(path)) as file:
                channels = {name: channel.pixels for name, channel in file.channels().items()}
        except Exception as cause:  # the package raises nearly anything
            raise DataError(
                f"{source} cannot be decoded as OpenEXR; it is damaged. Copy it again, or write a "
                "float32 TIFF or .npy file of the same numbers."
            ) from cause
    return _exr_values(channels, source)


def _exr_values(channels: Mapping[str, NDArray[Any]], source: str) -> NDArray[Any]:
    by_name = {name.lower(): np.asarray(values) for name, values in channels.items()}
    for names in (("x", "y", "z"), ("r", "g", "b")):
        if set(names) <= by_name.keys():
            values = np.stack([by_name[name] for name in names], axis=2)
            # Programs that write one channel often repeat it three times.
            return values[..., 0] if (values == values[..., :1]).all() else values
    for name in ("z", "depth", "depth.z", "y", "r", "v"):
        if name in by_name:
            return by_name[name]
    if len(by_name) == 1:
        return _shaped(next(iter(by_name.values())))
    raise DataError(
        f"{source} has the channels {', '.join(channels) or '(none)'}; Z, or X, Y and Z, were "
        "expected."
    )


def _shaped(values: NDArray[Any]) -> NDArray[Any]:
    """Return channels last, and without axes of length 1 in front or behind."""
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[2] == 1:
        return values[..., 0]
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] not in (3, 4):
        return np.moveaxis(values, 0, 2)  # (3, H, W), planes or pages
    return values
