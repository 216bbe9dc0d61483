"""Tell a part from its background by colour alone, by a look that all normals have in common.

Whether there is a background is decided once, from all normals: what is left out must be of one
colour, plain, and equal in all of them. Otherwise the frame is looked at as a whole, because a part
that fills it has its own colours at the border.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.preparation.clusters import Cluster, objects_in
from chiasm.detection.preparation.support_plane import border_strips
from chiasm.detection.preparation.surface import largest_cluster
from chiasm.errors import DataError
from chiasm.samples import BoolArray, FloatArray, RGBDSample

_TOLERANCE = 4.0  # spreads from the colour of its border at which a pixel of a frame differs
# What all normals have in common is plain, so that it does no harm to look at some of it: the
# known background is told more narrowly, and gaps and edges of the part are looked at.
_NARROW = 3.0  # spreads
_GAP, _EDGE = 0.02, 0.01  # shares of the frame's longer side
_FLOOR = 0.02  # least spread: five grey levels of 255
_BORDER = 0.04  # width of the border as a share of the frame's longer side

GRID = 64  # cells along each side of the frame in which normals are compared
# Limits of the decision; docs/decisions/0019 has what was measured.
_FEWEST = 3  # normals
_SAME_COLOUR = 0.1  # difference of one frame's border from those of the others, of the full range
_BORDER_SHARE = 0.8  # of a frame's border that has the background's colour
_PLAIN = 0.006  # of the full range, 1.5 grey levels: residues of what would be left out
# Times the noise of a cell's mean, which residues between normals and in common may be besides:
# a limit of nine in ten cells and of the largest of three channels.
_NOISE, _NOISE_IN_COMMON = 2.0, 3.0
_SHARE = 0.9  # of the cells whose residues are within the limit
_STRIP = max(2, round(_BORDER * GRID))  # cells of the border
_AROUND = (7, 7)  # cells
# The difference of two Laplacians: no response to slopes and lines, 6 standard deviations to noise.
_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_LEAST_OBJECT = 1e-3  # of the frame
_LEAST, _MOST = 0.01, 0.9  # shares of the frame that a part takes
_SIZES = 2.5  # times that a part's area may differ from the median of the normals
_LARGER = 2.0  # times that a new part may be larger than the largest normal


@dataclass(frozen=True, slots=True)
class BackgroundColours:
    """The background that all normals have in common; part of the model's contract.

    Attributes:
        colour: its RGB.
        spread: robust standard deviation by channel, within frames and between them.
        shares: of the frame, that the smallest and the largest normal part take.
    """

    colour: tuple[float, float, float]
    spread: tuple[float, float, float]
    shares: tuple[float, float]


def mask_by_border(sample: RGBDSample) -> BoolArray:
    """Return the region that differs from the colours of its frame's border, or the whole frame.

    Nothing is known of other frames, so that a part at the border is taken for background.
    """
    assert sample.rgb is not None
    centre, deviation = _border_colour(sample.rgb)
    cluster = _differing(sample.rgb, centre, deviation + _FLOOR)
    return cluster if 0.01 < cluster.mean() < 0.9 else np.ones_like(sample.valid)


def mask_by_background(
    sample: RGBDSample, background: BackgroundColours
) -> tuple[BoolArray, tuple[str, ...]]:
    """Return the region that differs from the background of the normals, and remarks.

    If hardly anything is left of the known background, another tray may lie there: then the
    frame's own border tells the part, with a remark, provided that a part of the known size
    stands out from it.

    Raises:
        DataError: no part stands out, or what surrounds it is not a background.
    """
    assert sample.rgb is not None
    mask = differing(sample, background)
    largest = min(_LARGER * background.shares[1], 0.97)
    share = float(mask.mean())
    if share < 0.1 * background.shares[0]:
        raise DataError(
            f"{sample.source}: no part stands out from the background that the normal parts lay "
            "on. Is the part missing? Is it lit?"
        )
    if share <= largest:
        return mask, ()
    colour, _ = _border_colour(sample.rgb)
    mask = _differing_widely(sample.rgb, colour, np.array(background.spread))
    if 0.5 * background.shares[0] <= float(mask.mean()) <= largest:
        return mask, (
            "The background has another colour than that of the training: the part is told by the "
            "border of its own frame, and its edges may be told less well.",
        )
    raise DataError(
        f"{sample.source}: the background of the training is not seen, and no part of the normals' "
        "size stands out from what is. Was the camera moved, or the tray changed? Train with such "
        "frames, or with remove_background=false."
    )


def colour_objects(
    sample: RGBDSample, background: BackgroundColours | None, *, looked_at: BoolArray | None
) -> tuple[list[Cluster], int]:
    """Return the regions that differ from a background, the largest first, and their edge.

    Args:
        sample: with colours.
        background: of the normals; None takes the border of the frame.
        looked_at: ``(H, W)``; None looks everywhere.

    Returns:
        The regions, see ``objects_in``, and the width in pixels by which each is widened.
    """
    assert sample.rgb is not None
    if background is None:
        centre, deviation = _border_colour(sample.rgb)
        different = _different(sample.rgb, centre, deviation + _FLOOR, tolerance=_TOLERANCE)
        gap, edge = 0.01, 0.0
    else:
        colour, spread = np.array(background.colour), np.array(background.spread)
        different = _different(sample.rgb, colour, spread, tolerance=_NARROW)
        gap, edge = _GAP, _EDGE
    if looked_at is not None:
        different &= looked_at
    longer = max(different.shape)
    least = int(_LEAST_OBJECT * different.size) + 1
    return objects_in(different, closing=max(1, round(gap * longer)), least=least), (
        max(1, round(edge * longer)) if edge else 0
    )


def widened(mask: BoolArray, reach: int) -> BoolArray:
    """Return a mask ``(H, W)`` with the pixels around it up to a distance."""
    if reach == 0:
        return mask
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.view(np.uint8), square)).view(np.bool_)


def differing(sample: RGBDSample, background: BackgroundColours) -> BoolArray:
    """Return the largest region ``(H, W)`` that differs from a background, and its edge."""
    assert sample.rgb is not None
    return _differing_widely(sample.rgb, np.array(background.colour), np.array(background.spread))


def unequal(shares: Mapping[str, float]) -> str:
    """Return why parts with masks of these shares of the frame lie on no background; "" if so.

    Args:
        shares: of the frame, by source.
    """
    values = np.array(list(shares.values()))
    names = list(shares)
    if (values < _LEAST).any() or (values > _MOST).any():
        worst = names[int(np.argmax(np.abs(values - 0.5)))]
        return (
            f"in {int(((values < _LEAST) | (values > _MOST)).sum())} of {len(values)} normal parts "
            f"hardly anything, or nearly all, differs from the border's colours, as in {worst}."
        )
    median = float(np.median(values))
    ratio = values / median
    if (np.maximum(ratio, 1 / ratio) > _SIZES).any():
        worst = names[int(np.argmax(np.abs(np.log(ratio))))]
        return (
            "what differs from the border's colours has other sizes from one normal part to the "
            f"next ({values.min():.0%} to {values.max():.0%} of the frame), such as in {worst}."
        )
    return ""


def _all_of(cells: BoolArray) -> BoolArray:
    """Return the union of the objects among cells."""
    union = np.zeros_like(cells)
    for each in objects_in(cells, closing=1):
        union |= each.in_frame(cells.shape)
    return union


def _border_colour(rgb: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median RGB of the border, and the robust standard deviation by channel."""
    border = border_strips(rgb, max(2, round(_BORDER * max(rgb.shape[:2]))))
    centre = np.median(border, axis=0)
    return centre, np.median(np.abs(border - centre), axis=0) * 1.4826


def _border_noise(rgb: FloatArray) -> float:
    """Return the standard deviation of white noise at the border, by differences of neighbours.

    References:
        Immerkaer, "Fast Noise Variance Estimation", CVIU 1996; here with a median.
    """
    residues = np.abs(cv2.filter2D(rgb, -1, _LAPLACIANS))
    border = border_strips(residues, max(2, round(_BORDER * max(rgb.shape[:2]))))
    return 1.4826 * float(np.median(border)) / 6


def _differing_widely(
    rgb: FloatArray, centre: NDArray[np.floating], spread: NDArray[np.floating]
) -> BoolArray:
    cluster = _differing(rgb, centre, spread, tolerance=_NARROW, gap=_GAP)
    return widened(cluster, max(1, round(_EDGE * max(cluster.shape))))


def _differing(
    rgb: FloatArray,
    centre: NDArray[np.floating],
    spread: NDArray[np.floating],
    *,
    tolerance: float = _TOLERANCE,
    gap: float = 0.01,
) -> BoolArray:
    """Return the largest region of pixels that differ from a colour in any channel.

    Args:
        rgb: ``(H, W, 3)``.
        centre, spread: by channel.
        tolerance: in spreads.
        gap: share of the frame's longer side that does not divide a region.
    """
    different = _different(rgb, centre, spread, tolerance=tolerance)
    return largest_cluster(different, closing=max(1, round(gap * max(different.shape))))


def _different(
    rgb: FloatArray,
    centre: NDArray[np.floating],
    spread: NDArray[np.floating],
    *,
    tolerance: float,
) -> BoolArray:
    different = np.zeros(rgb.shape[:2], np.bool_)
    for channel, median, deviation in zip(cv2.split(rgb), centre, spread, strict=True):
        different |= np.abs(channel - median) / deviation > tolerance
    return different


@dataclass(frozen=True, slots=True)
class BackgroundFigures:
    """What normals have in common at the border of their frames.

    Attributes:
        background: its colour and spread.
        unlike: share of the normals whose border has another colour.
        border: share of a frame's border that has the colour, of the tenth normal of a hundred.
        variation: between normals, of what would be left out, of the full range.
        structure: likewise, in what all normals have in common.
        limit, plain: most variation and structure of a background.
    """

    background: BackgroundColours
    unlike: float
    border: float
    variation: float
    structure: float
    limit: float
    plain: float


@dataclass(eq=False)
class BackgroundSurvey:
    """Compares all normals, and decides whether they lie on a background.

    A frame is kept as the mean colours of a grid of cells: 24 kB.

    Attributes:
        several: whether frames show several objects, all of which are looked at.
    """

    several: bool = False

    frames: list[NDArray[np.float16]] = field(default_factory=list)
    borders: list[NDArray[np.float64]] = field(default_factory=list)
    deviations: list[NDArray[np.float64]] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)

    def add(self, sample: RGBDSample) -> None:
        """Take in a normal part with colours."""
        assert sample.rgb is not None
        colour, deviation = _border_colour(sample.rgb)
        cells = cv2.resize(sample.rgb, (GRID, GRID), interpolation=cv2.INTER_AREA)
        self.frames.append(cells.astype(np.float16))
        self.borders.append(colour)
        self.deviations.append(deviation)
        # White noise of pixels is so much less in the mean of a cell; a texture is not.
        pixels = sample.valid.size / GRID**2
        self.noises.append(_border_noise(sample.rgb) / max(pixels, 1.0) ** 0.5)

    def decide(self) -> tuple[BackgroundColours | None, str]:
        """Return the background that all normals have in common; None without one, and why.

        The shares of the parts are the widest possible; ``unequal`` checks those of the masks.
        """
        if len(self.frames) < _FEWEST:
            return None, (
                f"{len(self.frames)} normal parts do not tell what all have in common; "
                f"{_FEWEST} are needed."
            )
        measured = self.measure()
        words = (
            "what would be left out may belong to the part. If it does not, remove_background=true "
            "tells the part by the colours of each frame's border."
        )
        if measured.unlike > 0:
            return None, (
                "the border of the frame has another colour in some normal parts than in others, "
                f"so that {words}"
            )
        if measured.border < _BORDER_SHARE:
            return None, (
                f"the frame's border has no single colour ({measured.border:.0%} of it are alike), "
                f"so that {words}"
            )
        if measured.variation > measured.limit:
            return None, (
                "what has the colour of the frame's border varies between normal parts (by "
                f"{255 * measured.variation:.1f} grey levels, beyond {255 * measured.limit:.1f}), "
                f"so that {words}"
            )
        if measured.structure > measured.plain:
            return None, (
                "what has the colour of the frame's border is not plain (it differs by "
                f"{255 * measured.structure:.1f} grey levels, beyond {255 * measured.plain:.1f}), "
                f"so that {words}"
            )
        return measured.background, ""

    def measure(self) -> BackgroundFigures:
        """Measure what the normals' frames have in common."""
        borders = np.array(self.borders)  # (N, 3)
        colour = np.median(borders, axis=0)
        between = 1.4826 * np.median(np.abs(borders - colour), axis=0)
        spread = np.hypot(np.median(self.deviations, axis=0), between) + _FLOOR
        frames = np.stack(self.frames).astype(np.float32)  # (N, GRID, GRID, 3)
        far = (np.abs(frames - colour) / spread).max(axis=3) > _TOLERANCE  # (N, GRID, GRID)
        unlike = float(np.mean(np.abs(borders - colour).max(axis=1) > _SAME_COLOUR))
        alike = [1 - float(border_strips(one, _STRIP).mean()) for one in far]
        edge = np.ones((3, 3), np.uint8)  # cells at the part's edge have some of its colour
        parts = [_all_of(f) if self.several else largest_cluster(f, closing=1) for f in far]
        left_out = np.stack([cv2.dilate(part.view(np.uint8), edge) == 0 for part in parts])
        noise = float(np.median(self.noises))
        variation, structure = _residues(frames, left_out)
        red, green, blue = (round(float(v), 4) for v in colour)
        spreads = [round(float(v), 4) for v in spread]
        return BackgroundFigures(
            BackgroundColours((red, green, blue), (spreads[0], spreads[1], spreads[2]), (0.0, 1.0)),
            unlike=unlike,
            border=float(np.quantile(alike, 0.1)),
            variation=variation,
            structure=structure,
            limit=max(_PLAIN, _NOISE * noise),
            plain=max(_PLAIN, _NOISE_IN_COMMON * noise / len(frames) ** 0.5),
        )


def _residues(frames: FloatArray, left_out: BoolArray) -> tuple[float, float]:
    """Return how much what is left out varies between normals, and how plain their mean is.

    Args:
        frames: ``(N, G, G, 3)`` mean colours of cells.
        left_out: ``(N, G, G)``.
    """
    masked = np.where(left_out[..., None], frames, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # cells that no normal leaves out
        # Exposure differs from frame to frame, and is no matter of the part.
        masked -= np.nanmedian(masked, axis=(1, 2), keepdims=True)
        common = np.nanmedian(masked, axis=0)  # (G, G, 3)
        deviation = 1.4826 * np.nanmedian(np.abs(masked - common), axis=0).max(axis=2)
    often = left_out.sum(axis=0) >= max(3, 0.2 * len(frames))
    if not often.any():
        return np.inf, np.inf
    filled = np.where(np.isfinite(common), common, 0).astype(np.float32)
    # Against the mean around it, light that falls off slowly is no structure.
    weight = np.maximum(cv2.blur(often.astype(np.float32), _AROUND), 1e-6)[..., None]
    around = cv2.blur(filled * often[..., None], _AROUND) / weight
    rest = np.abs(filled - around).max(axis=2)
    return (
        float(np.quantile(deviation[often], _SHARE)),
        float(np.quantile(rest[often], _SHARE)),
    )
