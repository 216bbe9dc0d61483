"""Synthetic defects of colour: stains, scratches and smears, with soft edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from chiasm.detection.anomalies.footprints import Footprint, blob, log_uniform, stroke
from chiasm.detection.anomalies.relief import apply_change
from chiasm.detection.anomalies.shading import brightness
from chiasm.errors import ConfigurationError
from chiasm.samples import BoolArray, FloatArray, PreparedSample

FORMS = ("stain", "scratch", "smear")


@dataclass(frozen=True, slots=True)
class AppearanceGenerator:
    """Change the colour of a part, but not its shape.

    Attributes:
        form: ``"stain"``, ``"scratch"`` or ``"smear"``.
        smallest, largest: range of the footprint's area, as a share of the object's; the
            logarithm of the area is uniform.

    Raises ``ConfigurationError`` for an unknown form.
    """

    form: str = "stain"
    smallest: float = 0.001
    largest: float = 0.05
    family: ClassVar[str] = "appearance"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigurationError(
                f"'{self.form}' is not a form of colour defect; use one of {', '.join(FORMS)}."
            )

    @property
    def name(self) -> str:
        """The form, which is also the sample's kind."""
        return self.form

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample has a picture of an object."""
        return sample.rgb is not None and bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more defect, or unchanged if none is visible."""
        if sample.rgb is None or not sample.foreground.any():
            return sample
        share = log_uniform(self.smallest, self.largest, rng)
        area = max(float(sample.foreground.sum()) * share, 10.0)
        draw = {"stain": _stain, "scratch": _scratch, "smear": _smear}[self.form]
        footprint, cover, colour = draw(sample.rgb, sample.foreground, area, rng)
        before = sample.rgb[footprint.rows, footprint.cols]
        weight = cover[..., None]
        rgb = before * (1.0 - weight) + colour * weight
        return apply_change(sample, footprint.rows, footprint.cols, rgb=rgb, kind=self.form)


def contrasting_colour(
    shade: float, rng: np.random.Generator, *, saturation: float = 0.5
) -> FloatArray:
    """Draw an RGB colour ``(3,)`` whose brightness differs from ``shade`` by 0.15 or more.

    ``saturation`` in [0, 1] is the upper limit of the colour's saturation.
    """
    spread = rng.uniform(0.0, saturation) * rng.uniform(-0.5, 0.5, 3)
    darker = [max(shade - 0.5, 0.02), shade - 0.15]
    brighter = [shade + 0.15, min(shade + 0.5, 0.98)]
    ranges = [limits for limits in (darker, brighter) if limits[1] > limits[0]]
    low, high = ranges[rng.integers(len(ranges))]
    return np.clip(rng.uniform(low, high) + spread, 0.0, 1.0).astype(np.float32)


def _shade_under(rgb: FloatArray, footprint: Footprint, region: BoolArray) -> float:
    """Return the mean brightness of the object under a footprint."""
    under = (footprint.rho < 1.0) & region[footprint.rows, footprint.cols]
    values = brightness(rgb[footprint.rows, footprint.cols])
    return float(values[under].mean()) if under.any() else float(values.mean())


def _stain(
    rgb: FloatArray, region: BoolArray, area: float, rng: np.random.Generator
) -> tuple[Footprint, FloatArray, FloatArray]:
    footprint = blob(region, area, rng, roughness=float(rng.uniform(0.1, 0.4)))
    shade = _shade_under(rgb, footprint, region)
    colour = contrasting_colour(shade, rng)
    # A translucent film keeps the shading of the surface below; paint hides it.
    local = brightness(rgb[footprint.rows, footprint.cols]) / max(shade, 0.05)
    translucency = np.float32(rng.uniform(0.4, 1.0))
    painted = colour * (1.0 + translucency * (np.clip(local, 0.2, 2.0) - 1.0))[..., None]
    cover = footprint.plateau(float(rng.uniform(0.15, 0.7))) * np.float32(rng.uniform(0.4, 0.95))
    mottle = rng.standard_normal(cover.shape).astype(np.float32)
    mottle = cv2.GaussianBlur(mottle, (0, 0), 2.0) * np.float32(3.0 * rng.uniform(0.0, 0.35))
    return footprint, np.clip(cover * (1.0 + mottle), 0.0, 1.0), painted


def _scratch(
    rgb: FloatArray, region: BoolArray, area: float, rng: np.random.Generator
) -> tuple[Footprint, FloatArray, FloatArray]:
    width = log_uniform(1.2, 2.6, rng)
    length = float(np.clip(area / width, 10.0, 0.4 * max(region.shape)))
    footprint = stroke(region, length, width, rng, curl=float(rng.uniform(0.0, 0.5)))
    shade = _shade_under(rgb, footprint, region)
    colour = contrasting_colour(shade, rng, saturation=0.15)
    # Scratches fade in and out along their length.
    fade = cv2.GaussianBlur(rng.random(footprint.rho.shape).astype(np.float32), (0, 0), 4.0)
    strength = np.float32(rng.uniform(0.5, 1.0)) * np.clip(0.6 + 4.0 * (fade - 0.5), 0.35, 1.0)
    return footprint, np.clip(1.35 - footprint.rho, 0.0, 1.0) * strength, colour


def _smear(
    rgb: FloatArray, region: BoolArray, area: float, rng: np.random.Generator
) -> tuple[Footprint, FloatArray, FloatArray]:
    footprint = blob(region, area, rng, roughness=0.2, max_aspect=4.5, margin=1.2)
    shade = _shade_under(rgb, footprint, region)
    factor = rng.uniform(0.35, 0.7) if rng.random() < 0.6 else rng.uniform(1.35, 1.9)
    tint = np.float32(factor) * (1.0 + rng.normal(0.0, 0.06, 3)).astype(np.float32)
    before = rgb[footprint.rows, footprint.cols]
    # Grease blurs the surface below along the direction of wiping.
    length = int(np.clip(footprint.radius, 3, 15))
    kernel = np.zeros((2 * length + 1, 2 * length + 1), dtype=np.float32)
    angle = rng.uniform(0.0, np.pi)
    dx, dy = round(length * float(np.cos(angle))), round(length * float(np.sin(angle)))
    cv2.line(kernel, (length - dx, length - dy), (length + dx, length + dy), 1.0)
    kernel /= kernel.sum()
    wiped = cv2.filter2D(before, -1, kernel, borderType=cv2.BORDER_REFLECT)
    grain = rng.standard_normal(footprint.rho.shape).astype(np.float32)
    streaks = cv2.filter2D(grain, -1, kernel, borderType=cv2.BORDER_REFLECT)
    mixed = 0.5 * before + 0.5 * wiped
    colour = mixed * tint + np.float32(max(0.08 - 0.2 * shade, 0.0) * (factor > 1))
    cover = footprint.plateau(0.8) * np.clip(0.85 + streaks, 0.3, 1.0)
    return footprint, cover.astype(np.float32), colour
