"""Read and write the image files of samples; each fault raises ``DataError`` with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.files.decoding import METRES, Numbers, bytes_of, decode_picture, numbers_of
from chiasm.files.missing import missing_values
from chiasm.samples import BoolArray, FloatArray

RGB_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
XYZ_SUFFIXES = frozenset({".tif", ".tiff", ".npy", ".npz", ".exr"})


def read_rgb(path: Path | str, bits: int | None = None) -> FloatArray:
    """Read a colour image of 8 or 16 bits a channel.

    ``bits`` is the number that the camera used of 16; None takes all. Returns ``(H, W, 3)``
    float32 in [0, 1], RGB order. 16-bit values keep their precision, grey is repeated three times
    and an alpha channel is dropped. Raises ``DataError`` for a file that
    is missing, corrupt or of another type, and for values beyond ``bits``.
    """
    return rgb_from_bytes(bytes_of(Path(path)), str(path), bits)


def rgb_from_bytes(content: bytes, source: str, bits: int | None = None) -> FloatArray:
    """Decode a colour image as ``read_rgb`` does; ``source`` names it in messages."""
    pixels = decode_picture(content, source)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{source} holds {pixels.dtype} values; a colour image has 8 or 16 unsigned bits a "
            "channel. Save it as PNG or JPEG."
        )
    most = int(np.iinfo(pixels.dtype).max)
    if bits is not None and pixels.dtype == np.uint16:
        most = (1 << bits) - 1
        brightest = int((pixels if pixels.ndim == 2 else pixels[..., :3]).max(initial=0))
        if brightest > most:
            raise DataError(
                f"{source} has the value {brightest}, which {bits} bits do not hold; all images of "
                "one data set have the same bits (--bits, 16 for the whole range)."
            )
    scale = np.float32(most)
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
    pixels = decode_picture(bytes_of(Path(path)), str(path))
    if pixels.ndim == 3:
        # Not the alpha channel: opaque black is still background.
        pixels = pixels[..., :3].max(axis=2)
    return np.asarray(pixels > 0)


def read_xyz(
    path: Path | str, unit_m: float | None = None, remarks: list[str] | None = None
) -> FloatArray:
    """Read an organised point map: three floats a pixel in TIFF, npy, npz or OpenEXR.

    ``unit_m`` is the length of the file's unit in metres; None takes metres. Returns
    ``(H, W, 3)`` float32 metres, 0 where missing: at NaN, infinities, and markers of missing
    values, of which ``remarks`` gets a sentence. Raises ``DataError`` for a file that is missing,
    corrupt, or of another shape or type.
    """
    numbers = numbers_of(bytes_of(Path(path)), str(path))
    return point_map(numbers, str(path), unit_m, remarks=remarks)


def holds_points(path: Path | str) -> bool:
    """Return whether a file's header says that it is a TIFF of three floats a pixel."""
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            return (
                series.ndim == 3
                and 3 in (series.shape[0], series.shape[-1])
                and (series.dtype is not None and series.dtype.kind == "f")
            )
    except Exception:  # a damaged file makes tifffile raise nearly anything
        return False


def point_map(
    numbers: Numbers,
    source: str,
    unit_m: float | None = None,
    *,
    missing: tuple[float, ...] = (),
    remarks: list[str] | None = None,
) -> FloatArray:
    """Return decoded points as ``read_xyz`` does; ``missing`` are further markers."""
    points = numbers.values
    if points.ndim != 3 or points.shape[2] != 3:
        raise DataError(
            f"{source} has shape {points.shape}; an organised point map has shape "
            "(height, width, 3): x, y and z in metres."
        )
    whole_counts = points.dtype.kind != "f"
    if whole_counts and (unit_m is None or points.dtype.itemsize == 1):
        raise DataError(
            f"{source} holds {points.dtype} values; point maps are float32, in metres. Counts of "
            "16 bits or more need the metres of one (data convert --unit)."
        )
    # Twice the digits, so that metres are rounded once.
    length = 1.0 if unit_m is None else unit_m
    scaled = points if length == 1 else points.astype(np.float64) * length
    metres: FloatArray = np.ascontiguousarray(scaled, dtype=np.float32)
    # Minimum and maximum of an array with NaN are NaN; only then is each pixel checked.
    whole = not points.size or np.isfinite((metres.min(), metres.max())).all()
    if whole and numbers.metres and unit_m is None:
        return metres  # chiasm has written it, with 0 where missing
    absent = missing_values(points[..., 2], (*numbers.missing, *missing), remarks)
    if not whole:
        absent |= ~np.isfinite(points).all(axis=2)
    if numbers.valid is not None:
        absent |= ~numbers.valid
    if absent.any():
        metres = np.where(absent[..., None], np.float32(0), metres)
    return metres


def read_depth(
    path: Path | str, unit_m: float | None, remarks: list[str] | None = None
) -> FloatArray:
    """Read a depth image: one channel in 16-bit PNG, TIFF, npy, npz or OpenEXR.

    ``unit_m`` is the length of one count in metres (0.001 for millimetres). None takes floats as
    metres and refuses integer counts, whose unit is unknown. Returns ``(H, W)`` float32 metres, 0
    where missing: at NaN, infinities, and markers of missing values, of which ``remarks`` gets a
    sentence. Raises ``DataError`` for corrupt files, several channels and negative depth.
    """
    path = Path(path)
    return depth_image(numbers_of(bytes_of(path), str(path)), str(path), unit_m, remarks=remarks)


def depth_image(
    numbers: Numbers,
    source: str,
    unit_m: float | None,
    *,
    missing: tuple[float, ...] = (),
    remarks: list[str] | None = None,
) -> FloatArray:
    """Return decoded depth as ``read_depth`` does; ``missing`` are further markers."""
    counts = one_channel(numbers, source)
    if unit_m is None and np.issubdtype(counts.dtype, np.integer):
        raise DataError(
            f"{source} holds integer counts of depth of an unknown unit; give the metres of one "
            "count, e.g. 0.001 for millimetres."
        )
    absent = missing_values(counts, (*numbers.missing, *missing), remarks)
    if numbers.valid is not None:
        absent |= ~numbers.valid
    length = 1.0 if unit_m is None else unit_m
    # What is missing may be a number that float32 cannot hold.
    metres = np.where(absent, 0.0, counts.astype(np.float64)) * length
    if (metres < 0).any():
        raise DataError(
            f"{source} has negative depth; depth is the distance in front of the camera. For a map "
            "of heights give the pitch of its pixels (data convert --pitch); if a number marks "
            f"what is missing, such as {float(counts[metres < 0].min()):g}, name it (--missing)."
        )
    return np.asarray(metres, dtype=np.float32)


def one_channel(numbers: Numbers, source: str) -> NDArray[Any]:
    """Return values ``(H, W)`` of depth or height; raises ``DataError`` for another shape."""
    counts = numbers.values
    if counts.ndim != 2:
        raise DataError(f"{source} has shape {counts.shape}; a depth image has one channel.")
    if counts.dtype == np.uint8:
        raise DataError(
            f"{source} has 8 bits; a depth image needs 16 bits or floats. An 8-bit file is usually "
            "a preview: use the sensor's original file."
        )
    return counts


_OF_16_BITS, _OF_8_BITS = 65535, 257  # counts of white, and those between counts of 8 bits


def in_16_bits(rgb: FloatArray) -> FloatArray:
    """Return colours in [0, 1] as a file of 16 bits holds them, float32.

    Those of a file of 8 or 16 bits stay as they are; computed ones are rounded, so that they are
    the same before they are written and after.
    """
    counts = np.rint(np.clip(rgb, 0, 1) * np.float64(_OF_16_BITS))
    return np.divide(counts, _OF_16_BITS).astype(np.float32)


def write_rgb(path: Path | str, rgb: FloatArray, *, exact: bool = False) -> None:
    """Write ``(H, W, 3)`` float in [0, 1] as an 8-bit image; the suffix chooses the format.

    ``exact`` writes 16 bits where 8 do not hold the colours.
    """
    if exact:
        fine = np.rint(np.clip(rgb, 0, 1) * np.float64(_OF_16_BITS)).astype(np.uint16)
        if (fine % _OF_8_BITS).any():
            _encode(Path(path), fine[..., ::-1])
            return
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
        path,
        points,
        compression="zlib",
        photometric="minisblack",
        planarconfig="contig",
        description=METRES,
        metadata=None,
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


def _encode(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded, content = cv2.imencode(path.suffix, np.ascontiguousarray(pixels))
    if not encoded:
        raise DataError(f"{path} could not be encoded; use the suffix .png, .jpg or .tiff.")
    content.tofile(path)
