"""Height fields of the built-in products, as functions of the part's own coordinates."""

from __future__ import annotations

import numpy as np

from chiasm.samples import FloatArray

PRODUCTS = ("flange", "biscuit", "connector", "cap")


def product_height(
    product: str, u: FloatArray, v: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Height in metres above the plane at part coordinates ``u``, ``v`` (metres), 0 off the part.

    Dimensions vary by a few per cent with ``rng``, as between good parts of one product.
    """
    scale = rng.uniform(0.97, 1.03)
    radius = np.hypot(u, v) / scale
    angle = np.arctan2(v, u)
    if product == "flange":
        height = 0.010 * _inside(0.042 - radius) + 0.010 * _inside(0.020 - radius)
        for k in range(6):
            hole = np.hypot(u - 0.031 * np.cos(k * np.pi / 3), v - 0.031 * np.sin(k * np.pi / 3))
            height = height * (1 - 0.8 * _inside(0.0045 - hole))
        return height * (1 - 0.7 * _inside(0.009 - radius))
    if product == "biscuit":
        edge = 0.040 * (1 + 0.03 * np.cos(18 * angle))
        waves = np.sin(u * 420 + rng.uniform(0, 6)) * np.sin(v * 420 + rng.uniform(0, 6))
        dome = np.sqrt(np.clip(1 - (radius / 0.055) ** 2, 0, 1))
        return (0.014 * dome + 0.0006 * waves) * _inside(edge - radius)
    if product == "connector":
        body = _inside(0.042 * scale - np.abs(u)) * _inside(0.026 * scale - np.abs(v))
        pocket = _inside(0.036 * scale - np.abs(u)) * _inside(0.019 * scale - np.abs(v))
        height = 0.018 * body - 0.008 * pocket
        pin_u, pin_v = (u / 0.012) - np.round(u / 0.012), np.abs(v) / 0.009 - 1
        pins = _inside(0.0028 - 0.012 * np.hypot(pin_u, pin_v * 0.75)) * pocket
        return height + 0.009 * pins
    if product == "cap":
        ribs = 0.0006 * np.cos(36 * angle)
        dome = 0.012 + 0.014 * np.sqrt(np.clip(1 - (radius / 0.034) ** 2, 0, 1))
        rim = _inside(0.041 + ribs - radius)
        return rim * np.where(radius < 0.034, dome, 0.012)
    raise ValueError(f"There is no product {product!r}; there are: {', '.join(PRODUCTS)}.")


def _inside(distance: FloatArray, *, edge: float = 0.0006) -> FloatArray:
    """A step of finite width: 1 where the signed distance (metres) is positive."""
    return np.clip(distance / edge + 0.5, 0, 1)
