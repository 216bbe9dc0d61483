"""Pictures of a part for the page of a check: image and 3D, with outline and crop."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.check.part_measures import part_and_crop
from chiasm.detection.preparation.prepare import PreparationSettings, prepare
from chiasm.detection.preparation.support_plane import fit_support_plane
from chiasm.errors import DataError
from chiasm.samples import BoolArray, CropBox, FloatArray, RGBDSample

_OUTLINE, _CROP, _DEFECT = (240, 132, 60), (255, 255, 255), (255, 70, 120)
_MISSING = (44, 48, 52)
_GAP = 4  # pixels between image and 3D


def frame_picture(
    sample: RGBDSample, settings: PreparationSettings | None, *, height: int = 180
) -> NDArray[np.uint8]:
    """Draw a part's image and its 3D side by side, with its outline and its crop.

    Args:
        sample: the part.
        settings: of the preparation; None draws neither outline nor crop.
        height: of the picture in pixels.

    Returns:
        ``(height, W, 3)`` uint8, RGB.
    """
    mask, box = (None, None) if settings is None else _seen(sample, settings)
    panels = []
    if sample.rgb is not None:
        image = (255 * np.clip(sample.rgb, 0, 1)).astype(np.uint8)
        panels.append(_drawn(image, mask, box, sample.mask, height))
    if sample.xyz is not None:
        panels.append(_drawn(_relief(sample), mask, box, sample.mask, height))
    gap = np.full((height, _GAP, 3), _MISSING, np.uint8)
    joined = [panel for both in panels for panel in (gap, both)][1:]
    return np.concatenate(joined, axis=1)


def crop_pictures(
    sample: RGBDSample, settings: PreparationSettings, *, height: int = 256
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Draw what the network gets of a part: image and height in the crop; captions first.

    Raises:
        DataError: no part is seen.
    """
    part = prepare(sample, settings)
    side = (height, height)
    pictures: dict[str, NDArray[np.uint8]] = {}
    if part.rgb is not None:
        pictures["the crop"] = (255 * part.rgb).astype(np.uint8)
    if part.height is not None:
        pictures["height in the crop"] = _coloured(part.height, part.valid)
    return [
        (words, _bytes(cv2.resize(pixels, side, interpolation=cv2.INTER_NEAREST)))
        for words, pixels in pictures.items()
    ]


def _bytes(pixels: np.ndarray) -> NDArray[np.uint8]:
    return np.asarray(pixels, np.uint8)


def _seen(
    sample: RGBDSample, settings: PreparationSettings
) -> tuple[BoolArray | None, CropBox | None]:
    try:
        return part_and_crop(sample, settings)
    except DataError:
        return None, None


def _relief(sample: RGBDSample) -> NDArray[np.uint8]:
    """Colour the distance above the support plane, or else towards the camera."""
    assert sample.xyz is not None
    plane = fit_support_plane(sample.xyz, sample.valid)
    heights = -sample.xyz[..., 2] if plane is None else plane.height(sample.xyz)
    return _coloured(heights, sample.valid)


def _coloured(heights: FloatArray, valid: BoolArray) -> NDArray[np.uint8]:
    picture = np.full((*valid.shape, 3), _MISSING, np.uint8)
    if valid.any():
        low, high = np.quantile(heights[valid], [0.01, 0.995])
        scaled = np.clip((heights - low) / max(high - low, 1e-9), 0, 1)
        colours = cv2.applyColorMap((255 * scaled).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        picture[valid] = colours[valid][:, ::-1]
    return picture


def _drawn(
    image: NDArray[np.uint8],
    mask: BoolArray | None,
    box: CropBox | None,
    defect: BoolArray | None,
    height: int,
) -> NDArray[np.uint8]:
    """Resize a picture and draw outlines of one pixel's width over it."""
    scale = height / image.shape[0]
    width = max(round(image.shape[1] * scale), 1)
    shrinking = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    drawn: NDArray[np.uint8] = np.ascontiguousarray(
        cv2.resize(image, (width, height), interpolation=shrinking)
    )
    if box is not None:
        left, top = round(box.left * scale), round(box.top * scale)
        right = round((box.left + box.side) * scale) - 1
        bottom = round((box.top + box.side) * scale) - 1
        inside = np.zeros(drawn.shape[:2], bool)
        inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        drawn[~inside] = (0.45 * drawn[~inside]).astype(np.uint8)
        cv2.rectangle(drawn, (left, top), (right, bottom), _CROP, 1, cv2.LINE_AA)
    for outlined, colour in ((mask, _OUTLINE), (defect, _DEFECT)):
        if outlined is None or not outlined.any() or outlined.all():
            continue
        small = cv2.resize(
            outlined.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
        )
        contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, colour, 1, cv2.LINE_AA)
    return drawn
