"""Render a height field in plan: camera rays, their hit points, and shaded colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from chiasm.detection.scenes.surface import Rng, Surface, rise
from chiasm.samples import FloatArray

DISTANCE_MM = 600.0
FIELD_MM = 124.0
# The plan extends beyond the picture, so that tilted rays and shadows at its border hit ground.
PLAN_MM = 1.16 * FIELD_MM
_LAYER_MM = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """Rays of a pinhole camera about 0.6 m above the support plane.

    Attributes:
        x, y: ``(S, S)`` float32 millimetres, intersection of each ray with the support plane.
        slope_x, slope_y: ``(S, S)`` float32, millimetres of shift per millimetre of height.
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
    """The illumination of a scene: a lamp, and ambient light.

    Attributes:
        towards: unit vector to the lamp, x, y in plan and z up.
        colour: factors of the lamp for red, green and blue.
        ambient: share of the light that comes from all directions.
        environment: phase in radians of the soft reflections on metal.
    """

    towards: tuple[float, float, float]
    colour: tuple[float, float, float]
    ambient: float
    environment: float


def random_camera(size: int, rng: Rng) -> Camera:
    """Draw a camera of ``size`` pixels squared with a tilt of up to about six degrees."""
    tilt_x, tilt_y = rng.normal(0, np.deg2rad(2.2), 2).clip(-0.1, 0.1)
    distance = DISTANCE_MM * (1 + rng.normal(0, 0.012))
    rotation = cv2.Rodrigues(np.array([tilt_x, tilt_y, 0.0]))[0]
    focal = size * DISTANCE_MM / FIELD_MM
    line = (np.arange(size) - (size - 1) / 2) / focal
    ray = np.stack([*np.meshgrid(line, line), np.ones((size, size))], axis=2)
    world = ray @ rotation.T
    # The plane's z points away from the camera, so a height h lies at z = -h.
    origin = rotation @ np.array([0.0, 0.0, -distance])
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
    x, y, slope_x, slope_y, depth, slope_depth = (value.astype(np.float32) for value in values)
    return Camera(x, y, slope_x, slope_y, depth, slope_depth, ray[..., :2].astype(np.float32))


def random_light(rng: Rng) -> Light:
    """Draw the lamp's direction, warmth and brightness, and the share of ambient light."""
    azimuth, zenith = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 42))
    power = 1.0 + rng.normal(0, 0.07)
    warmth = rng.normal(0, 0.02)
    return Light(
        towards=(
            np.cos(azimuth) * np.sin(zenith),
            np.sin(azimuth) * np.sin(zenith),
            np.cos(zenith),
        ),
        colour=(power * (1 + warmth), power, power * (1 - warmth)),
        ambient=rng.uniform(0.28, 0.46),
        environment=rng.uniform(0, 2 * np.pi),
    )


def trace(height: FloatArray, camera: Camera, top: float) -> FloatArray:
    """Find the height in millimetres at which each ray first meets the surface.

    Follows the rays down from ``top`` in layers and locates the crossing by one secant step,
    which is exact on level ground. Returns ``(S, S)`` float32.
    """
    hit_height = np.zeros(camera.x.shape, dtype=np.float32)
    unhit = np.ones(camera.x.shape, dtype=bool)
    above = np.full(camera.x.shape, np.inf, dtype=np.float32)
    layers = np.linspace(top, 0.0, max(2, int(np.ceil(top / _LAYER_MM)) + 1), dtype=np.float32)
    step = layers[0] - layers[1]
    for layer in layers:
        clearance = layer - look_up(height, camera, layer)
        if layer == layers[0]:
            above = np.maximum(clearance, 1e-6)
            continue
        hit = unhit & (clearance <= 0)
        share = above[hit] / (above[hit] - clearance[hit])
        hit_height[hit] = layer + step * (1 - share)
        unhit &= ~hit
        above = np.where(clearance > 0, clearance, above)
    return np.maximum(hit_height, 0)


def look_up(field: FloatArray, camera: Camera, height: FloatArray | np.float32) -> FloatArray:
    """Sample a plan ``(P, P, ...)`` where the camera's rays pass a ``height`` in millimetres."""
    points = field.shape[0]
    per_mm, middle = points / PLAN_MM, (points - 1) / 2
    column = (camera.x + height * camera.slope_x) * np.float32(per_mm) + np.float32(middle)
    row = (camera.y + height * camera.slope_y) * np.float32(per_mm) + np.float32(middle)
    return np.asarray(
        cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def points_at(height: FloatArray, camera: Camera) -> FloatArray:
    """Return camera coordinates ``(S, S, 3)``, float32 metres, of hits at ``height`` mm."""
    z = (camera.depth + height * camera.slope_depth) / np.float32(1000)
    return np.concatenate([camera.ray * z[..., None], z[..., None]], axis=2)


def normals_of(height: FloatArray, per_mm: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the unit normals of a plan height field: x, y and z, each ``(P, P)``, z up."""
    scale = per_mm / 8
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=-scale)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=-scale)
    up = 1 / np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)
    return slope_x * up, slope_y * up, up


def shadow(
    height: FloatArray, towards: tuple[float, float, float], per_mm: float, reach_mm: float
) -> FloatArray:
    """Return the depth of each grid point below the shadow border of a lamp, millimetres.

    Points of depth 0 or less are lit. The terrain is sampled about every millimetre up to a
    distance of ``reach_mm``.
    """
    across = np.hypot(towards[0], towards[1])
    direction = np.array(towards[:2]) / max(across, 1e-6)
    climb = towards[2] / max(across, 1e-6)
    border = np.full(height.shape, -np.inf, dtype=np.float32)
    for step in np.linspace(0.7, reach_mm, max(3, int(reach_mm / 1.3))):
        shift = np.array(
            [[1, 0, direction[0] * step * per_mm], [0, 1, direction[1] * step * per_mm]],
            dtype=np.float32,
        )
        terrain = cv2.warpAffine(
            height, shift, height.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        np.maximum(border, terrain - np.float32(step * climb), out=border)
    return border - height


def shade(surface: Surface, light: Light, top: float) -> tuple[FloatArray, FloatArray]:
    """Return the colour of each plan point, linear ``(P, P, 3)``, and its highlight ``(P, P)``.

    Sums Lambert's diffuse term and the Blinn-Phong highlight, with ambient occlusion from blurred
    heights and a soft cast shadow. Metal also reflects smooth surroundings, stretched across
    turning marks. ``top`` is the upper limit of all heights in millimetres.
    """
    per_mm = surface.height.shape[0] / PLAN_MM
    x, y, up = normals_of(surface.height, per_mm)
    lamp = np.array(light.towards, dtype=np.float32)
    half = lamp + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    reach = top * float(np.hypot(lamp[0], lamp[1]) / lamp[2])
    depth = shadow(surface.height, light.towards, per_mm, max(reach, 1.5))
    lit = 1 - np.float32(0.85) * rise(depth / np.float32(1.6) + np.float32(0.3))
    lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), 0.5 * per_mm), dtype=np.float32)
    hollow = np.zeros_like(up)
    for width, strength in ((1.2, 0.20), (5.0, 0.09)):
        surroundings = _blur(surface.height, width * per_mm)
        hollow += np.float32(strength) * np.maximum(surroundings - surface.height, 0)
    unhitsky = np.exp(-hollow)
    diffuse = np.maximum(x * lamp[0] + y * lamp[1] + up * lamp[2], 0) * lit
    facing = np.maximum(x * half[0] + y * half[1] + up * half[2], 0)
    highlight = surface.gloss * lit * _to_the_32nd(facing)
    # Seen from straight above, the mirror direction is 2 n_z n - z.
    phase = np.float32(light.environment)
    lobe = np.cos(np.float32(5.5) * up * (x * np.cos(phase) + y * np.sin(phase)) + phase)
    mirrored = np.float32(0.50) + np.float32(0.38) * lobe
    if surface.across is not None:
        azimuth = np.arctan2(lamp[1], lamp[0])
        fan = surface.across @ np.array([np.cos(azimuth), np.sin(azimuth)], dtype=np.float32)
        fan = np.square(np.square(fan)) * np.square(up)
        mirrored += fan * (np.float32(0.35) + np.float32(0.65) * fan)
    body = (1 - np.float32(0.7) * surface.metal) * (
        np.float32(light.ambient) * unhitsky + np.float32(0.85) * diffuse
    )
    body += np.float32(0.8) * surface.metal * mirrored * unhitsky
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
    """Apply a Gaussian blur; wide ones at a quarter of the resolution, which loses nothing."""
    if sigma < 6:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma))
    small = cv2.resize(field, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, field.shape[::-1], interpolation=cv2.INTER_LINEAR))
