"""Measure what a training will see of one part: share of the frame, crop, sharpness, exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from chiasm.detection.preparation.distance import median_distance
from chiasm.detection.preparation.prepare import (
    PreparationSettings,
    count_objects,
    crop_box,
    part_mask,
)
from chiasm.detection.preparation.support_plane import Plane, fit_support_plane
from chiasm.detection.preparation.surface import window_of
from chiasm.errors import DataError
from chiasm.samples import BoolArray, CropBox, FloatArray, RGBDSample

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_SATURATED, _DARK = 0.995, 0.02  # of the full range
_OBJECT = 0.2  # of the largest object's area, from which on another one counts
_LEAST_OBJECT = 2e-3  # of the frame
_DIFFERENT = 3.0  # spreads from the background's colour
_ON_BORDER = 0.1  # of the circumference of a part's box, that lies on the frame's border


@dataclass(frozen=True, slots=True)
class PartMeasures:
    """What a training would see of one part.

    Attributes:
        source, split, kind, label: as of its reference.
        share: of the frame that the part's mask takes.
        crop: side of the crop, pixels of the frame.
        outside: share of the frame that lies outside the crop.
        cut: whether the frame's border cuts the part off.
        objects: that rise from the background; None where nothing tells.
        plane: whether a support plane was found; None without 3D points.
        measured: share of the part's pixels with a 3D point; None likewise.
        distance: median metres along z; None likewise.
        pitch: metres from one pixel of the frame to the next, on the part; None likewise.
        sharpness: standard deviation of the grey image's Laplacian on the part, as a share of its
            mean, so that exposure does not matter; None without an image.
        brightness: mean of the image on the part, in [0, 1]; None likewise.
        brightest: largest value of the whole image; None likewise.
        saturated, dark: shares of the part's pixels near the ends of the range; None likewise.
        defect: width of the largest labelled region, the root of its area, pixels of the frame;
            None without one.
        fault: why no part is seen, as a sentence; the other figures are then of the whole frame.
    """

    source: str
    split: str
    kind: str
    label: int | None
    share: float
    crop: int
    outside: float
    cut: bool
    objects: int | None
    plane: bool | None
    measured: float | None
    distance: float | None
    pitch: float | None
    sharpness: float | None
    brightness: float | None
    brightest: float | None
    saturated: float | None
    dark: float | None
    defect: float | None
    fault: str = ""


def measure_part(sample: RGBDSample, settings: PreparationSettings) -> PartMeasures:
    """Measure a part as it would be prepared; a frame without a part is measured as a whole."""
    plane = None
    told_by_points = settings.remove_background and settings.told_by in (None, "points")
    if sample.xyz is not None:
        plane = fit_support_plane(sample.xyz, sample.valid, distance=settings.plane_distance)
    fault = ""
    try:
        mask, box = part_and_crop(sample, settings)
    except DataError as error:
        fault = str(error)
        mask = np.ones_like(sample.valid)
        box = CropBox(0, 0, max(mask.shape), *mask.shape)
    window = window_of(mask)
    measures = PartMeasures(
        source=sample.source,
        split=sample.split,
        kind=sample.kind,
        label=sample.label,
        share=float(mask.mean()),
        crop=box.side,
        outside=1 - _inside(box) / mask.size,
        cut=settings.remove_background and not fault and _is_cut(mask),
        objects=None if fault else _objects(sample, plane, settings),
        plane=plane is not None if sample.xyz is not None and told_by_points else None,
        measured=None,
        distance=None,
        pitch=None,
        sharpness=None,
        brightness=None,
        brightest=None,
        saturated=None,
        dark=None,
        defect=_largest_defect(sample.mask),
        fault=fault,
    )
    if sample.xyz is not None:
        measures = _with_points(measures, sample.xyz[window], sample.valid[window], mask[window])
    if sample.rgb is not None:
        measures = _with_colours(measures, sample.rgb, mask)
    return measures


def part_and_crop(sample: RGBDSample, settings: PreparationSettings) -> tuple[BoolArray, CropBox]:
    """Return a part's mask ``(H, W)`` and the crop around it, as ``prepare`` takes them.

    Raises:
        DataError: no part is seen, or what tells it is missing.
    """
    if sample.xyz is not None and not sample.valid.any():
        raise DataError(f"{sample.source}: all 3D points are missing, so there is no part to see.")
    mask = part_mask(sample, settings)
    return mask, crop_box(mask, settings)


def _inside(box: CropBox) -> int:
    """Return the pixels of the frame inside the crop."""
    rows = min(box.top + box.side, box.height) - max(box.top, 0)
    columns = min(box.left + box.side, box.width) - max(box.left, 0)
    return max(rows, 0) * max(columns, 0)


def _is_cut(mask: BoolArray) -> bool:
    rows, columns = window_of(mask)
    circumference = 2 * (rows.stop - rows.start + columns.stop - columns.start)
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return sum(int(np.count_nonzero(side)) for side in sides) > _ON_BORDER * circumference


def _objects(sample: RGBDSample, plane: Plane | None, settings: PreparationSettings) -> int | None:
    """Count the regions of about the part's size that rise, or differ, from the background."""
    if not settings.remove_background:
        return None
    if settings.told_by == "colours" and settings.background is not None:
        assert sample.rgb is not None
        colour = np.array(settings.background.colour, np.float32)
        spread = np.array(settings.background.spread, np.float32)
        different = (np.abs(sample.rgb - colour) / spread).max(axis=2) > _DIFFERENT
    elif settings.told_by in (None, "points") and plane is not None:
        return count_objects(sample, settings)
    else:
        return None
    reach = 2 * max(1, round(0.01 * max(different.shape))) + 1
    square = np.ones((reach, reach), np.uint8)
    closed = cv2.morphologyEx(different.view(np.uint8), cv2.MORPH_CLOSE, square)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(closed, None, None, None, 8, cv2.CV_32S)
    sizes = boxes[1:, cv2.CC_STAT_AREA]
    if not sizes.size:
        return 0
    least = max(_OBJECT * int(sizes.max()), _LEAST_OBJECT * different.size)
    return max(int(np.count_nonzero(sizes >= least)), 1)


def _with_points(
    measures: PartMeasures, xyz: FloatArray, valid: BoolArray, mask: BoolArray
) -> PartMeasures:
    """Add what the points in the window of a part's mask tell."""
    seen = valid & mask
    distance = median_distance(np.where(seen[..., None], xyz, 0))
    pairs = seen[:, 1:] & seen[:, :-1]
    pitch = None
    if pairs.any():
        steps = np.linalg.norm((xyz[:, 1:] - xyz[:, :-1])[pairs], axis=1)
        pitch = float(np.median(steps))
    return replace(
        measures,
        measured=float(seen[mask].mean()),
        distance=distance if distance > 0 else None,
        pitch=pitch,
    )


def _with_colours(measures: PartMeasures, rgb: FloatArray, mask: BoolArray) -> PartMeasures:
    """Add what the image tells."""
    grey = rgb @ _GREY
    on_part = mask.view(np.uint8)
    inner = cv2.erode(on_part, np.ones((5, 5), np.uint8))  # not the part's outline
    detail = cv2.Laplacian(grey, cv2.CV_32F)
    _, deviation = cv2.meanStdDev(detail, mask=inner if inner.any() else on_part)
    brightest = rgb.max(axis=2)[mask]
    mean = float(cv2.mean(grey, on_part)[0])
    return replace(
        measures,
        sharpness=float(deviation[0, 0]) / max(mean, 1e-3),
        brightness=mean,
        brightest=float(rgb.max()),
        saturated=float(np.mean(brightest >= _SATURATED)),
        dark=float(np.mean(brightest <= _DARK)),
    )


def _largest_defect(mask: BoolArray | None) -> float | None:
    if mask is None or not mask.any():
        return None
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return float(np.sqrt(boxes[1:, cv2.CC_STAT_AREA].max()))
