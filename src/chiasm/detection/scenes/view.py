"""A scene as ideal sensors see it, with the exact mask of its defect."""

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

# Differences below these disappear in the sensors' noise.
_VISIBLE_TONE = 5 / 255
_VISIBLE_MM = 0.12
# A defect's own shadow counts as the defect up to this far from it.
_HALO_MM = 1.2


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scene without sensor effects.

    Attributes:
        colour: ``(S, S, 3)`` float32, linear light.
        points: ``(S, S, 3)`` float32, metres in the camera frame.
        chance: ``(S, S)`` float32 in [0, 1], chance of a missing 3D point.
        part: ``(S, S)`` bool, the part with any foreign matter on it.
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
    """A scene without its part: support, lamp and sensors.

    Attributes:
        ground: the support's surface.
        camera: rays of the camera.
        light: of the colour camera.
        projector: unit vector to the 3D sensor's pattern projector, z up.
        exposure: factor of the colour camera.
        top: upper limit of all heights, millimetres above the support.
    """

    ground: Surface
    camera: Camera
    light: Light
    projector: tuple[float, float, float]
    exposure: float
    top: float

    def good_view(self, good: Surface) -> View:
        """Render a part without a defect."""
        return self._assemble(self._paint(good), self._trace(good), good)

    def defective_view(self, good: Surface, defective: Surface, visible: frozenset[str]) -> View:
        """Render a defective part.

        Only the sensors in ``visible`` (``"rgb"``, ``"3d"``) see the defect.
        Outside its mask the view equals that of the ``good`` part.
        """
        paint, shape = self._paint(good), self._trace(good)
        before = self._assemble(paint, shape, good)
        defect_shape = self._trace(defective) if "3d" in visible else shape
        after = self._assemble(
            self._paint(defective) if "rgb" in visible else paint,
            defect_shape,
            defective,
            # If only the 3D sensor sees the defect, the picture stays that of the good part, and
            # its texture is not shifted by the changed relief.
            picture_height=defect_shape[..., 0] if "rgb" in visible else shape[..., 0],
        )
        tones = tone(after.colour, self.exposure) - tone(before.colour, self.exposure)
        lifted = np.abs(after.points[..., 2] - before.points[..., 2])
        differs = (_largest(np.abs(tones)) > _VISIBLE_TONE) | (lifted > _VISIBLE_MM / 1000)
        touched = self._touched(good, defective, shape[..., 0])
        mask = differs & touched & (before.part | after.part)
        return View(
            colour=np.where(mask[..., None], after.colour, before.colour).astype(np.float32),
            points=np.where(mask[..., None], after.points, before.points).astype(np.float32),
            chance=np.where(mask, after.chance, before.chance),
            part=np.where(mask, after.part, before.part) | before.part,
            mask=mask,
            exposure=self.exposure,
        )

    def _paint(self, surface: Surface) -> FloatArray:
        """Return colour and highlight of each plan point, ``(P, P, 4)``."""
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
        """Return each pixel's height and how far the projector is hidden from it, ``(S, S, 2)``."""
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
        picture_height: FloatArray | None = None,
    ) -> View:
        height = shape[..., 0]
        pixels = look_up(paint, self.camera, height if picture_height is None else picture_height)
        points = points_at(height, self.camera)
        part = (look_up(surface.part, self.camera, height) > 0.5) | (height > 0.4)
        return View(
            colour=np.asarray(cv2.GaussianBlur(pixels[..., :3], (0, 0), 0.45)),
            points=points,
            chance=missing_chance(points, pixels[..., 3], shape[..., 1]),
            part=part,
            mask=np.zeros(part.shape, dtype=bool),
            exposure=self.exposure,
        )

    def _touched(self, good: Surface, defective: Surface, height: FloatArray) -> BoolArray:
        """Mark pixels in or next to the changed region; ``height`` is ``(S, S)`` mm."""
        per_mm = good.height.shape[0] / PLAN_MM
        changed = np.abs(defective.height - good.height) > 0.02
        changed |= _largest(np.abs(defective.albedo - good.albedo)) > 0.004
        across = 2 * round(_HALO_MM * per_mm) + 1
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
        near = np.asarray(cv2.dilate(changed.astype(np.float32), element), dtype=np.float32)
        return np.asarray(look_up(near, self.camera, height) > 0.5)


def _largest(colour: FloatArray) -> FloatArray:
    # Many times faster than max(axis=2) for three channels.
    return np.maximum(np.maximum(colour[..., 0], colour[..., 1]), colour[..., 2])
