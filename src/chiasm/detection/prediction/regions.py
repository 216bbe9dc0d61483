"""Places of an alarm: connected regions of the anomaly map, in pixels and in millimetres."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.decision import AlarmRule
from chiasm.detection.report.overlay import HeatScale
from chiasm.samples import AnomalyMap, BoolArray, FloatArray, Region, RGBDSample, Verdict

# Of the map's peak: level of the region of an alarm that no level of the model describes.
PEAK_SHARE = 0.5
MOST_REGIONS = 50  # of a part
_MANY = f"The part has more than {MOST_REGIONS} regions; those with the highest peaks are listed."
_RING = 0.05  # width of a region's surroundings, as a share of the frame's longer side
_CORE = 0.75  # quantile of a region's scores, from which its height is measured
_FEWEST_AROUND = 12  # points, to lay a plane through
_MM = 1000.0  # of a metre
_SPACINGS = 4  # pixels about a region whose spacing stands for its own where points are missing


def region_levels(anomaly_map: AnomalyMap, rule: AlarmRule) -> tuple[float, float]:
    """Return the score that the pixels of a region exceed, and that which one of them exceeds.

    Maps and scores of parts have one unit. A region holds a pixel above the alarm threshold, and
    reaches as far as pixels are above the score of a typical good part, where heat maps begin to be
    coloured: to the threshold alone, a defect that is hardly noticed would be a few pixels wide. A
    rule that adds several statistics can alarm where no pixel is above its threshold. Then there is
    one region, with the map's peak; where that is below a typical score, it reaches to its half.

    Args:
        anomaly_map: of a part that is not good.
        rule: of the model.
    """
    scale = HeatScale.of(rule.calibration_scores, rule.display_threshold)
    peak = float(anomaly_map.scores.max(initial=0.0))
    seed = scale.alarm if peak > scale.alarm else float(np.nextafter(peak, -np.inf))
    return (scale.typical if scale.typical < seed else PEAK_SHARE * peak), seed


def find_regions(
    anomaly_map: AnomalyMap, sample: RGBDSample | None, *, threshold: float, seed: float
) -> tuple[tuple[Region, ...], NDArray[np.int32], int]:
    """Find the regions of a map, the ``MOST_REGIONS`` with the highest peaks.

    A region is a connected set of pixels above a threshold, of which one at least is above a seed.

    Pixels that touch at a corner are connected. Millimetres come from the measured points; without
    any in a region, or with a sample of another size, they are None.

    Args:
        anomaly_map: of the part, ``(H, W)``.
        sample: the part as its sensor saw it; None gives pixels alone.
        threshold, seed: see ``region_levels``.

    Returns:
        The regions, the highest peak first; ``(H, W)`` their numbers from 1, 0 outside of all; and
        how many there would be without the limit.
    """
    scores = anomaly_map.scores
    above = (scores > threshold).astype(np.uint8)
    count, components, facts, centres = cv2.connectedComponentsWithStats(above, connectivity=8)
    labels = components.astype(np.int32, copy=False)
    found = []
    for label in range(1, count):
        left, top, width, height, pixels = (int(value) for value in facts[label])
        window = np.s_[top : top + height, left : left + width]
        peak = float(scores[window][labels[window] == label].max())
        if peak <= seed:
            continue
        x, y = (float(value) for value in centres[label])
        found.append((label, Region((left, top, width, height), (x, y), pixels, peak)))
    found.sort(key=lambda entry: -entry[1].peak)
    numbers = np.zeros(count, np.int32)
    regions = []
    measured = sample is not None and sample.xyz is not None and sample.valid.shape == scores.shape
    for number, (label, region) in enumerate(found[:MOST_REGIONS], start=1):
        numbers[label] = number
        if measured:
            assert sample is not None
            region = _measured(region, labels, label, anomaly_map, sample)
        regions.append(region)
    return tuple(regions), numbers[labels], len(found)


def with_regions(verdict: Verdict, sample: RGBDSample, *, rule: AlarmRule) -> Verdict:
    """Return a verdict with the regions of its map; one on a good part has none.

    Args:
        verdict: with its map.
        sample: that it is on.
        rule: of the model.
    """
    if verdict.anomaly_map is None or verdict.defective is False:
        return verdict
    threshold, seed = region_levels(verdict.anomaly_map, rule)
    found = find_regions(verdict.anomaly_map, sample, threshold=threshold, seed=seed)
    regions, count = found[::2]
    notes = (*verdict.notes, *((_MANY,) if count > MOST_REGIONS else ()))
    return replace(verdict, regions=regions, pixel_threshold=threshold, notes=notes)


def region_numbers(verdict: Verdict) -> NDArray[np.int32]:
    """Return ``(H, W)`` numbers of a verdict's regions from 1, in their order; 0 outside of all."""
    assert verdict.anomaly_map is not None
    if verdict.parts:
        return _numbers_of_parts(verdict)
    if verdict.pixel_threshold is None or not verdict.regions:
        return np.zeros(verdict.anomaly_map.scores.shape, np.int32)
    seed = float(np.nextafter(verdict.regions[-1].peak, -np.inf))
    levels = {"threshold": verdict.pixel_threshold, "seed": seed}
    return find_regions(verdict.anomaly_map, None, **levels)[1]


def _numbers_of_parts(verdict: Verdict) -> NDArray[np.int32]:
    """Return the numbers of the regions of a frame with several parts, each found on its own."""
    assert verdict.anomaly_map is not None
    frame = np.zeros(verdict.anomaly_map.scores.shape, np.int32)
    of_parts = [part for part in verdict.parts if part.regions]
    places = [(part, place) for part in of_parts for place in range(len(part.regions))]
    # As the frame's verdict sorts them: stable, by falling peaks.
    places.sort(key=lambda entry: -entry[0].regions[entry[1]].peak)
    for part in of_parts:
        numbers = region_numbers(part)
        for number, (other, place) in enumerate(places, start=1):
            if other is part:
                frame[numbers == place + 1] = number
    return frame


def _measured(
    region: Region,
    labels: NDArray[np.int32],
    label: int,
    anomaly_map: AnomalyMap,
    sample: RGBDSample,
) -> Region:
    """Return a region with what its points say of it, in millimetres."""
    assert sample.xyz is not None
    left, top, width, height = region.box
    rows, columns = labels.shape
    ring = max(2, round(_RING * max(rows, columns)))
    window = np.s_[
        max(top - ring, 0) : min(top + height + ring, rows),
        max(left - ring, 0) : min(left + width + ring, columns),
    ]
    inside = labels[window] == label
    xyz, valid = sample.xyz[window], sample.valid[window]
    points = xyz[inside & valid]
    if not len(points):
        return region
    centre = np.median(points, axis=0) * _MM
    plane = anomaly_map.plane
    normal = np.array([0.0, 0.0, -1.0] if plane is None else plane[:3], np.float64)
    # Of the object alone: beside it lies its support.
    around = (labels[window] == 0) & valid & anomaly_map.foreground[window]
    around &= _near(inside, ring)
    level = float(np.median(points @ normal))
    scores = anomaly_map.scores[window]
    # A region is often wider than its defect, which lies where the scores are highest.
    core = inside & valid
    core &= scores >= np.quantile(scores[core], _CORE)
    relief = _relief(xyz[core], xyz[around], normal) if around.any() else None
    return replace(
        region,
        centroid_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        area_mm2=_area(inside, xyz, valid, normal),
        height_mm=None if plane is None else _MM * (level + plane[3]),
        relief_mm=None if relief is None else _MM * relief,
    )


def _relief(points: FloatArray, around: FloatArray, normal: NDArray[np.float64]) -> float:
    """Return the median height of points ``(N, 3)`` over those about them, in metres.

    It is measured from the plane through these, where they lie on all sides; else from their
    median height.
    """
    side = np.cross(normal, [0.0, 1.0, 0.0] if abs(normal[1]) < 0.9 else [1.0, 0.0, 0.0])
    axes = np.stack([side, np.cross(normal, side)]).T / np.linalg.norm(side)
    inner, outer = points @ axes, around @ axes
    heights = around.astype(np.float64) @ normal
    surrounded = (outer.min(axis=0) <= inner.min(axis=0)) & (inner.max(axis=0) <= outer.max(axis=0))
    if len(around) < _FEWEST_AROUND or not surrounded.all():
        return float(np.median(points @ normal) - np.median(heights))
    centre = outer.mean(axis=0)
    table = np.column_stack([outer - centre, np.ones(len(outer))])
    slope, *_ = np.linalg.lstsq(table, heights, rcond=None)
    rim = np.column_stack([inner - centre, np.ones(len(inner))]) @ slope
    return float(np.median(points.astype(np.float64) @ normal - rim))


def _area(
    inside: BoolArray, xyz: FloatArray, valid: BoolArray, normal: NDArray[np.float64]
) -> float | None:
    """Return the area of a region as it is seen along a normal, in square millimetres.

    A pixel's area is that between its point and those to the right and below. Pixels without them
    count as the median of the region, or of its surroundings where it has none.
    """
    right, below = xyz[:-1, 1:] - xyz[:-1, :-1], xyz[1:, :-1] - xyz[:-1, :-1]
    known = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1]
    areas = np.abs(np.cross(right, below) @ normal)
    usual = areas[known & inside[:-1, :-1]]
    if len(usual) == 0:
        usual = areas[known & _near(inside, _SPACINGS)[:-1, :-1]]
    if len(usual) == 0:
        return None
    return float(np.count_nonzero(inside) * np.median(usual) * _MM**2)


def _near(inside: BoolArray, distance: int) -> BoolArray:
    """Return where a pixel of a mask is within a square of so many pixels to each side."""
    side = (2 * distance + 1,) * 2
    # A sum of running totals: a dilation takes longer the larger its square is.
    count = cv2.boxFilter(
        inside.astype(np.float32), -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(count > 0.5)
