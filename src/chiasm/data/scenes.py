"""The built-in maker of RGB + 3D parts, written as MVTec 3D-AD files.

A part is a height field on a plane, seen by a pinhole camera from 0.6 m, lit by one lamp, measured
by a depth sensor with noise, steps and missing points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from chiasm.data.images import write_mask, write_rgb, write_xyz
from chiasm.data.scene_defects import DEFECT_VISIBILITY, DEFECTS, apply_defect
from chiasm.data.scene_shapes import PRODUCTS, product_height
from chiasm.samples import BoolArray, FloatArray, RGBDSample

__all__ = ["DEFECTS", "DEFECT_VISIBILITY", "PRODUCTS", "make_scenes", "render_scene"]

DISTANCE = 0.6
FIELD = 0.21
COLOURS = {
    "flange": (0.62, 0.63, 0.66),
    "biscuit": (0.72, 0.52, 0.30),
    "connector": (0.25, 0.42, 0.55),
    "cap": (0.70, 0.26, 0.22),
}


def render_scene(product: str, defect: str, *, seed: int, size: int = 256) -> RGBDSample:
    """Render one part; ``defect`` is ``"good"`` or one of ``DEFECTS``.

    The same seed gives the same part, pose, light and sensor noise with and without a defect.

    Returns:
        A sample with ``size`` x ``size`` pixels, xyz in metres and an exact mask.
    """
    rng = np.random.default_rng((seed, PRODUCTS.index(product)))
    flaws = np.random.default_rng((seed, PRODUCTS.index(product), 7))
    noise = np.random.default_rng((seed, PRODUCTS.index(product), 11))
    pitch = FIELD / size
    y, x = (np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2) * pitch
    turn = rng.uniform(0, 2 * np.pi)
    u0, v0 = x - rng.uniform(-0.02, 0.02), y - rng.uniform(-0.02, 0.02)
    u = u0 * np.cos(turn) + v0 * np.sin(turn)
    v = -u0 * np.sin(turn) + v0 * np.cos(turn)
    height = product_height(product, u, v, rng).astype(np.float32)
    part = height > 0.0008
    colour = _material(product, size, rng)
    clean = height
    mask = np.zeros_like(part)
    shaded_height = height
    if defect != "good":
        height, colour, mask = apply_defect(defect, height, colour, part, pitch, flaws)
        if "rgb" in DEFECT_VISIBILITY[defect]:
            shaded_height = height
    light = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), 1.0])
    rgb = _shade(shaded_height, clean, colour, part, light / np.linalg.norm(light), pitch, rng)
    rgb = np.clip(rgb + noise.normal(0, 0.008, rgb.shape), 0, 1).astype(np.float32)
    xyz = _measure(height, clean, x, y, rng, noise, pitch)
    return RGBDSample(
        rgb=rgb,
        xyz=xyz,
        valid=xyz[..., 2] > 0,
        mask=mask,
        label=int(defect != "good"),
        kind=defect,
        group=product,
        source=f"{product}/{defect}/{seed}",
    )


def _material(product: str, size: int, rng: np.random.Generator) -> FloatArray:
    """Reflectance ``(size, size, 3)`` of plane and part together: base colour, drift and grain."""
    base = np.array(COLOURS[product]) * rng.uniform(0.92, 1.08) + rng.normal(0, 0.012, 3)
    coarse = cv2.resize(
        rng.normal(0, 1, (12, 12)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 0.8)
    return np.clip(base * (1 + 0.03 * coarse + 0.03 * fine)[..., None], 0.02, 1).astype(np.float32)


def _shade(
    height: FloatArray,
    clean: FloatArray,
    colour: FloatArray,
    part: BoolArray,
    light: FloatArray,
    pitch: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Lambert and Blinn-Phong under one lamp, with a soft contact shadow on the plane."""
    gy, gx = np.gradient(height, pitch)
    normal = np.stack([-gx, -gy, np.ones_like(gx)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    half = light + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    diffuse = np.clip(normal @ light, 0, 1)
    gloss = np.clip(normal @ half, 0, 1) ** 40 * rng.uniform(0.05, 0.18)
    level = rng.uniform(0.8, 1.0)
    lit = colour * (0.25 + 0.75 * diffuse)[..., None] * level + gloss[..., None]
    shape = height.shape
    weave = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 1.5)
    plane = rng.uniform(0.05, 0.16) * (1 + 0.3 * weave)[..., None] * rng.uniform(0.9, 1.1, 3)
    shadow = cv2.GaussianBlur((clean > 0.0008).astype(np.float32), (0, 0), 5)
    ground = plane * (1 - 0.5 * shadow)[..., None]
    return np.where(part[..., None], lit, ground).astype(np.float32)


def _measure(
    height: FloatArray,
    clean: FloatArray,
    x: FloatArray,
    y: FloatArray,
    rng: np.random.Generator,
    noise: np.random.Generator,
    pitch: float,
) -> FloatArray:
    """xyz of a depth sensor that looks down on a slightly tilted plane; 0 where it sees nothing.

    What is missing depends on the part *without* its defect, so that missing points tell nothing.
    """
    tilt = rng.uniform(-0.06, 0.06, 2)
    gy, gx = np.gradient(clean, pitch)
    slope = np.hypot(gx, gy)
    z = DISTANCE + tilt[0] * x + tilt[1] * y - height
    z = z + noise.normal(0, 1, z.shape) * (0.00008 + 0.00006 * np.clip(slope, 0, 4))
    z = np.round(z / 0.00002) * 0.00002
    xyz = np.stack([x * z / DISTANCE, y * z / DISTANCE, z], axis=2).astype(np.float32)
    steep = cv2.GaussianBlur((slope > 2.5).astype(np.float32), (0, 0), 0.8)
    lost = noise.random(z.shape) < np.where(
        clean > 0.0008, 0.004 + 0.55 * steep, 0.06 + 0.4 * steep
    )
    xyz[lost] = 0
    return xyz


def make_scenes(
    folder: Path | str,
    *,
    products: Sequence[str] = PRODUCTS,
    train: int = 60,
    validation: int = 20,
    test_good: int = 20,
    test_per_defect: int = 4,
    size: int = 256,
    seed: int = 0,
) -> list[Path]:
    """Write one MVTec 3D-AD category per product; returns their folders.

    Sample k of a split has its own seed, so that asking for more leaves the first ones as they are.
    """
    made = []
    for product in products:
        root = Path(folder) / product
        plan = [("train", "good", train), ("validation", "good", validation)]
        plan += [("test", kind, test_per_defect) for kind in DEFECTS]
        plan += [("test", "good", test_good)]
        for number, (split, kind, count) in enumerate(plan):
            target = root / split / kind
            for name in ("rgb", "xyz", *(("gt",) if split == "test" else ())):
                (target / name).mkdir(parents=True, exist_ok=True)
            for k in range(count):
                own = seed * 1_000_003 + number * 10_007 + k
                sample = render_scene(product, kind, seed=own, size=size)
                assert sample.rgb is not None and sample.xyz is not None
                assert sample.mask is not None
                write_rgb(target / "rgb" / f"{k:03d}.png", sample.rgb)
                write_xyz(target / "xyz" / f"{k:03d}.tiff", sample.xyz)
                if split == "test":
                    write_mask(target / "gt" / f"{k:03d}.png", sample.mask)
        made.append(root)
    return made
