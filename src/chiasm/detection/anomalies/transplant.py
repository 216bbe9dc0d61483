"""Defects kept for validation: patches and scars from the part itself, and foreign matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from chiasm.detection.anomalies.appearance import contrasting_colour
from chiasm.detection.anomalies.footprints import Footprint, blob, log_uniform, random_pixel, stroke
from chiasm.detection.anomalies.relief import VISIBLE_COLOUR, VISIBLE_STEP, apply_change, inside
from chiasm.detection.anomalies.shading import (
    brightness,
    fill_missing,
    local_height,
    read_scene,
    shading_ratio,
)
from chiasm.samples import FloatArray, PreparedSample

ATTEMPTS = 4  # a transplant between look-alike places shows nothing; try others


def _supports(sample: PreparedSample) -> bool:
    return bool(sample.foreground.any())


def _area(sample: PreparedSample, low: float, high: float, rng: np.random.Generator) -> float:
    return max(float(sample.foreground.sum()) * log_uniform(low, high, rng), 10.0)


def _transplanted(
    sample: PreparedSample,
    print_: Footprint,
    weight: FloatArray,
    pitch: float,
    rng: np.random.Generator,
    kind: str,
) -> PreparedSample:
    """Blend a turned or mirrored place of the part into a footprint, in colour and height.

    Returns the sample unchanged where the two places look alike.
    """
    rows, cols = print_.rows, print_.cols
    origin = random_pixel(sample.foreground, rng)
    turn = rng.uniform(0.0, 2 * np.pi)
    flip = np.float32(rng.choice([-1.0, 1.0]))
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(print_.centre[0])
    x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(print_.centre[1])
    from_x = flip * (cos * x + sin * y) + np.float32(origin[1])
    from_y = cos * y - sin * x + np.float32(origin[0])

    def carried(image: FloatArray, how: int) -> FloatArray:
        return np.asarray(cv2.remap(image, from_x, from_y, how, borderMode=cv2.BORDER_CONSTANT))

    # Only object onto object: a patch of background would be a hole, not a transplant.
    material = carried(sample.foreground.astype(np.float32), cv2.INTER_LINEAR) > 0.999
    weight = np.where(material & inside(print_, sample.foreground), weight, 0.0).astype(np.float32)
    core = weight > 0.25
    if core.sum() < 8:
        return sample
    rgb = delta = None
    change = 0.0
    if sample.rgb is not None:
        old = sample.rgb[rows, cols]
        patch = carried(sample.rgb, cv2.INTER_LINEAR)
        rgb = old + weight[..., None] * (patch - old)
        change = float(np.abs(rgb - old).max(axis=-1)[core].mean()) / VISIBLE_COLOUR
    if sample.height is not None and sample.xyz is not None:
        known = carried(sample.valid.astype(np.float32), cv2.INTER_NEAREST) > 0.5
        if (known & core).any():
            there = fill_missing(carried(sample.height, cv2.INTER_NEAREST), known)
            here = local_height(sample, rows, cols)
            # The patch keeps its relief but comes to lie at the level of its new place.
            level = float(np.median(here[core]) - np.median(there[core]))
            delta = (weight * (there + np.float32(level) - here)).astype(np.float32)
            delta = np.maximum(delta, np.minimum(0.0, -here))
            change = max(change, float(np.abs(delta)[core].mean()) / (VISIBLE_STEP * pitch))
    if change < 1.5:
        return sample
    return apply_change(
        sample, rows, cols, rgb=rgb, delta=delta, mask=weight > 0.08, pitch=pitch, kind=kind
    )


@dataclass(frozen=True, slots=True)
class SelfPatchGenerator:
    """Put a piece of the same part, turned or mirrored, where it does not belong.

    Blended with a soft edge in colour and height. ``smallest`` and ``largest`` limit its area as a
    share of the object's.
    """

    smallest: float = 0.002
    largest: float = 0.05
    name: ClassVar[str] = "self_patch"
    family: ClassVar[str] = "self_patch"

    def supports(self, sample: PreparedSample) -> bool:
        """True for any sample that shows an object."""
        return _supports(sample)

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more patch, or unchanged if none could be seen."""
        if not self.supports(sample):
            return sample
        pitch = read_scene(sample, rng).pitch
        for _ in range(ATTEMPTS):
            area = _area(sample, self.smallest, self.largest, rng)
            print_ = blob(sample.foreground, area, rng, roughness=0.2)
            weight = print_.plateau(float(rng.uniform(0.15, 0.45)))
            changed = _transplanted(sample, print_, weight, pitch, rng, self.name)
            if changed is not sample:
                return changed
        return sample


@dataclass(frozen=True, slots=True)
class CutPasteScarGenerator:
    """Put a thin strip of the same part across it, as a scar.

    Source: after the scar variant of CutPaste (Li et al., 2021), with the height moved along and a
    curved, tapered strip. ``smallest`` and ``largest`` limit its area as a share of the object's.
    """

    smallest: float = 0.002
    largest: float = 0.02
    name: ClassVar[str] = "scar"
    family: ClassVar[str] = "scar"

    def supports(self, sample: PreparedSample) -> bool:
        """True for any sample that shows an object."""
        return _supports(sample)

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more scar, or unchanged if none could be seen."""
        if not self.supports(sample):
            return sample
        pitch = read_scene(sample, rng).pitch
        for _ in range(ATTEMPTS):
            width = log_uniform(3.0, 9.0, rng)
            area = _area(sample, self.smallest, self.largest, rng)
            length = float(np.clip(area / width, 3.0 * width, 0.3 * max(sample.foreground.shape)))
            print_ = stroke(sample.foreground, length, width, rng, curl=0.25, taper=0.3)
            weight = print_.plateau(0.35)
            changed = _transplanted(sample, print_, weight, pitch, rng, self.name)
            if changed is not sample:
                return changed
        return sample


@dataclass(frozen=True, slots=True)
class ContaminationGenerator:
    """Lay foreign matter on the part: a few pebbles or a fibre, with own colour, height and shade.

    ``smallest`` and ``largest`` limit the area of one piece as a share of the object's.
    """

    smallest: float = 0.0008
    largest: float = 0.01
    name: ClassVar[str] = "contamination"
    family: ClassVar[str] = "contamination"

    def supports(self, sample: PreparedSample) -> bool:
        """True for any sample that shows an object."""
        return _supports(sample)

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with foreign matter, or unchanged if none could be seen."""
        if not self.supports(sample):
            return sample
        fibre = rng.random() < 0.35
        around = random_pixel(sample.foreground, rng)
        colour: FloatArray | None = None
        for _ in range(1 if fibre else int(rng.integers(1, 5))):
            area = _area(sample, self.smallest, self.largest, rng)
            sample, colour = _one_piece(sample, area, around, fibre, colour, rng)
        return sample


def _one_piece(
    sample: PreparedSample,
    area: float,
    around: tuple[int, int],
    fibre: bool,
    colour: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[PreparedSample, FloatArray | None]:
    """Lay one pebble or fibre near a pixel; returns the sample and the colour used."""
    size = sample.foreground.shape
    spread = 0.12 * max(size)
    near = np.zeros(size, dtype=bool)
    low = [max(int(a - spread), 0) for a in around]
    near[low[0] : int(around[0] + spread) + 1, low[1] : int(around[1] + spread) + 1] = True
    near &= sample.foreground  # not empty: it holds `around`
    if fibre:
        width = log_uniform(1.6, 3.2, rng)
        length = float(np.clip(3.0 * area / width, 8.0 * width, 0.35 * max(size)))
        print_ = stroke(near, length, width, rng, curl=1.2, taper=0.4)
        flatness = 1.0
    else:
        print_ = blob(near, area, rng, roughness=0.15, max_aspect=1.8, margin=1.5)
        flatness = float(rng.uniform(0.5, 0.9))
    rows, cols = print_.rows, print_.cols
    scene = read_scene(sample, rng)
    under = local_height(sample, rows, cols)
    cover = np.clip(1.3 * (1.0 - print_.rho) * print_.radius, 0.0, 1.0).astype(np.float32)
    thickness = np.float32(flatness * max(print_.radius, 0.8) * scene.pitch)
    # A pebble bridges the fine relief below it, so its top is smooth.
    smooth = cv2.GaussianBlur(under, (0, 0), 2.0)
    top = smooth + print_.dome() * thickness
    delta = (cover * np.maximum(top - under, 0.15 * thickness)).astype(np.float32)
    delta *= inside(print_, sample.foreground)
    rgb = None
    if sample.rgb is not None:
        old = sample.rgb[rows, cols]
        if colour is None:
            shade = float(brightness(old)[inside(print_, sample.foreground)].mean())
            colour = contrasting_colour(shade, rng, saturation=0.8)
        dome = print_.dome() * thickness
        body = colour * shading_ratio(np.zeros_like(under), dome, scene)[..., None]
        grain = rng.standard_normal(under.shape).astype(np.float32)
        body = body * (1.0 + 0.12 * cv2.GaussianBlur(grain, (0, 0), 0.8))[..., None]
        contact = np.exp(-np.clip(print_.rho - 1.0, 0.0, None) * np.float32(print_.radius) / 1.5)
        ground = old * (1.0 - 0.3 * contact)[..., None]
        rgb = ground + cover[..., None] * (body - ground)
    changed = apply_change(
        sample, rows, cols, rgb=rgb, delta=delta, pitch=scene.pitch, kind="contamination"
    )
    return changed, colour
