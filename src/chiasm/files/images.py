"""Read and write the image files of samples; each fault raises ``DataError`` with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray

RGB_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
XYZ_SUFFIXES = frozenset({".tif", ".tiff"})
TiffCheck = Callable[[tifffile.TiffFile], None]
TIFF_MARKS = frozenset({b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"})


def read_rgb(path: Path | str) -> FloatArray:
    """Read a colour image of 8 or 16 bits a channel.

    Returns ``(H, W, 3)`` float32 in [0, 1], RGB order. 16-bit values keep their precision, grey
    is repeated three times and an alpha channel is dropped. Raises ``DataError`` for a file that
    is missing, corrupt or of another type.
    """
    return rgb_from_bytes(_bytes_of(Path(path)), str(path))


def rgb_from_bytes(content: bytes, source: str) -> FloatArray:
    """Decode a colour image as ``read_rgb`` does; ``source`` names it in messages."""
    pixels = _decode(content, source)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{source} holds {pixels.dtype} values; a colour image has 8 or 16 unsigned bits a "
            "channel. Save it as PNG or JPEG."
        )
    scale = np.float32(np.iinfo(pixels.dtype).max)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] not in (3, 4):
        raise DataError(f"{source} has {pixels.shape[2]} channels; a colour image has 1, 3 or 4.")
    swap = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.divide(cv2.cvtColor(pixels, swap), scale, dtype=np.float32)


def read_mask(path: Path | str) -> BoolArray:
    """Read a mask: ``(H, W)`` bool, True where any colour channel is not 0.

    Raises ``DataError`` for a file that is missing or corrupt.
    """
    pixels = _decode(_bytes_of(Path(path)), str(path))
    if pixels.ndim == 3:
        # Not the alpha channel: opaque black is still background.
        pixels = pixels[..., :3].max(axis=2)
    return np.asarray(pixels > 0)


def read_xyz(path: Path | str, unit_m: float = 1.0) -> FloatArray:
    """Read an organised point map: a 3-channel float TIFF, 0 where missing.

    ``unit_m`` is the length of the file's unit in metres. Returns ``(H, W, 3)`` float32 metres.
    Raises ``DataError`` for a file that is missing, corrupt, of another shape or type, or that
    holds NaN or infinite values.
    """
    points = xyz_from_bytes(_bytes_of(Path(path)), str(path))
    return points if unit_m == 1 else points * np.float32(unit_m)


def xyz_from_bytes(content: bytes, source: str, check: TiffCheck | None = None) -> FloatArray:
    """Decode an organised point map as ``read_xyz`` does; ``source`` names it in messages.

    ``check`` may raise ``DataError`` for the file's header before it is decoded.
    """
    return checked_xyz(_decode_tiff(content, source, check), source)


def checked_xyz(points: NDArray[Any], source: str) -> FloatArray:
    """Check an array of any float type and return it as ``read_xyz`` returns point maps."""
    if points.ndim != 3 or points.shape[2] != 3:
        raise DataError(
            f"{source} has shape {points.shape}; an organised point map has shape "
            "(height, width, 3): x, y and z in metres."
        )
    if points.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(f"{source} holds {points.dtype} values; point maps are float32, in metres.")
    points = np.ascontiguousarray(points, dtype=np.float32)
    # Minimum and maximum of an array with NaN are NaN; only then is each pixel checked.
    if points.size and not np.isfinite((points.min(), points.max())).all():
        bad = int(np.count_nonzero(~np.isfinite(points).all(axis=2)))
        raise DataError(
            f"{source} has NaN or infinite values at {bad} pixels; write missing points as 0, 0, 0."
        )
    return points


def read_depth(path: Path | str, unit_m: float | None) -> FloatArray:
    """Read a depth image, 16-bit PNG or one-channel TIFF.

    ``unit_m`` is the length of one count in metres (0.001 for millimetres). None takes floats as
    metres and refuses integer counts, whose unit is unknown. Returns ``(H, W)`` float32 metres, 0
    where missing; NaN, which often marks missing float depth, becomes 0. Raises ``DataError`` for
    corrupt files, several channels and negative depth.
    """
    return depth_from_bytes(_bytes_of(Path(path)), str(path), unit_m)


def depth_from_bytes(
    content: bytes, source: str, unit_m: float | None, check: TiffCheck | None = None
) -> FloatArray:
    """Decode a depth image as ``read_depth`` does; ``source`` names it in messages.

    ``check`` may raise ``DataError`` for a TIFF's header before it is decoded.
    """
    is_tiff = content[:4] in TIFF_MARKS
    counts = _decode_tiff(content, source, check) if is_tiff else _decode(content, source)
    if counts.ndim == 3 and counts.shape[2] == 1:
        counts = counts[..., 0]
    if counts.ndim != 2:
        raise DataError(f"{source} has shape {counts.shape}; a depth image has one channel.")
    if counts.dtype == np.uint8:
        raise DataError(
            f"{source} has 8 bits; a depth image needs 16 bits or floats. An 8-bit file is usually "
            "a preview: use the sensor's original file."
        )
    if unit_m is None and np.issubdtype(counts.dtype, np.integer):
        raise DataError(
            f"{source} holds integer counts of depth of an unknown unit; give the metres of one "
            "count, e.g. 0.001 for millimetres."
        )
    length = 1.0 if unit_m is None else unit_m
    metres = np.asarray(counts.astype(np.float64) * length, dtype=np.float32)
    metres = np.where(np.isfinite(metres), metres, np.float32(0))
    if (metres < 0).any():
        raise DataError(
            f"{source} has negative depth; depth is the distance in front of the camera."
        )
    return metres


def write_rgb(path: Path | str, rgb: FloatArray) -> None:
    """Write ``(H, W, 3)`` float in [0, 1] as an 8-bit image; the suffix chooses the format."""
    counts = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    _encode(Path(path), counts[..., ::-1])


def write_mask(path: Path | str, mask: BoolArray) -> None:
    """Write ``(H, W)`` bool as an 8-bit image of 0 and 255."""
    _encode(Path(path), mask.astype(np.uint8) * np.uint8(255))


def write_xyz(path: Path | str, xyz: FloatArray) -> None:
    """Write ``(H, W, 3)`` metres as a float32 TIFF with lossless compression."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.ascontiguousarray(xyz, dtype=np.float32)
    tifffile.imwrite(
        path, points, compression="zlib", photometric="minisblack", planarconfig="contig"
    )


def image_files(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Return a folder's files with one of ``suffixes`` by stem, sorted; none without the folder.

    Raises ``DataError`` if two files differ in their suffix only.
    """
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name[0] == ".":
            continue
        if path.stem in files:
            raise DataError(
                f"{files[path.stem]} and {path.name} differ in their suffix only; remove the "
                "one that does not belong to the part."
            )
        files[path.stem] = path
    return files


def _bytes_of(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
    if not content:
        raise DataError(f"{path} is empty (0 bytes); copy the file again from its origin.")
    return content


def _decode(content: bytes, source: str) -> NDArray[Any]:
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


def _decode_tiff(content: bytes, source: str, check: TiffCheck | None) -> NDArray[Any]:
    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            if check is not None:
                check(file)
            return np.asarray(file.asarray())
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


def _encode(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, content = cv2.imencode(path.suffix, np.ascontiguousarray(pixels))
    if not encoded:
        raise DataError(f"{path} could not be encoded; use the suffix .png, .jpg or .tiff.")
    content.tofile(path)
