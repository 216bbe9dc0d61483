"""Synthetic defects of shape (bumps, dents, cuts ...), in 3D and in the shading of RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from chiasm.detection.anomalies.footprints import Footprint, blob, log_uniform, stroke
from chiasm.detection.anomalies.relief import apply_change, mask_window
from chiasm.detection.anomalies.shading import Scene, local_height, measure_scene, shading_ratio
from chiasm.errors import ConfigurationError
from chiasm.samples import BoolArray, FloatArray, PreparedSample

FORMS = ("bump", "dent", "cut", "missing_material", "bend")


@dataclass(frozen=True, slots=True)
class GeometricGenerator:
    """Change the shape of a part in height, points, normals, depth and shading.

    RGB-only samples get only the shading, as of a flat surface, and 3D-only samples the shape.

    Attributes:
        form: ``"bump"``, ``"dent"``, ``"cut"``, ``"missing_material"`` or
            ``"bend"``.
        smallest, largest: range of the footprint's area, as a share of the object's; the
            logarithm of the area is uniform.

    Raises ``ConfigurationError`` for an unknown form.
    """

    form: str = "bump"
    smallest: float = 0.001
    largest: float = 0.05
    family: ClassVar[str] = "geometric"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigurationError(
                f"'{self.form}' is not a form of geometric defect; use one of {', '.join(FORMS)}."
            )

    @property
    def name(self) -> str:
        """The form, which is also the sample's kind."""
        return self.form

    def supports(self, sample: PreparedSample) -> bool:
        """Return whether the sample shows an object."""
        return bool(sample.foreground.any())

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        """Return the sample with one more defect, or unchanged if none is visible."""
        scene = measure_scene(sample, rng)
        pixels = int(sample.foreground.sum())
        area = max(pixels * log_uniform(self.smallest, self.largest, rng), 10.0)
        # A missing point has no shape to change, so measured points are preferred.
        measured = sample.valid & sample.foreground
        region = measured if sample.xyz is not None and measured.any() else sample.foreground
        if self.form == "cut":
            return _cut(sample, scene, region, area, rng)
        if self.form == "missing_material":
            return _missing_material(sample, scene, region, area, rng)
        if self.form == "bend":
            return _bend(sample, scene, region, max(area, 0.008 * pixels), rng)
        return _swelling(sample, scene, region, area, rng, up=self.form == "bump")


def _limit(delta: FloatArray, height: FloatArray, sample: PreparedSample) -> FloatArray:
    """Limit a change so that the surface stays above the support plane."""
    if sample.height is None:
        return delta
    return np.maximum(delta, np.minimum(0.0, -height)).astype(np.float32)


def _apply(
    sample: PreparedSample,
    footprint: Footprint,
    height: FloatArray,
    delta: FloatArray,
    scene: Scene,
    kind: str,
    *,
    tint: FloatArray | float = 1.0,
    dropout: BoolArray | None = None,
) -> PreparedSample:
    """Shade a change of height, and write shading and height into the sample."""
    delta = np.where(mask_window(footprint, sample.foreground), delta, np.float32(0.0))
    rgb = None
    if sample.rgb is not None:
        ratio = shading_ratio(height, delta, scene) * tint
        rgb = sample.rgb[footprint.rows, footprint.cols] * ratio[..., None]
    return apply_change(
        sample,
        footprint.rows,
        footprint.cols,
        rgb=rgb,
        delta=delta,
        dropout=dropout,
        pitch=scene.pitch,
        kind=kind,
    )


def _swelling(
    sample: PreparedSample,
    scene: Scene,
    region: BoolArray,
    area: float,
    rng: np.random.Generator,
    *,
    up: bool,
) -> PreparedSample:
    footprint = blob(region, area, rng, roughness=float(rng.uniform(0.05, 0.3)))
    profile = [footprint.bell, footprint.dome, lambda: footprint.plateau(0.6)][rng.integers(3)]()
    slope = log_uniform(0.35, 1.2, rng)
    rise = np.clip(slope * footprint.radius * scene.pitch, 0.8 * scene.pitch, 0.35 * scene.relief)
    height = local_height(sample, footprint.rows, footprint.cols)
    delta = (profile * np.float32(rise if up else -rise)).astype(np.float32)
    kind = "bump" if up else "dent"
    return _apply(sample, footprint, height, _limit(delta, height, sample), scene, kind)


def _cut(
    sample: PreparedSample, scene: Scene, region: BoolArray, area: float, rng: np.random.Generator
) -> PreparedSample:
    width = log_uniform(1.8, 5.0, rng)
    length = float(np.clip(area / width, 3.0 * width, 0.35 * max(region.shape)))
    footprint = stroke(region, length, width, rng, curl=float(rng.uniform(0.0, 0.8)))
    height = local_height(sample, footprint.rows, footprint.cols)
    depth = np.clip(log_uniform(0.8, 3.0, rng) * width / 2, 0.8, None) * scene.pitch
    depth = min(depth, 0.5 * scene.relief)
    groove = np.clip(1.0 - footprint.rho, 0.0, None)
    lip = rng.uniform(0.0, 0.25) * np.exp(-(((footprint.rho - 1.4) / 0.35) ** 2))
    delta = (np.float32(depth) * (lip - groove)).astype(np.float32)
    # A groove narrower than a pixel still absorbs light: darken along its middle.
    tint = np.asarray(1.0 - rng.uniform(0.15, 0.6) * groove, dtype=np.float32)
    delta = _limit(delta, height, sample)
    return _apply(sample, footprint, height, delta, scene, "cut", tint=tint)


def _missing_material(
    sample: PreparedSample, scene: Scene, region: BoolArray, area: float, rng: np.random.Generator
) -> PreparedSample:
    footprint = blob(region, area, rng, roughness=float(rng.uniform(0.2, 0.45)))
    height = local_height(sample, footprint.rows, footprint.cols)
    hole = footprint.plateau(float(rng.uniform(0.1, 0.35)))
    removed = hole > 0
    if not removed.any():
        return sample
    top = float(np.median(height[removed]))
    shallow = min((0.5 + 0.8 * footprint.radius) * scene.pitch, 0.5 * scene.relief)
    fall = max(float(rng.uniform(0.3, 1.0)) * top, 1.0 * scene.pitch)
    if sample.height is None or rng.random() < 0.6:
        fall = min(fall, shallow) if sample.height is not None else shallow
    grain = cv2.GaussianBlur(rng.standard_normal(hole.shape).astype(np.float32), (0, 0), 1.0)
    floor = top - fall + grain * np.float32(min(1.2 * scene.pitch, 0.25 * fall))
    delta = hole * np.minimum(floor - height, 0.0)
    dropout = None
    if rng.random() < 0.3:  # a sensor often loses points in the shadow of the rim
        dropout = (cv2.GaussianBlur(grain, (0, 0), 1.0) > 0.35) & (hole > 0.5)
    # The fracture is rough, and darker or paler than the worn surface.
    base = log_uniform(0.55, 1.15, rng)
    fracture = np.float32(base) * (1.0 + 0.25 * grain)
    tint = np.asarray(1.0 + hole * (fracture - 1.0), dtype=np.float32)
    delta = _limit(delta.astype(np.float32), height, sample)
    kind = "missing_material"
    return _apply(sample, footprint, height, delta, scene, kind, tint=tint, dropout=dropout)


def _bend(
    sample: PreparedSample, scene: Scene, region: BoolArray, area: float, rng: np.random.Generator
) -> PreparedSample:
    footprint = blob(region, area, rng, roughness=0.15, max_aspect=3.0, margin=1.3)
    rows, cols = footprint.rows, footprint.cols
    height = local_height(sample, rows, cols)
    pull = footprint.plateau(0.8)
    angle = rng.uniform(0.0, 2 * np.pi)
    shift = np.float32(min(rng.uniform(0.25, 0.6) * footprint.radius, 12.0))
    y, x = np.mgrid[0 : pull.shape[0], 0 : pull.shape[1]].astype(np.float32)
    from_y = y + pull * shift * np.float32(np.sin(angle))
    from_x = x + pull * shift * np.float32(np.cos(angle))
    part = mask_window(footprint, sample.foreground)
    origin = cv2.remap(part.astype(np.float32), from_x, from_y, cv2.INTER_LINEAR)
    # Pixels that would be pulled in from beside the object keep their values.
    material = part & (origin > 0.999)
    bent = cv2.remap(height, from_x, from_y, cv2.INTER_NEAREST)
    across = (y - (footprint.centre[0] - rows.start)) * np.float32(np.sin(angle)) + (
        x - (footprint.centre[1] - cols.start)
    ) * np.float32(np.cos(angle))
    tilt = np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0) * scene.pitch) * across * pull
    limit = np.float32(0.4 * scene.relief)
    delta = np.where(material, bent - height, 0.0) + np.clip(tilt, -limit, limit)
    delta = _limit(delta.astype(np.float32), height, sample) * part
    rgb = None
    if sample.rgb is not None:
        colour = sample.rgb[rows, cols]
        pulled = cv2.remap(colour, from_x, from_y, cv2.INTER_LINEAR)
        moved = np.where(material[..., None], pulled, colour)
        rgb = moved * shading_ratio(height, (tilt * part).astype(np.float32), scene)[..., None]
    return apply_change(sample, rows, cols, rgb=rgb, delta=delta, pitch=scene.pitch, kind="bend")
