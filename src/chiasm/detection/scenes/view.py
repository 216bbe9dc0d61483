"""A scene as ideal sensors would see it, and the defect's exact place in it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from chiasm.detection.scenes.rendering import (
    PLAN_MM,
    Camera,
    Light,
    look_up,
    points_at,
    shade,
    shadow,
    trace,
)
from chiasm.detection.scenes.sensor import missing_chance, tone
from chiasm.detection.scenes.surface import Surface, blend, rise
from chiasm.samples import BoolArray, FloatArray

# Differences below these are invisible next to the sensors' noise.
_SEEN_TONE = 5 / 255
_SEEN_MM = 0.12
# A defect's own shadow counts as the defect up to this far from it.
_HALO_MM = 1.2


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scene before the sensors: what an ideal camera would see.

    Attributes:
        colour: ``(S, S, 3)`` float32, linear light.
        points: ``(S, S, 3)`` float32, metres in the camera frame.
        chance: ``(S, S)`` float32 in [0, 1], chance of a missing 3D point.
        part: ``(S, S)`` bool, the part and what lies on it.
        mask: ``(S, S)`` bool, the defect; all False for a good part.
        exposure: factor of the colour camera.
    """

    colour: FloatArray
    points: FloatArray
    chance: FloatArray
    part: BoolArray
    mask: BoolArray
    exposure: float


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """All of a scene but the part: what it lies on, and what looks at it.

    Attributes:
        ground: the support's surface.
        camera: rays of the camera.
        light: the lamp of the colour camera.
        projector: unit vector to the 3D sensor's pattern projector, z up.
        exposure: factor of the colour camera.
        top: millimetres above the support that nothing reaches over.
    """

    ground: Surface
    camera: Camera
    light: Light
    projector: tuple[float, float, float]
    exposure: float
    top: float

    def view_good(self, made: Surface) -> View:
        """See a part without a defect."""
        return self._assemble(self._paint(made), self._trace(made), made)

    def view_defect(self, made: Surface, spoilt: Surface, visible: frozenset[str]) -> View:
        """See a spoilt part; only what is in ``visible`` (``"rgb"``, ``"3d"``) shows its defect.

        The view equals that of the part as ``made`` outside its mask.
        """
        paint, shape = self._paint(made), self._trace(made)
        good = self._assemble(paint, shape, made)
        bad_shape = self._trace(spoilt) if "3d" in visible else shape
        bad = self._assemble(
            self._paint(spoilt) if "rgb" in visible else paint,
            bad_shape,
            spoilt,
            # The picture stays the good part's where only the 3D sensor sees the defect, even
            # in how relief shifts the texture.
            seen_at=bad_shape[..., 0] if "rgb" in visible else shape[..., 0],
        )
        tones = tone(bad.colour, self.exposure) - tone(good.colour, self.exposure)
        lifted = np.abs(bad.points[..., 2] - good.points[..., 2])
        differs = (_largest(np.abs(tones)) > _SEEN_TONE) | (lifted > _SEEN_MM / 1000)
        touched = self._touched(made, spoilt, shape[..., 0])
        mask = differs & touched & (good.part | bad.part)
        return View(
            colour=np.where(mask[..., None], bad.colour, good.colour).astype(np.float32),
            points=np.where(mask[..., None], bad.points, good.points).astype(np.float32),
            chance=np.where(mask, bad.chance, good.chance),
            part=np.where(mask, bad.part, good.part) | good.part,
            mask=mask,
            exposure=self.exposure,
        )

    def _paint(self, surface: Surface) -> FloatArray:
        """Colour and highlight of each plan point, ``(P, P, 4)``."""
        cover = rise(surface.part * np.float32(2.0))
        scene = Surface(
            surface.height,
            blend(self.ground.albedo, surface.albedo, cover),
            blend(self.ground.metal, surface.metal, cover),
            blend(self.ground.gloss, surface.gloss, cover),
            surface.part,
            surface.across,
        )
        return np.dstack(shade(scene, self.light, self.top))

    def _trace(self, surface: Surface) -> FloatArray:
        """Height of each pixel's hit and how far the projector is hidden, ``(S, S, 2)``."""
        per_mm = surface.height.shape[0] / PLAN_MM
        depth = shadow(surface.height, self.projector, per_mm, 0.3 * self.top + 1)
        height = trace(surface.height, self.camera, self.top)
        hidden = look_up(rise(depth / np.float32(0.8)), self.camera, height)
        return np.dstack([height, hidden])

    def _assemble(
        self,
        paint: FloatArray,
        shape: FloatArray,
        surface: Surface,
        seen_at: FloatArray | None = None,
    ) -> View:
        height = shape[..., 0]
        seen = look_up(paint, self.camera, height if seen_at is None else seen_at)
        points = points_at(height, self.camera)
        part = (look_up(surface.part, self.camera, height) > 0.5) | (height > 0.4)
        return View(
            colour=np.asarray(cv2.GaussianBlur(seen[..., :3], (0, 0), 0.45)),
            points=points,
            chance=missing_chance(points, seen[..., 3], shape[..., 1]),
            part=part,
            mask=np.zeros(part.shape, dtype=bool),
            exposure=self.exposure,
        )

    def _touched(self, made: Surface, spoilt: Surface, height: FloatArray) -> BoolArray:
        """Pixels on or next to where the defect changed the part; ``height`` is ``(S, S)`` mm."""
        per_mm = made.height.shape[0] / PLAN_MM
        changed = np.abs(spoilt.height - made.height) > 0.02
        changed |= _largest(np.abs(spoilt.albedo - made.albedo)) > 0.004
        across = 2 * round(_HALO_MM * per_mm) + 1
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
        near = cv2.dilate(changed.astype(np.float32), element)
        return np.asarray(look_up(near, self.camera, height) > 0.5)


def _largest(colour: FloatArray) -> FloatArray:
    # Many times faster than max(axis=2) where the last axis has three entries.
    return np.maximum(np.maximum(colour[..., 0], colour[..., 1]), colour[..., 2])
