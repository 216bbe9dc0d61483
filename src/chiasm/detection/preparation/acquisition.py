"""How a run saw its normal parts, and in what a part differs from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import cv2
import numpy as np

from chiasm.detection.preparation.distance import median_distance
from chiasm.detection.preparation.prepare import PreparationSettings, prepare_objects
from chiasm.errors import DataError
from chiasm.samples import FloatArray, PreparedSample, RGBDSample

MASK_RATIO = 2.0  # beyond it a mask's area differs much from the median of the normals
NAMED = 3  # parts that a warning names
_ASPECT, _SCALE, _DISTANCE = 1.02, 1.25, 1.2  # ratios to the normals' that are worth a remark
_EXTENT, _REFUSED = 1.15, 1.8  # ratios to the normals' extent, worth a remark and too much
_FEW_CUT = 0.02  # share of normals that touch the frame's border, up to which it is unusual
_BRIGHTNESS = 2.0  # times darker or brighter than every normal part
# Red and blue are exchanged where that brings a hue so much nearer, that was so far.
_EXCHANGED, _COLOURED = 0.25, 0.2
_MOST_FRAMES = 8  # sizes of frames that are recorded
# Of the fineness of depth: ratios and a difference to the normals' that are worth a remark, and the
# share of the distance below which a second difference is none but of float32.
_ROUGHNESS, _STRAIGHT, _STRAIGHTER, _NO_STEP = 2.5, 2.5, 0.1, 1e-6


@dataclass(frozen=True, slots=True)
class Coverage:
    """Shares of the frame that are looked at: the areas of the normals' masks.

    Attributes:
        median, smallest, largest: in [0, 1].
        parts: that were measured.
        outliers: files of normals, at most ``NAMED``, whose mask is more than ``MASK_RATIO`` times
            smaller or larger than the median.
        differing: number of such normals.
    """

    median: float
    smallest: float
    largest: float
    parts: int
    outliers: tuple[str, ...] = ()
    differing: int = 0

    def in_words(self) -> str:
        """Return how much of the frame is looked at, as a sentence."""
        return (
            f"{self.median:.0%} of the frame is looked at (median of {self.parts} normal parts; "
            f"{self.smallest:.1%} at least, {self.largest:.1%} at most)."
        )

    @property
    def warning(self) -> str:
        """A sentence where masks differ much between normals; "" where they agree."""
        if not self.differing:
            return ""
        return (
            f"The masks of {self.differing} of {self.parts} normal parts are more than "
            f"{MASK_RATIO:g} times smaller or larger than the median, such as that of "
            f"{', '.join(self.outliers)}: something may be left out of them, or looked at beside "
            "the part. Look at these frames; remove_background=false looks at whole frames."
        )


def coverage_of(shares: Mapping[str, float]) -> Coverage | None:
    """Summarise the shares of the frame that masks take, by source; None without a part."""
    if not shares:
        return None
    values = np.array(list(shares.values()))
    median = float(np.median(values))
    ratio = np.maximum(values, 1e-6) / max(median, 1e-6)
    differing = np.flatnonzero(np.maximum(ratio, 1 / ratio) > MASK_RATIO)
    # The farthest from the median are named.
    worst = differing[np.argsort(-np.abs(np.log(ratio[differing])), kind="stable")][:NAMED]
    names = list(shares)
    return Coverage(
        median=round(median, 4),
        smallest=round(float(values.min()), 4),
        largest=round(float(values.max()), 4),
        parts=len(values),
        outliers=tuple(names[i] for i in sorted(worst)),
        differing=len(differing),
    )


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a run saw its normal parts, beside the settings of their preparation.

    Attributes:
        lamp: under which its data were read: a number, ``"all"``, or None where they name none.
        lamps: numbers of the lamps that the training parts were seen under.
        frames: heights and widths of the frames in pixels, the most frequent first.
        colour: RGB of the parts, the median of their means; None without colours.
        brightness: mean brightness of the darkest and of the brightest part; None likewise.
        coverage: how much of the frame is looked at.
        background: how the part is told from its background, and why, as a sentence.
        extent: metres, of the least and the most extended part, see ``extent_of``; None without 3D
            points and of earlier versions.
        cut: share of the parts that touch the frame's border; None of earlier versions.
        roughness: metres, of the smoothest and the roughest part, see ``fineness_of``; None without
            3D points and of earlier versions.
        straight: least and largest share of straight runs, likewise.
    """

    lamp: int | Literal["all"] | None = None
    lamps: tuple[int, ...] = ()
    frames: tuple[tuple[int, int], ...] = ()
    colour: tuple[float, float, float] | None = None
    brightness: tuple[float, float] | None = None
    coverage: Coverage | None = None
    background: str = ""
    extent: tuple[float, float] | None = None
    cut: float | None = None
    roughness: tuple[float, float] | None = None
    straight: tuple[float, float] | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the part is told from its background, how much is looked at, and a warning."""
        coverage = self.coverage
        if coverage is None:
            return (self.background,) if self.background else ()
        warning = f"Warning: {coverage.warning}" if coverage.warning else ""
        return tuple(filter(None, (self.background, coverage.in_words(), warning)))


def acquisition_from_json(content: Mapping[str, Any] | None) -> Acquisition | None:
    """Return the record that ``dataclasses.asdict`` and JSON made of an acquisition."""
    if content is None:
        return None
    fields = dict(content)
    fields["lamps"] = tuple(fields["lamps"])
    fields["frames"] = tuple(tuple(frame) for frame in fields["frames"])
    for name in ("colour", "brightness", "extent", "roughness", "straight"):
        fields[name] = None if fields.get(name) is None else tuple(fields[name])
    if (coverage := fields["coverage"]) is not None:
        fields["coverage"] = Coverage(**{**coverage, "outliers": tuple(coverage["outliers"])})
    return Acquisition(**fields)


@dataclass(eq=False)
class AcquisitionObserver:
    """Observes prepared normals in passing; memory does not grow with their size."""

    frames: Counter[tuple[int, int]] = field(default_factory=Counter)
    colours: list[tuple[float, float, float]] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    extents: list[float] = field(default_factory=list)
    fineness: list[tuple[float, float]] = field(default_factory=list)
    cut: int = 0

    def watch(self, parts: Iterable[PreparedSample]) -> Iterator[PreparedSample]:
        """Hand parts on, and observe each."""
        for part in parts:
            self.frames[part.box.height, part.box.width] += 1
            self.shares[part.source or f"part {len(self.shares)}"] = looked_at(part)
            self.cut += touches_border(part)
            if (extent := extent_of(part)) is not None:
                self.extents.append(extent)
            if (fineness := fineness_of(part)) is not None:
                self.fineness.append(fineness)
            if part.rgb is not None:
                self.colours.append(_mean_colour(part.rgb, part))
            yield part

    def acquisition(self, **facts: Any) -> Acquisition:
        """Return what was observed, with further facts by the names of the fields."""
        colour = brightness = None
        if self.colours:
            colours = np.array(self.colours)
            red, green, blue = (round(float(v), 4) for v in np.median(colours, axis=0))
            colour = red, green, blue
            means = colours.mean(axis=1)
            brightness = round(float(means.min()), 4), round(float(means.max()), 4)
        roughness, straight = zip(*self.fineness) if self.fineness else ((), ())
        count = sum(self.frames.values())
        return Acquisition(
            extent=_range(self.extents),
            roughness=_range(roughness),
            straight=_range(straight),
            cut=round(self.cut / count, 4) if count else None,
            frames=tuple(size for size, _ in self.frames.most_common(_MOST_FRAMES)),
            colour=colour,
            brightness=brightness,
            coverage=coverage_of(self.shares),
            **facts,
        )


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the least and the largest of some numbers, to four digits; None without any."""
    return (float(f"{min(values):.4g}"), float(f"{max(values):.4g}")) if values else None


def looked_at(part: PreparedSample) -> float:
    """Return the share of the frame that a part's mask takes inside its crop."""
    box = part.box
    pixel = (box.side / part.foreground.shape[0]) ** 2  # area in the frame of one of the crop
    return min(float(np.count_nonzero(part.foreground)) * pixel / (box.height * box.width), 1.0)


def extent_of(part: PreparedSample) -> float | None:
    """Return how far a part extends: twice the root mean square distance from its centre, metres.

    Missing points hardly change it, and it does not depend on how the part lies. None without 3D
    points.
    """
    if part.xyz is None or not part.valid.any():
        return None
    points = part.xyz[::2, ::2][part.valid[::2, ::2]].astype(np.float64)
    return None if len(points) < 3 else 2 * float(np.sqrt(points.var(axis=0).sum()))


def fineness_of(part: PreparedSample) -> tuple[float, float] | None:
    """Return how fine a part's depth is; None without 3D points.

    Of second differences of z along rows and columns: their median size in metres, which noise and
    smoothing change, and the share of those that are 0, which rounding to steps makes large. Both
    hardly depend on defects, which take a small part of the surface.
    """
    if part.xyz is None:
        return None
    bends = []
    inside = part.valid & part.foreground
    for z, seen in ((part.xyz[..., 2], inside), (part.xyz[..., 2].T, inside.T)):
        bend = np.abs(z[2:] - 2 * z[1:-1] + z[:-2]) / np.maximum(np.abs(z[1:-1]), 1e-9)
        bends.append(np.stack([bend, np.abs(z[1:-1])])[:, seen[2:] & seen[1:-1] & seen[:-2]])
    share, z = np.concatenate(bends, axis=1)
    if not len(share):
        return None
    return float(np.median(share * z)), float((share < _NO_STEP).mean())


def touches_border(part: PreparedSample) -> bool:
    """Whether a part reaches the border of its frame, up to a pixel of its crop."""
    box = part.box
    pixel = box.side / part.foreground.shape[0]
    rows = np.flatnonzero(part.foreground.any(axis=1))
    columns = np.flatnonzero(part.foreground.any(axis=0))
    if not len(rows):
        return False
    top, bottom = box.top + rows[0] * pixel, box.top + (rows[-1] + 1) * pixel
    left, right = box.left + columns[0] * pixel, box.left + (columns[-1] + 1) * pixel
    reach = max(pixel / 2, 0.5)
    low, high = min(top, left), max(bottom - box.height, right - box.width)
    return bool(low < reach or high > -reach)


def prepare_as_trained(
    sample: RGBDSample,
    settings: PreparationSettings,
    acquisition: Acquisition | None,
    *,
    distance: tuple[float, float] | None,
) -> list[PreparedSample | DataError]:
    """Prepare a sample for a trained model, with notes on what differs from its normals.

    Args:
        sample: a frame, of the model's sensors.
        settings: of the model's preparation.
        acquisition: how the model's run saw its normals; None of earlier versions, which adds none.
        distance: metres from the camera, least and most of the calibration parts.

    Returns:
        The part; where frames are split, every part in reading order, or why it cannot be judged.

    Raises:
        DataError: the frame shows no part, or the only one cannot be judged.
    """
    parts: list[PreparedSample | DataError] = []
    for part in prepare_objects(sample, settings):
        if acquisition is not None:
            try:
                check_extent(part, acquisition, distance)
            except DataError as error:
                parts.append(error)
                continue
            notes = differences(acquisition, part, distance)
            part = replace(part, notes=(*part.notes, *notes))
        parts.append(part)
    if len(parts) == 1 and isinstance(parts[0], DataError):
        raise parts[0]
    return parts


def check_extent(
    part: PreparedSample, acquisition: Acquisition, distance: tuple[float, float] | None
) -> None:
    """Refuse a part that cannot be one like the normals: by its size in metres, or its distance.

    Raises ``DataError``. Models of earlier versions, without an extent, refuse none.
    """
    extent = extent_of(part)
    if acquisition.extent is None or extent is None:
        return
    name = part.source or "This frame"
    least, most = acquisition.extent
    known = f"parts of the training {_millimetres(least, most)}"
    if extent * _REFUSED < least:
        raise DataError(
            f"{name} shows no part of this kind: what lies there extends {1000 * extent:.3g} mm, "
            f"{known}. Is the tray or belt empty, is it a fragment or another product, or are the "
            "intrinsics or the unit of the depth wrong?"
        )
    if extent > _REFUSED * most:
        raise DataError(
            f"{name} shows something much larger than a part of this kind: it extends "
            f"{1000 * extent:.3g} mm, {known}. Are the intrinsics or the unit of the depth wrong, "
            "do parts touch, or is it another product?"
        )
    if part.xyz is None or distance is None:
        return
    metres = median_distance(part.xyz)
    if metres * _REFUSED < distance[0] or metres > _REFUSED * distance[1]:
        raise DataError(
            f"{name} is {metres:.3g} m away, parts of the training {distance[0]:.3g} to "
            f"{distance[1]:.3g} m: scores of a part at such another scale mean nothing. Is the "
            "unit of the depth wrong, or was the camera moved?"
        )


def _millimetres(least: float, most: float) -> str:
    return f"{1000 * least:.3g} to {1000 * most:.3g} mm"


def differences(
    acquisition: Acquisition,
    part: PreparedSample,
    distance: tuple[float, float] | None,
) -> tuple[str, ...]:
    """Return in what a part was seen otherwise than a run's normals, a sentence each.

    Equal differences of several parts have equal sentences, so that they can be counted.
    """
    return tuple(
        note
        for note in (
            _frame_note(acquisition, part),
            _distance_note(part, distance),
            _extent_note(acquisition, part),
            _cut_note(acquisition, part),
            _fineness_note(acquisition, part),
            _colour_note(acquisition, part),
        )
        if note
    )


def _frame_note(acquisition: Acquisition, part: PreparedSample) -> str:
    if not acquisition.frames:
        return ""
    height, width = part.box.height, part.box.width
    if (height, width) in acquisition.frames:
        return ""
    sizes = ", ".join(f"{w} x {h}" for h, w in acquisition.frames)
    aspects = [width / height * h / w for h, w in acquisition.frames]
    scales = [max(height, width) / max(h, w) for h, w in acquisition.frames]
    here = f"The frame is {width} x {height} pixels, those of the training {sizes}"
    if not any(1 / _ASPECT <= ratio <= _ASPECT for ratio in aspects):
        return (
            f"{here}: another aspect, so that the part is seen at another scale. Cut or pad frames "
            "as for the training."
        )
    if not any(1 / _SCALE <= ratio <= _SCALE for ratio in scales):
        return (
            f"{here}: their fineness differs, which scores can show. Record frames of the "
            "training's size, or train with such frames."
        )
    return ""


def _distance_note(part: PreparedSample, distance: tuple[float, float] | None) -> str:
    if part.xyz is None or distance is None:
        return ""
    metres = median_distance(part.xyz)
    nearest, farthest = distance
    if np.isnan(metres) or nearest / _DISTANCE <= metres <= farthest * _DISTANCE:
        return ""
    return (
        f"The part is {'farther from' if metres > farthest else 'nearer to'} the camera than at "
        f"the training, {nearest:.3g} to {farthest:.3g} m: it is seen at another scale. Was the "
        "camera moved, or is xyz in another unit?"
    )


def _extent_note(acquisition: Acquisition, part: PreparedSample) -> str:
    extent = extent_of(part)
    if acquisition.extent is None or extent is None:
        return ""
    least, most = acquisition.extent
    if least / _EXTENT <= extent <= most * _EXTENT:
        return ""
    return (
        f"The part is {'larger' if extent > most else 'smaller'} than any at the training "
        f"({_millimetres(least, most)} in extent): is it another product, is some of it missing, "
        "or are the intrinsics of the depth those of another camera?"
    )


def _cut_note(acquisition: Acquisition, part: PreparedSample) -> str:
    if acquisition.cut is None or acquisition.cut > _FEW_CUT or not touches_border(part):
        return ""
    return (
        "The part is cut off by the frame's border, which parts at the training were not: what "
        "lies beyond is not looked at."
    )


def _fineness_note(acquisition: Acquisition, part: PreparedSample) -> str:
    if (part.box.height, part.box.width) not in acquisition.frames:
        return ""  # frames of another size were resampled otherwise
    fineness = fineness_of(part)
    if acquisition.roughness is None or acquisition.straight is None or fineness is None:
        return ""
    roughness, straight = fineness
    least, most = acquisition.straight
    if straight > max(_STRAIGHT * most, most + _STRAIGHTER):
        return (
            "The depth is in coarser steps than at the training: was it rounded, or saved with "
            "fewer digits or bits? Scores show such steps."
        )
    if straight < min(least / _STRAIGHT, least - _STRAIGHTER):
        return (
            "The depth is in finer steps than at the training, whose depth was rounded: scores "
            "show the difference. Save it in the same way."
        )
    smoothest, roughest = acquisition.roughness
    if roughness > _ROUGHNESS * roughest or _ROUGHNESS * roughness < smoothest:
        rougher = roughness > roughest
        return (
            f"The surface is {'rougher' if rougher else 'smoother'} than any at the training "
            f"({1000 * smoothest:.2g} to {1000 * roughest:.2g} mm from pixel to pixel): was "
            f"a filter of the sensor switched {'off' if rougher else 'on'}?"
        )
    return ""


def _colour_note(acquisition: Acquisition, part: PreparedSample) -> str:
    if part.rgb is None or acquisition.colour is None or acquisition.brightness is None:
        return ""
    colour, usual = np.array(_mean_colour(part.rgb, part)), np.array(acquisition.colour)
    # Exposure differs from part to part, so that hues are compared.
    hue, usual_hue = (c / max(float(c.mean()), 1e-6) for c in (colour, usual))
    distance = float(np.linalg.norm(hue - usual_hue))
    exchanged = float(np.linalg.norm(hue[::-1] - usual_hue))
    if distance > _COLOURED and exchanged < _EXCHANGED * distance:
        return (
            "The part has the colours of the training with red and blue exchanged: is the image "
            "in BGR order? RGB is expected."
        )
    darkest, brightest = acquisition.brightness
    if colour.mean() * _BRIGHTNESS < darkest:
        return (
            f"The part is less than half as bright as any at the training ({darkest:.2f} at "
            "least): was the exposure changed, or are the values of a camera with fewer bits "
            "stored in 16?"
        )
    if colour.mean() > _BRIGHTNESS * brightest:
        return (
            f"The part is more than twice as bright as any at the training ({brightest:.2f} at "
            "most): was the exposure changed?"
        )
    return ""


def _mean_colour(rgb: FloatArray, part: PreparedSample) -> tuple[float, float, float]:
    """Return the mean RGB of a part."""
    red, green, blue, _ = cv2.mean(rgb, part.foreground.view(np.uint8))
    return red, green, blue
