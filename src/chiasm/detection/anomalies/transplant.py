"""Synthetic defects for validation only: patches and scars from the part, and foreign matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from chiasm.detection.anomalies.appearance import contrasting_colour
from chiasm.detection.anomalies.footprints import Footprint, blob, log_uniform, random_pixel, stroke
from chiasm.detection.anomalies.relief import (
    VISIBLE_COLOUR,
    VISIBLE_STEP,
    apply_change,
    mask_window,
)
from chiasm.detection.anomalies.shading import (
    brightness,
    fill_missing,
    local_height,
    measure_scene,
    shading_ratio,
)
from chiasm.samples import FloatArray, PreparedSample

ATTEMPTS = 4  # a transplant between similar regions is invisible; draw others


def _area(sample: PreparedSample, low: float, high: float, rng: np.random.Generator) -> float:
    return max(float(sample.foreground.sum()) * log_uniform(low, high, rng), 10.0)


def _transplant(
    sample: PreparedSample,
    footprint: Footprint,
    weight: FloatArray,
    pitch: float,
    rng: np.random.Generator,
    kind: str,
) -> PreparedSample:
    """Blend a rotated or mirrored region of the part into a footprint, in colour and height.

    Returns the sample unchanged if the two regions look alike.
    """
    rows, cols = footprint.rows, footprint.cols
    origin = random_pixel(sample.foreground, rng)
    rotation = rng.uniform(0.0, 2 * np.pi)
    flip = np.float32(rng.choice([-1.0, 1.0]))
    cos, sin = np.float32(np.cos(rotation)), np.float32(np.sin(rotation))
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(
        footprint.centre[0]
    )
    x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(
        footprint.centre[1]
    )
    from_x = flip * (cos * x + sin * y) + np.float32(origin[1])
    from_y = cos * y - sin * x + np.float32(origin[0])

    def remap(image: FloatArray, interpolation: int) -> FloatArray:
        return np.asarray(
            cv2.remap(image, from_x, from_y, interpolation, borderMode=cv2.BORDER_CONSTANT)
        )

    # Only object onto object: a patch of background would be a hole.
    material = remap(sample.foreground.astype(np.float32), cv2.INTER_LINEAR) > 0.999
    weight = np.where(material & mask_window(footprint, sample.foreground), weight, 0.0).astype(
        np.float32
    )
    core = weight > 0.25
    if core.sum() < 8:
        return sample
    rgb = delta = None
    change = 0.0
    if sample.rgb is not None:
        before = sample.rgb[rows, cols]
        patch = remap(sample.rgb, cv2.INTER_LINEAR)
        rgb = before + weight[..., None] * (patch - before)
        change = float(np.abs(rgb - before).max(axis=-1)[core].mean()) / VISIBLE_COLOUR
    if sample.height is not None and sample.xyz is not None:
        measured = remap(sample.valid.astype(np.float32), cv2.INTER_NEAREST) > 0.5
        if (measured & core).any():
            origin_height = fill_missing(remap(sample.height, cv2.INTER_NEAREST), measured)
            height = local_height(sample, rows, cols)
            # The patch keeps its relief, at the level of its new position.
            level = float(np.median(height[core]) - np.median(origin_height[core]))
            delta = (weight * (origin_height + np.float32(level) - height)).astype(np.float32)
            delta = np.maximum(delta, np.minimum(0.0, -height))
            change = max(change, float(np.abs(delta)[core].mean()) / (VISIBLE_STEP * pitch))
    if change < 1.5:
        return sample
    return apply_change(
        sample, rows, cols, rgb=rgb, delta=delta, mask=weight > 0.08, pitch=pitch, kind=kind
    )


@dataclass(frozen=True, slots=True)
class SelfPatchGenerator:
    """Put a rotated or mirrored piece of the same part at another position.

    Its soft edge is blended in colour and height. ``smallest`` and ``largest`` limit its area as a
    share of the object's.
    """

    smallest: float = 0.002
    largest: float = 0.05
    name: ClassVar[str] = "self_patch"
    family: ClassVar[str] = "self_patch"

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample shows an object."""
        return bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more patch, or unchanged if none is visible."""
        if not self.supports(sample):
            return sample
        pitch = measure_scene(sample, rng).pitch
        for _ in range(ATTEMPTS):
            area = _area(sample, self.smallest, self.largest, rng)
            footprint = blob(sample.foreground, area, rng, roughness=0.2)
            weight = footprint.plateau(float(rng.uniform(0.15, 0.45)))
            changed = _transplant(sample, footprint, weight, pitch, rng, self.name)
            if changed is not sample:
                return changed
        return sample


@dataclass(frozen=True, slots=True)
class CutPasteScarGenerator:
    """Put a thin strip of the same part across it, as a scar.

    Source: the scar variant of CutPaste (Li et al., 2021), with the height moved as well, and a
    curved, tapered strip. ``smallest`` and ``largest`` limit its area as a share of the object's.
    """

    smallest: float = 0.002
    largest: float = 0.02
    name: ClassVar[str] = "scar"
    family: ClassVar[str] = "scar"

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample shows an object."""
        return bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more scar, or unchanged if none is visible."""
        if not self.supports(sample):
            return sample
        pitch = measure_scene(sample, rng).pitch
        for _ in range(ATTEMPTS):
            width = log_uniform(3.0, 9.0, rng)
            area = _area(sample, self.smallest, self.largest, rng)
            length = float(np.clip(area / width, 3.0 * width, 0.3 * max(sample.foreground.shape)))
            footprint = stroke(sample.foreground, length, width, rng, curl=0.25, taper=0.3)
            weight = footprint.plateau(0.35)
            changed = _transplant(sample, footprint, weight, pitch, rng, self.name)
            if changed is not sample:
                return changed
        return sample


@dataclass(frozen=True, slots=True)
class ContaminationGenerator:
    """Lay foreign matter on the part: pebbles or a fibre, with colour, height and shading.

    ``smallest`` and ``largest`` limit the area of one piece as a share of the object's.
    """

    smallest: float = 0.0008
    largest: float = 0.01
    name: ClassVar[str] = "contamination"
    family: ClassVar[str] = "contamination"

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample shows an object."""
        return bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with foreign matter, or unchanged if none is visible."""
        if not self.supports(sample):
            return sample
        fibre = rng.random() < 0.35
        centre = random_pixel(sample.foreground, rng)
        colour: FloatArray | None = None
        for _ in range(1 if fibre else int(rng.integers(1, 5))):
            area = _area(sample, self.smallest, self.largest, rng)
            sample, colour = _add_piece(sample, area, centre, fibre, colour, rng)
        return sample


def _add_piece(
    sample: PreparedSample,
    area: float,
    centre: tuple[int, int],
    fibre: bool,
    colour: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[PreparedSample, FloatArray | None]:
    """Lay one pebble or fibre near a pixel; return the sample and the colour."""
    size = sample.foreground.shape
    spread = 0.12 * max(size)
    near = np.zeros(size, dtype=bool)
    low = [max(int(a - spread), 0) for a in centre]
    near[low[0] : int(centre[0] + spread) + 1, low[1] : int(centre[1] + spread) + 1] = True
    near &= sample.foreground  # not empty: it contains the centre
    if fibre:
        width = log_uniform(1.6, 3.2, rng)
        length = float(np.clip(3.0 * area / width, 8.0 * width, 0.35 * max(size)))
        footprint = stroke(near, length, width, rng, curl=1.2, taper=0.4)
        flatness = 1.0
    else:
        footprint = blob(near, area, rng, roughness=0.15, max_aspect=1.8, margin=1.5)
        flatness = float(rng.uniform(0.5, 0.9))
    rows, cols = footprint.rows, footprint.cols
    scene = measure_scene(sample, rng)
    under = local_height(sample, rows, cols)
    cover = np.clip(1.3 * (1.0 - footprint.rho) * footprint.radius, 0.0, 1.0).astype(np.float32)
    thickness = np.float32(flatness * max(footprint.radius, 0.8) * scene.pitch)
    # A pebble bridges the fine relief below, so its top is smooth.
    smooth = cv2.GaussianBlur(under, (0, 0), 2.0)
    top = smooth + footprint.dome() * thickness
    delta = (cover * np.maximum(top - under, 0.15 * thickness)).astype(np.float32)
    delta *= mask_window(footprint, sample.foreground)
    rgb = None
    if sample.rgb is not None:
        before = sample.rgb[rows, cols]
        if colour is None:
            shade = float(brightness(before)[mask_window(footprint, sample.foreground)].mean())
            colour = contrasting_colour(shade, rng, saturation=0.8)
        dome = footprint.dome() * thickness
        body = colour * shading_ratio(np.zeros_like(under), dome, scene)[..., None]
        grain = rng.standard_normal(under.shape).astype(np.float32)
        body = body * (1.0 + 0.12 * cv2.GaussianBlur(grain, (0, 0), 0.8))[..., None]
        contact = np.exp(
            -np.clip(footprint.rho - 1.0, 0.0, None) * np.float32(footprint.radius) / 1.5
        )
        ground = before * (1.0 - 0.3 * contact)[..., None]
        rgb = ground + cover[..., None] * (body - ground)
    changed = apply_change(
        sample, rows, cols, rgb=rgb, delta=delta, pitch=scene.pitch, kind="contamination"
    )
    return changed, colour
