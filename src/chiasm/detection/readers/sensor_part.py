"""Join what a 3D sensor measured with the colours of the same part, of one camera or of two."""

from __future__ import annotations

from chiasm.detection.readers.camera import Intrinsics
from chiasm.detection.readers.checked_sample import of_one_size
from chiasm.detection.readers.range_image import COLOURS_WITHIN, RangeImage
from chiasm.detection.sensors.registration import ColourView
from chiasm.files.images import in_16_bits
from chiasm.samples import BoolArray, FloatArray


def size_of_colours(rgb: FloatArray | None, colours: ColourView | None) -> tuple[int, int] | None:
    """Return the height and width that 3D points are to have; None where colours do not tell."""
    if rgb is None or colours is not None:
        return None
    return rgb.shape[0], rgb.shape[1]


def with_colours(
    image: RangeImage,
    rgb: FloatArray | None,
    mask: BoolArray | None = None,
    *,
    colours: ColourView | None = None,
    depth_camera: Intrinsics | None = None,
    name: str,
) -> tuple[FloatArray | None, BoolArray | None, tuple[str, ...]]:
    """Return colours and mask in the pixels of the points, and all remarks.

    Args:
        image: of the 3D sensor.
        rgb: ``(H', W', 3)`` in [0, 1]; None takes the colours within the 3D file, if any.
        mask: of either frame.
        colours: the camera of ``rgb``, which is not registered; None if it is.
        depth_camera: None takes the one that the points are of.
        name: of the 3D file in messages.

    Raises:
        DataError: the colours cannot be brought to the points.
    """
    if rgb is None:
        within = None if image.rgb is None else in_16_bits(image.rgb)
        return within, mask, image.remarks
    if colours is None:
        rgb, mask, said = of_one_size(rgb, mask, image.xyz)
        return in_16_bits(rgb), mask, (*image.remarks, *said)
    rgb, mask, said = colours.coloured(rgb, image.xyz, mask, depth_camera=depth_camera, name=name)
    # The colours within were not taken.
    return (
        in_16_bits(rgb),
        mask,
        (*(note for note in image.remarks if note != COLOURS_WITHIN), *said),
    )
