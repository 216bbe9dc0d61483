"""Images that a caller hands over: paths, arrays of 8 or 16 bits, PIL images and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError
from chiasm.files.images import read_rgb
from chiasm.samples import FloatArray

# Integer images end at the largest value of their type.
_INTEGER_TYPES = (np.uint8, np.uint16)
_TOLERANCE = 0.01  # beyond [0, 1]; interpolation overshoots a little


def array_of(value: Any, name: str) -> NDArray[Any]:
    """Return the numbers of an array, a tensor on any device or a PIL image.

    Raises:
        DataError: ``value`` holds no numbers; ``name`` names it in the message.
    """
    if hasattr(value, "detach"):  # a tensor; torch itself need not be installed
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "uifb":
        raise DataError(
            f"{name} is of type {type(value).__name__}, which holds no numbers; pass a path, an "
            "array, a PIL image or a tensor."
        )
    return array


def channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``(3, H, W)`` and ``(1, 3, H, W)`` as ``(H, W, 3)``; other shapes as they are."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] not in (1, 3, 4):
        return array.transpose(1, 2, 0)
    return array


def rgb_image(value: Any, name: str = "rgb") -> FloatArray:
    """Return a colour image as ``(H, W, 3)`` float32 in [0, 1].

    Args:
        value: a path, an array ``(H, W, 3)``, ``(3, H, W)`` or grey ``(H, W)``, a PIL image or a
            tensor. Unsigned 8-bit and 16-bit values are divided by 255 and 65535; floats must lie
            in [0, 1]. Grey is repeated three times and an alpha channel is dropped.
        name: of the image in messages.

    Raises:
        DataError: the shape or the type is not that of an image, or floats lie outside [0, 1].
    """
    if isinstance(value, str | Path):
        return read_rgb(value)
    if hasattr(value, "convert") and getattr(value, "mode", "RGB") in ("P", "1", "CMYK", "LA"):
        value = value.convert("RGB")  # a PIL image whose array holds no colours yet
    pixels = channels_last(array_of(value, name))
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1):
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise DataError(
            f"{name} must have shape (height, width, 3), but has {tuple(np.shape(pixels))}."
        )
    pixels = pixels[..., :3]
    if pixels.dtype in _INTEGER_TYPES:
        return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(
            f"{name} holds {pixels.dtype} values; an image has unsigned integers of 8 or 16 bits, "
            "or floats in [0, 1]."
        )
    image = np.ascontiguousarray(pixels, np.float32)
    # The minimum and maximum of an array with a NaN are NaN, for which the comparison fails.
    if image.size and not (image.min() >= -_TOLERANCE and image.max() <= 1 + _TOLERANCE):
        raise DataError(
            f"{name} holds floats that are NaN or outside [0, 1]; divide 8-bit images by 255 and "
            "16-bit ones by 65535, or pass them as unsigned integers."
        )
    return image
