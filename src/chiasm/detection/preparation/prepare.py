"""Prepare a sensor's frame: remove the support plane, take the part or parts, crop a square."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np

from chiasm.detection.preparation.background import (
    BackgroundColours,
    colour_objects,
    mask_by_background,
    mask_by_border,
    widened,
)
from chiasm.detection.preparation.clusters import (
    Cluster,
    in_reading_order,
    objects_in,
    with_others,
)
from chiasm.detection.preparation.frame_mask import FrameMask
from chiasm.detection.preparation.support_plane import Plane, fit_support_plane
from chiasm.detection.preparation.surface import largest_cluster, surface_normals
from chiasm.errors import DataError
from chiasm.samples import BoolArray, CropBox, FloatArray, PreparedSample, RGBDSample

logger = logging.getLogger(__name__)

_CUT = 0.005  # share of a part beyond its crop that is worth a remark
_CUT_NOTE = (
    "The part is larger than the normal parts of the training: what lies beyond their crop is not "
    "looked at."
)
_NO_PLANE = (
    "No support plane was found: all measured points are taken for the part. Is the frame's border "
    "covered?"
)
_LEAST_SHARE = 1e-3  # of the frame, that an object takes
Objects = Literal["largest", "all", "split"]
_MAX_SQUARE = 16_000_000  # pixels, for frames of less than a quarter of this area


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """How a sample is prepared; part of the cache's key and of the model's contract.

    Attributes:
        size: side of the crop in pixels after resizing.
        remove_background: False takes the whole frame as the object.
        plane_distance: metres from the plane within which points are inliers of its fit; None is
            automatic.
        plane_margin: metres above the plane below which points are background; None takes 2 mm at
            0.6 m from the camera, in proportion to the distance, and at least 4 times the noise.
        crop_fraction: side of the crop as a share of the frame's longer side, equal for all
            samples, which keeps their scale; None takes each object's bounding box.
        margin: added to the bounding box on each side, as a share of its longer side.
        told_by: what tells the part from its background: its 3D ``points``; the ``colours`` of the
            background of all normals, where 3D points are not read; or the colours of the
            ``border`` of its own frame, likewise. None takes the points where there are any, else
            the border, as versions 1 and 2 of a contract mean it.
        background: of ``told_by="colours"``.
        objects: of several above the support plane, look at the ``largest``; at ``all`` together;
            or ``split`` the frame into a part for each.
        region: pixels of the frame that are looked at; None looks at all.
        ignore: pixels that are not looked at, wherever the part lies.
    """

    size: int = 256
    remove_background: bool = True
    plane_distance: float | None = None
    plane_margin: float | None = None
    crop_fraction: float | None = None
    margin: float = 0.06
    told_by: Literal["points", "colours", "border"] | None = None
    background: BackgroundColours | None = None
    objects: Objects = "largest"
    region: FrameMask | None = None
    ignore: FrameMask | None = None


def prepare(
    sample: RGBDSample, settings: PreparationSettings, *, part: int | None = None
) -> PreparedSample:
    """Remove the background, crop the part and resize it to ``size`` x ``size`` pixels.

    ``part`` is the number of an object, from 1 in reading order, where frames are split; None
    takes the largest. RGB is resized bilinearly (by area if it shrinks); xyz, validity and mask by
    nearest neighbour only. Without a support plane, all measured points count as the object.

    Raises:
        DataError: no 3D point was measured, no part is seen, or the sensor that tells the part
            from its background is missing.
    """
    sample, plane = _told(sample, settings)
    if settings.objects != "split":
        foreground, notes = _mask(sample, plane, settings)
        return _prepared(sample, plane, foreground, notes, settings)
    masks, notes = _object_masks(sample, plane, settings)
    if part is None:
        return _prepared(sample, plane, max(masks, key=np.count_nonzero), notes, settings)
    if part > len(masks):
        raise DataError(
            f"{sample.source} has {len(masks)} objects, and number {part} is asked for; was the "
            "file changed since the training began? Start it again in another folder."
        )
    return _prepared(sample, plane, masks[part - 1], notes, settings)


def prepare_objects(sample: RGBDSample, settings: PreparationSettings) -> list[PreparedSample]:
    """Prepare each object of a frame that is split, in reading order; raises as ``prepare``.

    Sources are numbered, ``FILE#1`` and so on. Of other settings, the one part as it is.
    """
    if settings.objects != "split":
        return [prepare(sample, settings)]
    sample, plane = _told(sample, settings)
    masks, notes = _object_masks(sample, plane, settings)
    return [
        _prepared(replace(sample, source=f"{sample.source}#{number}"), plane, mask, notes, settings)
        for number, mask in enumerate(masks, 1)
    ]


def object_masks(sample: RGBDSample, settings: PreparationSettings) -> list[BoolArray]:
    """Return the masks ``(H, W)`` that crops are made of: one, or one for each object."""
    sample, plane = _told(sample, settings)
    if settings.objects == "split":
        return _object_masks(sample, plane, settings)[0]
    return [_mask(sample, plane, settings)[0]]


def count_objects(sample: RGBDSample, settings: PreparationSettings) -> int:
    """Return how many objects lie in a frame above its support plane; 1 where there is none."""
    return len(object_masks(sample, replace(settings, objects="split")))


def _told(sample: RGBDSample, settings: PreparationSettings) -> tuple[RGBDSample, Plane | None]:
    """Return the sample with what tells its part alone, and its support plane."""
    sample = _as_told(sample, settings)
    if sample.xyz is not None and not sample.valid.any():
        raise DataError(f"{sample.source}: all 3D points are missing, so there is no part to see.")
    return sample, _plane_of(sample, settings)


def _prepared(
    sample: RGBDSample,
    plane: Plane | None,
    foreground: BoolArray,
    notes: tuple[str, ...],
    settings: PreparationSettings,
) -> PreparedSample:
    notes = (*sample.notes, *notes)
    box = crop_box(foreground, settings)
    if _cut_away(foreground, box) > _CUT:
        notes = (*notes, _CUT_NOTE)
    size = settings.size

    def nearest(array: np.ndarray) -> np.ndarray:
        return _crop(array, box, size, cv2.INTER_NEAREST_EXACT)

    def nearest_mask(mask: BoolArray) -> BoolArray:
        return nearest(mask.view(np.uint8)).view(np.bool_)

    inside = nearest_mask(foreground)
    rgb = None
    if sample.rgb is not None:
        shrinking = box.side > size
        rgb = _crop(sample.rgb, box, size, cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        rgb = masked(np.clip(rgb, 0, 1, out=rgb), inside)
    xyz = height = normals = depth = None
    coefficients = None
    valid = inside
    if sample.xyz is not None:
        valid = nearest_mask(sample.valid) & inside
        if not valid.any():
            raise DataError(
                f"{sample.source}: hardly any 3D point was measured on the part, and none is left "
                f"at {size} x {size} pixels. Is the sensor covered?"
            )
        xyz = masked(nearest(sample.xyz), valid)
        normals = surface_normals(xyz, valid)
        plane = plane or _plane_behind(xyz, valid)
        coefficients = plane.coefficients
        height = plane.height(xyz) * valid
        depth = _min_max(np.asarray(cv2.extractChannel(xyz, 2), dtype=np.float32), valid)
    mask = None if sample.mask is None else nearest_mask(sample.mask)
    return PreparedSample(
        rgb=rgb,
        xyz=xyz,
        height=height,
        normals=normals,
        depth=depth,
        valid=valid,
        foreground=inside,
        mask=mask,
        box=box,
        plane=coefficients,
        label=sample.label,
        kind=sample.kind,
        group=sample.group,
        split=sample.split,
        source=sample.source,
        notes=notes,
    )


def part_mask(sample: RGBDSample, settings: PreparationSettings) -> BoolArray:
    """Return the mask ``(H, W)`` of what is looked at, with holes in its 3D data filled."""
    return np.logical_or.reduce(object_masks(sample, settings))


def _plane_of(sample: RGBDSample, settings: PreparationSettings) -> Plane | None:
    if sample.xyz is None:
        return None
    return fit_support_plane(sample.xyz, sample.valid, distance=settings.plane_distance)


def _as_told(sample: RGBDSample, settings: PreparationSettings) -> RGBDSample:
    """Return the sample without 3D points that do not tell its part; refuse one without those."""
    if not settings.remove_background or settings.told_by is None:
        return sample
    name = sample.source or "This part"
    if settings.told_by == "points":
        if sample.xyz is None:
            raise DataError(
                f"{name} has no 3D points, and the model tells parts from their background by "
                "them. Give the points as well, or train on colours alone without any."
            )
        return sample
    if sample.rgb is None:
        raise DataError(
            f"{name} has no RGB image, and the model tells parts from their background by colour."
        )
    return replace(sample, xyz=None, valid=np.ones_like(sample.valid))


def _mask(
    sample: RGBDSample, plane: Plane | None, settings: PreparationSettings
) -> tuple[BoolArray, tuple[str, ...]]:
    """Return the part's mask, and remarks on it."""
    region, ignored = _looked_at(sample, settings)

    def limited(mask: BoolArray) -> BoolArray:
        if region is None and ignored is None:
            return mask
        mask = mask.copy() if region is None else mask & region
        if ignored is not None:
            mask &= ~ignored
        if not mask.any():
            raise DataError(
                f"{sample.source}: the part lies outside the region that is looked at, or in what "
                "is ignored. Was it moved, or the tray left empty?"
            )
        return mask

    if not settings.remove_background:
        return limited(np.ones_like(sample.valid)), ()
    if sample.xyz is None:
        masks, notes = _colour_masks(sample, settings, region)
        return limited(np.logical_or.reduce(masks)), notes
    if plane is None:
        logger.warning("%s: no support plane was found; all points are kept.", sample.source)
        points = sample.valid if region is None else sample.valid & region
        return limited(largest_cluster(points, closing=_closing_radius(points))), (_NO_PLANE,)
    objects, notes = _objects(sample, plane, settings)
    if settings.objects == "largest":
        return limited(objects[0].in_frame(sample.valid.shape)), notes
    union = np.logical_or.reduce([each.in_frame(sample.valid.shape) for each in objects])
    return limited(union), notes


def _object_masks(
    sample: RGBDSample, plane: Plane | None, settings: PreparationSettings
) -> tuple[list[BoolArray], tuple[str, ...]]:
    """Return the mask of each object in reading order, and remarks on all."""
    region, ignored = _looked_at(sample, settings)
    if sample.xyz is None and settings.remove_background:
        masks, notes = _colour_masks(sample, settings, region)
        masks = masks if region is None else [mask & region for mask in masks]
    elif plane is None or not settings.remove_background:
        mask, notes = _mask(sample, plane, settings)
        return [mask], notes
    else:
        objects, notes = _objects(sample, plane, settings)
        masks = [each.in_frame(sample.valid.shape) for each in in_reading_order(objects)]
    if ignored is not None:
        masks = [seen for mask in masks if (seen := mask & ~ignored).any()]
    return masks, notes


def _objects(
    sample: RGBDSample, plane: Plane, settings: PreparationSettings
) -> tuple[list[Cluster], tuple[str, ...]]:
    """Return the objects above a support plane, the part first, and remarks on others.

    What the frame's border cuts off is no further object: walls and fixtures cross it. Neither is
    what lies mostly in ignored pixels.
    """
    assert sample.xyz is not None
    margin = settings.plane_margin
    if margin is None:
        margin = max(0.0035 * abs(plane.coefficients[3]), 4 * plane.noise)
    above = (plane.height(sample.xyz) > margin) & sample.valid
    region, ignored = _looked_at(sample, settings)
    if region is not None:
        above &= region
    least = _LEAST_SHARE * above.size
    found = objects_in(above, closing=_closing_radius(above), least=math.ceil(least))
    if ignored is not None:
        seen = [
            each
            for each in found
            if 2 * np.count_nonzero(each.in_frame(above.shape) & ~ignored)
            >= np.count_nonzero(each.mask)
        ]
        found = sorted(seen, key=lambda each: not each.inside)
    if not found or np.count_nonzero(found[0].mask) < least:
        where = "" if region is None and ignored is None else " where it is looked"
        raise DataError(
            f"{sample.source}: nothing rises more than {1000 * margin:.1f} mm above the support "
            f"plane{where}. Is the tray or belt empty, or the part flat? For flat parts, set "
            "plane_margin lower, or remove_background=false."
        )
    return with_others(found, settings.objects)


def _colour_masks(
    sample: RGBDSample, settings: PreparationSettings, region: BoolArray | None
) -> tuple[list[BoolArray], tuple[str, ...]]:
    """Return the masks of the objects that colours tell, in reading order, and remarks.

    Raises ``DataError`` where no part stands out from the normals' background.
    """
    known = settings.background
    notes: tuple[str, ...] = ()
    if known is None:
        mask = mask_by_border(sample)
    else:
        mask, notes = mask_by_background(sample, known)
    if notes or mask.all():  # of another background, or of none
        return [mask], notes
    found, edge = colour_objects(sample, known, looked_at=region)
    if not found:
        return [mask], notes
    objects, notes = with_others(found, settings.objects)
    if settings.objects == "largest" and region is None:
        return [mask], notes
    objects = objects[:1] if settings.objects == "largest" else in_reading_order(objects)
    return [widened(each.in_frame(mask.shape), edge) for each in objects], notes


def _looked_at(
    sample: RGBDSample, settings: PreparationSettings
) -> tuple[BoolArray | None, BoolArray | None]:
    """Return the pixels ``(H, W)`` that are looked at, and those that are ignored."""
    height, width = sample.valid.shape
    name = sample.source or "This frame"
    return (
        None if settings.region is None else settings.region.at(height, width, name=name),
        None if settings.ignore is None else settings.ignore.at(height, width, name=name),
    )


def _cut_away(foreground: BoolArray, box: CropBox) -> float:
    """Return the share of a mask that lies outside the crop."""
    in_frame, _ = _overlap(box)
    kept, whole = (int(np.count_nonzero(mask)) for mask in (foreground[in_frame], foreground))
    return 1 - kept / max(whole, 1)


def crop_box(foreground: BoolArray, settings: PreparationSettings) -> CropBox:
    """Return the square around the object, centred on its bounding box."""
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    height, width = foreground.shape
    if len(rows) == 0:
        raise DataError("No pixel belongs to the object.")
    if settings.crop_fraction is not None:
        side = round(settings.crop_fraction * max(height, width))
    else:
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        side = round(extent * (1 + 2 * settings.margin))
    if side * side > max(_MAX_SQUARE, 4 * height * width):
        raise DataError(
            f"The part is so much longer than wide that its square, {side} pixels a side, would "
            f"take {side * side / 1e6:.0f} million pixels of a frame of {width} x {height}. Cut "
            "the frame into pieces that are nearer to squares."
        )
    top = (rows[0] + rows[-1] + 1 - side) // 2
    left = (columns[0] + columns[-1] + 1 - side) // 2
    return CropBox(int(top), int(left), int(max(side, 8)), height, width)


def settings_from_json(content: Mapping[str, Any]) -> PreparationSettings:
    """Return the settings that ``dataclasses.asdict`` and JSON made a mapping of."""
    fields = dict(content)
    if fields.get("background") is not None:
        background = fields["background"]
        fields["background"] = BackgroundColours(
            **{name: tuple(values) for name, values in background.items()}
        )
    for name in ("region", "ignore"):
        if fields.get(name) is not None:
            fields[name] = FrameMask(**fields[name])
    return PreparationSettings(**fields)


def estimate_crop_fraction(samples: Iterable[RGBDSample], settings: PreparationSettings) -> float:
    """Return the crop of the largest normal part, as a share of the frame's longer side."""
    shares = [share for sample in samples for share in crop_shares(sample, settings)]
    return min(float(np.max(shares)), 1.0)


def crop_shares(sample: RGBDSample, settings: PreparationSettings) -> list[float]:
    """Return the crop of each part of a frame, as a share of the frame's longer side."""
    boxes = [
        crop_box(mask, replace(settings, crop_fraction=None))
        for mask in object_masks(sample, settings)
    ]
    return [box.side / max(box.height, box.width) for box in boxes]


def masked(image: FloatArray, mask: BoolArray) -> FloatArray:
    """Copy an image ``(H, W)`` or ``(H, W, C)``, with 0 outside the mask ``(H, W)``."""
    copied: np.ndarray = cv2.copyTo(image, mask.view(np.uint8))
    return copied


def paste(scores: FloatArray, box: CropBox) -> FloatArray:
    """Paste a crop's map ``(S, S)`` into its frame ``(H, W)``, 0 outside the crop."""
    return _in_frame(_resized(scores, box), box)


def paste_mask(mask: BoolArray, box: CropBox) -> BoolArray:
    """Paste a crop's mask ``(S, S)`` into its frame ``(H, W)``, False outside the crop."""
    return _in_frame(_resized(mask, box) > 0.5, box)


def _resized(image: np.ndarray, box: CropBox) -> FloatArray:
    interpolation = cv2.INTER_AREA if box.side < image.shape[0] else cv2.INTER_LINEAR
    side = (box.side, box.side)
    resized: np.ndarray = cv2.resize(
        image.astype(np.float32, copy=False), side, interpolation=interpolation
    )
    return resized


def _in_frame(patch: np.ndarray, box: CropBox) -> np.ndarray:
    frame = np.zeros((box.height, box.width), patch.dtype)
    in_frame, in_square = _overlap(box)
    frame[in_frame] = patch[in_square]
    return frame


def _overlap(box: CropBox) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the overlap of frame and square: its window in the frame, and in the square."""
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.side, box.height), min(box.left + box.side, box.width)
    return (
        (slice(top, bottom), slice(left, right)),
        (slice(top - box.top, bottom - box.top), slice(left - box.left, right - box.left)),
    )


def _crop(array: np.ndarray, box: CropBox, size: int, interpolation: int) -> np.ndarray:
    in_frame, in_square = _overlap(box)
    square = array[in_frame]
    if square.shape[:2] != (box.side, box.side):
        square = np.zeros((box.side, box.side, *array.shape[2:]), array.dtype)
        square[in_square] = array[in_frame]
    resized: np.ndarray = cv2.resize(square, (size, size), interpolation=interpolation)
    return resized


def _closing_radius(mask: BoolArray) -> int:
    # Depth sensors lose points along edges, over about 1 % of the frame's side.
    return max(1, round(0.01 * max(mask.shape)))


def _min_max(z: FloatArray, valid: BoolArray) -> FloatArray:
    if not valid.any():
        return np.zeros_like(z)
    low, high, _, _ = cv2.minMaxLoc(z, valid.view(np.uint8))
    return (z - np.float32(low)) / np.float32(max(high - low, 1e-9)) * valid


def _plane_behind(xyz: FloatArray, valid: BoolArray) -> Plane:
    """Return the plane normal to the optical axis through the farthest point."""
    return Plane((0.0, 0.0, -1.0, float(xyz[..., 2][valid].max())), noise=0.0)
