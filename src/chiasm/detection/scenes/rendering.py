"""From a height field in plan to what a camera above it sees: hit points and shaded colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.scenes.surface import Rng, Surface, rise
from chiasm.samples import FloatArray

DISTANCE_MM = 600.0
FIELD_MM = 124.0
# The plan reaches past the picture, so that tilted rays and shadows at its border find ground.
PLAN_MM = 1.16 * FIELD_MM
_LAYER_MM = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Rays of a pinhole camera about 0.6 m above the support plane.

    Attributes:
        x, y: ``(S, S)`` float32, where each ray meets the support plane, millimetres.
        slope_x, slope_y: ``(S, S)`` float32, millimetres of shift a millimetre of height.
        depth, slope_depth: ``(S, S)`` float32, camera z at the plane and its change with height.
        ray: ``(S, S, 2)`` float32, x and y of the ray for z of 1, in the camera's axes.
    """

    x: FloatArray
    y: FloatArray
    slope_x: FloatArray
    slope_y: FloatArray
    depth: FloatArray
    slope_depth: FloatArray
    ray: FloatArray


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit.

    Attributes:
        towards: unit vector to the lamp, x, y in plan and z up.
        colour: three factors of the lamp.
        ambient: share of light that comes from everywhere.
        environment: phase in radians of the soft reflections on metal.
    """

    towards: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: float
    environment: float


def camera_above(size: int, rng: Rng) -> Camera:
    """Draw a camera with a tilt of up to about six degrees, ``size`` pixels squared."""
    tilt_x, tilt_y = rng.normal(0, np.deg2rad(2.2), 2).clip(-0.1, 0.1)
    away = DISTANCE_MM * (1 + rng.normal(0, 0.012))
    rotation = cv2.Rodrigues(np.array([tilt_x, tilt_y, 0.0]))[0]
    focal = size * DISTANCE_MM / FIELD_MM
    line = (np.arange(size) - (size - 1) / 2) / focal
    ray = np.stack([*np.meshgrid(line, line), np.ones((size, size))], axis=2)
    world = ray @ rotation.T
    # The plane's z points away from the camera, so a height h lies at z = -h.
    origin = rotation @ np.array([0.0, 0.0, -away])
    steps = -origin[2] / world[..., 2]
    per_height = -1 / world[..., 2]
    values = (
        origin[0] + steps * world[..., 0],
        origin[1] + steps * world[..., 1],
        per_height * world[..., 0],
        per_height * world[..., 1],
        steps,
        per_height,
    )
    rays = [value.astype(np.float32) for value in values]
    return Camera(*rays, ray=ray[..., :2].astype(np.float32))


def light_over(rng: Rng) -> Light:
    """Draw a lamp: direction, warmth, brightness and the share of ambient light."""
    around, down = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 42))
    power = 1.0 + rng.normal(0, 0.07)
    warmth = rng.normal(0, 0.02)
    return Light(
        towards=(np.cos(around) * np.sin(down), np.sin(around) * np.sin(down), np.cos(down)),
        colour=(power * (1 + warmth), power, power * (1 - warmth)),
        ambient=rng.uniform(0.28, 0.46),
        environment=rng.uniform(0, 2 * np.pi),
    )


def trace(height: FloatArray, camera: Camera, top: float) -> FloatArray:
    """Find the height in millimetres at which each ray first meets the surface.

    The rays are followed down in layers from ``top``; the crossing is found by one secant step,
    which is exact on level ground. Returns ``(S, S)`` float32.
    """
    found = np.zeros(camera.x.shape, dtype=np.float32)
    open_ = np.ones(camera.x.shape, dtype=bool)
    above = np.full(camera.x.shape, np.inf, dtype=np.float32)
    layers = np.linspace(top, 0.0, max(2, int(np.ceil(top / _LAYER_MM)) + 1), dtype=np.float32)
    step = layers[0] - layers[1]
    for layer in layers:
        here = layer - look_up(height, camera, layer)
        if layer == layers[0]:
            above = np.maximum(here, 1e-6)
            continue
        hit = open_ & (here <= 0)
        share = above[hit] / (above[hit] - here[hit])
        found[hit] = layer + step * (1 - share)
        open_ &= ~hit
        above = np.where(here > 0, here, above)
    return np.maximum(found, 0)


def look_up(field: FloatArray, camera: Camera, height: FloatArray | np.float32) -> FloatArray:
    """Values of a plan ``(P, P, ...)`` where the camera's rays pass at ``height`` millimetres."""
    points = field.shape[0]
    per_mm, middle = points / PLAN_MM, (points - 1) / 2
    column = (camera.x + height * camera.slope_x) * np.float32(per_mm) + np.float32(middle)
    row = (camera.y + height * camera.slope_y) * np.float32(per_mm) + np.float32(middle)
    return np.asarray(
        cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def points_at(height: FloatArray, camera: Camera) -> FloatArray:
    """Camera coordinates ``(S, S, 3)`` float32 in metres of the hits at ``height`` millimetres."""
    z = (camera.depth + height * camera.slope_depth) / np.float32(1000)
    return np.concatenate([camera.ray * z[..., None], z[..., None]], axis=2)


def normals_of(height: FloatArray, per_mm: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Unit normals of a plan height field, their x, y and z each ``(P, P)``, z up."""
    scale = per_mm / 8
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=-scale)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=-scale)
    up = 1 / np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
    return slope_x * up, slope_y * up, up


def shadow(
    height: FloatArray, towards: tuple[float, float, float], per_mm: float, reach_mm: float
) -> FloatArray:
    """How far each grid point lies below the terrain in the direction of a lamp, millimetres.

    0 or less is lit; the terrain is sampled every millimetre or so up to ``reach_mm`` away.
    """
    across = np.hypot(towards[0], towards[1])
    direction = np.array(towards[:2]) / max(across, 1e-6)
    climb = towards[2] / max(across, 1e-6)
    deepest = np.full(height.shape, -np.inf, dtype=np.float32)
    for step in np.linspace(0.7, reach_mm, max(3, int(reach_mm / 1.3))):
        move: NDArray[np.float32] = np.float32(
            [[1, 0, direction[0] * step * per_mm], [0, 1, direction[1] * step * per_mm]]
        )
        terrain = cv2.warpAffine(
            height, move, height.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        np.maximum(deepest, terrain - np.float32(step * climb), out=deepest)
    return deepest - height


def shade(surface: Surface, light: Light, top: float) -> tuple[FloatArray, FloatArray]:
    """Colour of each plan point in linear light ``(P, P, 3)``, and its highlight ``(P, P)``.

    Lambert's diffuse term and the Blinn-Phong highlight, occlusion of ambient light from blurred
    heights, a soft cast shadow, and for metal the reflection of a smooth surrounding, drawn out
    across turning marks. Nothing stands higher than ``top`` millimetres.
    """
    per_mm = surface.height.shape[0] / PLAN_MM
    x, y, up = normals_of(surface.height, per_mm)
    lamp = np.array(light.towards, dtype=np.float32)
    half = lamp + np.float32([0, 0, 1])
    half /= np.linalg.norm(half)
    reach = top * float(np.hypot(lamp[0], lamp[1]) / lamp[2])
    depth = shadow(surface.height, light.towards, per_mm, max(reach, 1.5))
    lit = 1 - np.float32(0.85) * rise(depth / np.float32(1.6) + np.float32(0.3))
    lit = cv2.GaussianBlur(lit, (0, 0), 0.5 * per_mm)
    hollow = np.zeros_like(up)
    for width, strength in ((1.2, 0.20), (5.0, 0.09)):
        around = _blur(surface.height, width * per_mm)
        hollow += np.float32(strength) * np.maximum(around - surface.height, 0)
    open_sky = np.exp(-hollow)
    diffuse = np.maximum(x * lamp[0] + y * lamp[1] + up * lamp[2], 0) * lit
    facing = np.maximum(x * half[0] + y * half[1] + up * half[2], 0)
    highlight = surface.gloss * lit * _to_the_32nd(facing)
    # A viewer straight above sees the direction 2 n_z n - z mirrored.
    phase = np.float32(light.environment)
    lobe = np.cos(np.float32(5.5) * up * (x * np.cos(phase) + y * np.sin(phase)) + phase)
    mirrored = np.float32(0.50) + np.float32(0.38) * lobe
    if surface.across is not None:
        azimuth = np.arctan2(lamp[1], lamp[0])
        fan = surface.across @ np.float32([np.cos(azimuth), np.sin(azimuth)])
        fan = np.square(np.square(fan)) * np.square(up)
        mirrored += fan * (np.float32(0.35) + np.float32(0.65) * fan)
    body = (1 - np.float32(0.7) * surface.metal) * (
        np.float32(light.ambient) * open_sky + np.float32(0.85) * diffuse
    )
    body += np.float32(0.8) * surface.metal * mirrored * open_sky
    shine = np.float32(0.6) * highlight
    colour = np.empty((*up.shape, 3), dtype=np.float32)
    for channel, power in enumerate(light.colour):
        albedo = surface.albedo[..., channel]
        tinted = shine * (1 + surface.metal * (albedo - 1))
        colour[..., channel] = (albedo * body + tinted) * np.float32(power)
    return colour, highlight


def _to_the_32nd(value: FloatArray) -> FloatArray:
    for _ in range(5):
        value = value * value
    return value


def _blur(field: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur; wide ones on a quarter of the resolution, where nothing is lost."""
    if sigma < 6:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma))
    small = cv2.resize(field, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, field.shape[::-1], interpolation=cv2.INTER_LINEAR))
