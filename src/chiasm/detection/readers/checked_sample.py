"""Load the files of one part, and check arrays before they become a sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chiasm.detection.preparation.distance import check_distance, check_metres
from chiasm.detection.readers.camera import back_project, camera_for, camera_of
from chiasm.detection.readers.range_image import (
    COLOURS_WITHIN,
    RangeImage,
    RangeSettings,
    read_range,
)
from chiasm.detection.readers.source import SampleRef
from chiasm.detection.sensors.orientation import orientation_of, turned, upright
from chiasm.detection.sensors.point_order import ABOVE, seen_from_above
from chiasm.detection.sensors.registration import scaled_to
from chiasm.errors import DataError
from chiasm.files.decoding import Numbers
from chiasm.files.image_arrays import array_of, channels_last, rgb_image
from chiasm.files.images import depth_image, in_16_bits, point_map, read_mask, read_rgb
from chiasm.samples import BoolArray, FloatArray, RGBDSample

MOST_SCALED = 8  # colours more times as fine or as coarse as the points are of another image
SMALLEST_SIDE = 16  # pixels; a smaller frame cannot be scored


def load_sample(
    ref: SampleRef,
    *,
    xyz: FloatArray | None = None,
    unit_m: float | None = None,
    notes: Sequence[str] = (),
) -> RGBDSample:
    """Read the ``rgb``, ``xyz`` and ``mask`` files that a reference names, and check the sample.

    An image without 3D points is turned as its EXIF orientation says, as viewers show it.
    ``xyz`` ``(H, W, 3)`` takes the place of a point map that the reader computed from other files;
    ``unit_m`` is the length of the point map's unit in metres, None takes metres and refuses what
    can hardly be in them; ``notes`` are remarks of the reader. Raises ``DataError`` naming the file
    and its fault.
    """
    files, within = ref.files, None
    if "xyz" in files:
        image = _points_of(files, RangeSettings(unit_m=unit_m))
        xyz, within = image.xyz, image.rgb
        said = (note for note in image.remarks if note != COLOURS_WITHIN or "rgb" not in files)
        notes = (*notes, *said)
    mask = _mask_of(files)
    rgb = None if within is None else in_16_bits(within)
    if "rgb" in files:
        stored = read_rgb(files["rgb"], bits_of(ref))
        rgb = _upright(stored, files["rgb"], xyz)
        if xyz is None and mask is not None and mask.shape != rgb.shape[:2]:
            content = Path(files["rgb"]).read_bytes()
            as_looked_at = turned(mask, orientation_of(content))  # it was drawn on what is stored
            mask = as_looked_at if as_looked_at.shape == rgb.shape[:2] else mask
    if rgb is not None and xyz is not None:
        rgb, mask, remarks = of_one_size(rgb, mask, xyz)
        notes = (*notes, *remarks)
    sample = checked_sample(ref, rgb=rgb, xyz=xyz, mask=mask)
    return replace(sample, notes=tuple(notes)) if notes else sample


def _points_of(files: Mapping[str, Path], settings: RangeSettings) -> RangeImage:
    """Read the 3D file of a part; the size of its image is that of points in a bare list."""
    try:
        return read_range(files["xyz"], settings)
    except DataError:
        if "rgb" not in files or files["xyz"].suffix.lower() not in (".npy", ".npz"):
            raise
        rgb = read_rgb(files["rgb"])
        return read_range(files["xyz"], settings, (rgb.shape[0], rgb.shape[1]))


def _upright(rgb: FloatArray, path: Path | str, points: FloatArray | None) -> FloatArray:
    """Return an image as it is looked at, or as its 3D points lie."""
    partner = None if points is None else (points.shape[0], points.shape[1])
    return upright(rgb, Path(path).read_bytes(), partner=partner, name=str(path))


def of_one_size(
    rgb: FloatArray, mask: BoolArray | None, xyz: FloatArray
) -> tuple[FloatArray, BoolArray | None, tuple[str, ...]]:
    """Scale colours and mask to the points where their sizes have a whole ratio, and say so."""
    size = (xyz.shape[0], xyz.shape[1])
    if mask is not None and mask.shape == rgb.shape[:2] != size:
        fitting = scaled_to(mask, size, mask=True)
        mask = mask if fitting is None else fitting
    if max(rgb.shape[0] / size[0], size[0] / rgb.shape[0]) > MOST_SCALED:
        return rgb, mask, ()
    if rgb.shape[:2] == size or (scaled := scaled_to(rgb, size)) is None:
        return rgb, mask, ()
    height, width = rgb.shape[:2]
    return (
        in_16_bits(scaled),
        mask,
        (
            f"Colours of {width} x {height} pixels were scaled to the {size[1]} x {size[0]} of the "
            "3D points, as of one camera. Two cameras have to be registered: chiasm data convert "
            "with --intrinsics, --colour-intrinsics and --extrinsic.",
        ),
    )


def _mask_of(files: Mapping[str, Path]) -> BoolArray | None:
    """Return the mask of a part; several of one part (``mask``, ``mask_1`` ...) are joined."""
    paths = [path for role, path in files.items() if role.split("_")[0] == "mask"]
    if not paths:
        return None
    masks = [read_mask(path) for path in paths]
    for mask, path in zip(masks, paths):
        if mask.shape != masks[0].shape:
            raise DataError(
                f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels, and {paths[0]} of the same "
                f"part {masks[0].shape[1]} x {masks[0].shape[0]}; masks of one part have one size."
            )
    return np.logical_or.reduce(masks)


def bits_of(ref: SampleRef) -> int | None:
    """Return the bits that its camera used of 16, where that was found; else None."""
    bits = ref.extra.get("bits")
    return None if bits is None else int(bits)


def checked_sample(
    ref: SampleRef, rgb: FloatArray | None, xyz: FloatArray | None, mask: BoolArray | None
) -> RGBDSample:
    """Check the images of one part and join them into a sample.

    ``rgb`` and ``xyz`` are ``(H, W, 3)``, and at least one of them is needed; ``mask`` is
    ``(H, W)``. A part that is labelled good and has no mask gets an empty one. Raises
    ``DataError`` if sizes differ, no 3D point was measured, points are too far away for metres,
    or mask and label contradict each other.
    """
    images = {"rgb": rgb, "xyz": xyz, "mask": mask}
    sizes = {role: image.shape[:2] for role, image in images.items() if image is not None}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(
            f"{role} {h}x{w} ({_file(ref, role)})" for role, (h, w) in sizes.items()
        )
        raise DataError(
            f"The images of one part differ in size (height x width): {listing}. They must be "
            "registered pixel by pixel; resample one to the other's frame first.",
            see="sizes-differ",
        )
    size = next(iter(sizes.values()))
    if xyz is None:
        valid = np.ones(size, dtype=np.bool_)
    else:
        valid = np.asarray((xyz != 0).any(axis=2))
        if not valid.any():
            raise DataError(
                f"{_file(ref, 'xyz')} holds no 3D point at all: every pixel is 0 (missing). "
                "Record the part again.",
                see="no-points",
            )
        check_metres(xyz, _file(ref, "xyz"))
    if ref.label == 1 and mask is not None and not mask.any():
        raise DataError(
            f"{_file(ref, 'mask')} is empty although {ref.source} is labelled defective "
            f"({ref.kind or 'no kind given'}); draw the defect or label the part good.",
            see="mask-and-label",
        )
    if ref.label == 0:
        if mask is None:
            mask = np.zeros(size, dtype=np.bool_)
        elif mask.any():
            raise DataError(
                f"{_file(ref, 'mask')} marks {int(mask.sum())} defective pixels although "
                f"{ref.source} is labelled good; empty the mask or label the part defective.",
                see="mask-and-label",
            )
    return RGBDSample(
        rgb=rgb,
        xyz=xyz,
        valid=valid,
        mask=mask,
        label=ref.label,
        kind=ref.kind,
        group=ref.group,
        split=ref.split,
        source=ref.source,
    )


def _file(ref: SampleRef, role: str) -> str:
    """Return the path of a role's file; 3D points may come from a depth image."""
    path = ref.files.get(role) or (ref.files.get("depth") if role == "xyz" else None)
    return str(path or ref.source)


def sample_from_arrays(
    rgb: Any,
    xyz: Any,
    *,
    depth: Any = None,
    intrinsics: Any = None,
    depth_unit: float | None = None,
    source: str = "",
) -> RGBDSample:
    """Make a sample of what a caller hands over.

    Args:
        rgb: a path, an array ``(H, W, 3)``, a PIL image or a tensor (see ``rgb_image``), or None.
        xyz: a path, or floats ``(H, W, 3)`` in metres, 0 or NaN where missing, or None.
        depth: instead of ``xyz``: a path, or ``(H, W)`` along the optical axis, 0 or NaN where
            missing. Floats are metres unless ``depth_unit`` is given.
        intrinsics: of the depth camera in pixels: an ``Intrinsics``, a mapping of ``fx``, ``fy``,
            ``cx`` and ``cy``, a 3 x 3 matrix, or the path of a file (see ``read_intrinsics``).
        depth_unit: metres of one count of depth, for example 0.001; integers need it.
        source: name of the part in verdicts and messages.

    Raises:
        DataError: shapes, types, units or values do not fit, or nothing is given.
    """
    remarks: list[str] = []
    if depth is not None:
        if xyz is not None:
            raise DataError("Both xyz and depth are given; pass one of them.")
        xyz = points_from_depth(depth, intrinsics, depth_unit, remarks)
    elif intrinsics is not None or depth_unit is not None:
        raise DataError("intrinsics and depth_unit belong to depth, which is not given.")
    if rgb is None and xyz is None:
        raise DataError("A part needs an RGB image, 3D points, or both; neither was given.")
    colours = None if rgb is None else rgb_image(rgb)
    points = None if xyz is None else _point_map(xyz, remarks)
    if colours is not None and isinstance(rgb, str | Path):
        colours = _upright(colours, rgb, points)
    if colours is not None and points is not None and colours.shape != points.shape:
        raise DataError(
            f"rgb is {colours.shape[1]} x {colours.shape[0]} pixels and xyz {points.shape[1]} x "
            f"{points.shape[0]}: they must show the same pixels.",
            see="sizes-differ",
        )
    if points is not None and points.size:
        check_metres(points, source or "this part")
        valid = cv2.inRange(points, (0, 0, 0), (0, 0, 0)) == 0
    else:
        shape = next(image.shape[:2] for image in (colours, points) if image is not None)
        valid = np.full(shape, points is None)
    return RGBDSample(
        rgb=colours, xyz=points, valid=valid, source=source, notes=tuple(dict.fromkeys(remarks))
    )


def check_fits_model(
    sample: RGBDSample,
    *,
    modalities: Collection[str],
    distance: tuple[float, float] | None,
) -> None:
    """Refuse a sample that can be prepared but does not fit the model.

    Args:
        sample: one part.
        modalities: that the model was trained with.
        distance: metres from the camera, least and most of the calibration parts; None if unknown.

    Raises:
        DataError: a modality is missing, the frame is too small, or the distance is in another
            unit.
    """
    name = sample.source or "This part"
    images = {"rgb": ("an RGB image", sample.rgb), "geometry": ("3D points", sample.xyz)}
    for modality in modalities:
        word, image = images[modality]
        if image is None:
            raise DataError(
                f"{name} has no {modality}; this model was trained with {word}.",
                see="absent-sensor",
            )
    height, width = sample.valid.shape
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"{name} is {width} x {height} pixels; at least {SMALLEST_SIDE} a side are needed."
        )
    if sample.xyz is not None:
        check_distance(sample.xyz, distance, name)


def points_from_depth(
    depth: Any, intrinsics: Any, unit: float | None, remarks: list[str]
) -> FloatArray:
    """Place the pixels of a depth image in space; arguments as in ``sample_from_arrays``.

    ``remarks`` gets what was assumed, a sentence each.
    """
    if intrinsics is None:
        raise DataError(
            "depth needs the intrinsics of its camera: pass intrinsics={'fx': ..., 'fy': ..., "
            "'cx': ..., 'cy': ...} in pixels.",
            see="camera",
        )
    camera = camera_of(intrinsics)
    if isinstance(depth, str | Path):
        image = read_range(depth, RangeSettings(unit_m=unit, camera=camera))
        remarks += image.remarks
        return image.xyz
    counts = np.squeeze(array_of(depth, "depth"))
    if counts.ndim != 2:
        raise DataError(f"depth must have shape (height, width), but has {counts.shape}.")
    if unit is None and not np.issubdtype(counts.dtype, np.floating):
        raise DataError(
            f"depth holds whole counts ({counts.dtype}) of unknown length; pass depth_unit, the "
            "metres of one count, for example 0.001.",
            see="camera",
        )
    metres = depth_image(Numbers(counts), "depth", unit, remarks=remarks)
    return back_project(metres, camera_for(camera, metres.shape, "depth", remarks))


def _point_map(value: Any, remarks: list[str]) -> FloatArray:
    """Return points ``(H, W, 3)`` float32 metres, 0 where missing."""
    if isinstance(value, str | Path):
        image = read_range(value, RangeSettings())
        remarks += image.remarks
        return image.xyz
    points = channels_last(array_of(value, "xyz"))
    if points.ndim != 3 or points.shape[2] != 3:
        raise DataError(f"xyz must have shape (height, width, 3), but has {tuple(points.shape)}.")
    if not np.issubdtype(points.dtype, np.floating):
        raise DataError(f"xyz must be floating point, in metres, but is {points.dtype}.")
    xyz = point_map(Numbers(points), "xyz", remarks=remarks)
    above = seen_from_above(xyz, "xyz")
    if above is None:
        return xyz
    remarks.append(ABOVE)
    return above
