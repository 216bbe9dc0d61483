"""Textures for the paper's anomaly generator: a folder of pictures, or procedural ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.anomalies.perlin import perlin_noise
from chiasm.errors import DataError
from chiasm.samples import FloatArray

ByteImage = NDArray[np.uint8]
Draw = Callable[[tuple[int, int], np.random.Generator], FloatArray]


def _palette(rng: np.random.Generator, count: int = 2) -> FloatArray:
    return rng.random((count, 3)).astype(np.float32)


def _coloured(level: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Map levels ``(H, W)`` in [0, 1] to a ramp between two random colours, ``(H, W, 3)``."""
    low, high = _palette(rng)
    return np.asarray(low + np.clip(level, 0.0, 1.0)[..., None] * (high - low), dtype=np.float32)


def _rotated_grid(
    shape: tuple[int, int], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    angle = rng.uniform(0.0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    return cos * x + sin * y, cos * y - sin * x


def _stripes(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    u, _ = _rotated_grid(shape, rng)
    wave = np.sin(u * np.float32(2 * np.pi / rng.uniform(5.0, 40.0)))
    return _coloured(0.5 + wave * np.float32(rng.uniform(0.5, 5.0)), rng)


def _checks(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    u, v = _rotated_grid(shape, rng)
    side_u, side_v = rng.uniform(4.0, 30.0, 2).astype(np.float32)
    odd = (np.floor(u / side_u) + np.floor(v / side_v)) % 2
    return _coloured(odd.astype(np.float32), rng)


def _cloud(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    total = np.full(shape, 0.5, dtype=np.float32)
    for octave in range(4):
        cells = 2 ** (octave + 1)
        total += perlin_noise(shape, (cells, cells), rng) * np.float32(0.6 * 0.6**octave)
    return _coloured(total, rng)


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    grain = rng.standard_normal(shape, dtype=np.float32)
    sigma = float(rng.uniform(0.6, 2.5))
    grain = cv2.GaussianBlur(grain, (0, 0), sigma) * np.float32(2.0 * sigma)
    return _coloured(0.5 + 0.5 * grain, rng)


def _scratched(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    level = np.full(shape, 0.1, dtype=np.float32)
    for _ in range(int(rng.integers(20, 60))):
        start, stop = (rng.random((2, 2)) * shape[::-1]).astype(int)
        cv2.line(
            level,
            (int(start[0]), int(start[1])),
            (int(stop[0]), int(stop[1])),
            float(rng.uniform(0.4, 1.0)),
            int(rng.integers(1, 3)),
            cv2.LINE_AA,
        )
    return _coloured(level, rng)


def _worley(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    free = np.full(shape, 255, dtype=np.uint8)
    seeds = int(rng.integers(20, 150))
    free[rng.integers(0, shape[0], seeds), rng.integers(0, shape[1], seeds)] = 0
    distance = cv2.distanceTransform(free, cv2.DIST_L2, 5)
    return _coloured(distance / np.float32(max(float(distance.max()), 1e-6)), rng)


def _brushed(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    grain = rng.standard_normal(shape, dtype=np.float32)
    length = int(rng.integers(15, 45))
    size = (length, 1) if rng.random() < 0.5 else (1, length)
    return _coloured(0.5 + cv2.blur(grain, size) * np.float32(0.35 * np.sqrt(length)), rng)


def _dots(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    u, v = _rotated_grid(shape, rng)
    pitch = np.float32(rng.uniform(8.0, 30.0))
    du, dv = u % pitch - pitch / 2, v % pitch - pitch / 2
    radius = pitch * np.float32(rng.uniform(0.2, 0.45))
    return _coloured(radius + 0.5 - np.hypot(du, dv), rng)


PROCEDURAL: dict[str, Draw] = {
    "stripes": _stripes,
    "checks": _checks,
    "cloud": _cloud,
    "speckle": _speckle,
    "scratches": _scratched,
    "worley": _worley,
    "brushed": _brushed,
    "dots": _dots,
}


@dataclass(slots=True)
class TextureSource:
    """A source of textures: pictures, or procedural textures without any.

    Attributes:
        files: pictures; empty for the built-in procedural textures.
        cache_size: largest number of decoded pictures in memory.
    """

    files: tuple[Path, ...] = ()
    cache_size: int = 256
    _cache: dict[tuple[Path, tuple[int, int]], ByteImage] = field(default_factory=dict, repr=False)

    @classmethod
    def from_folder(cls, folder: Path | str) -> TextureSource:
        """Use the pictures of a folder in the layout of DTD, one folder per class: ``*/*.jpg``.

        Pictures directly in the folder and PNG files are used too. Raises ``DataError`` if the
        folder is missing or holds no picture.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DataError(
                f"The texture folder {folder} does not exist; give a folder of pictures (*/*.jpg), "
                "or none for built-in textures."
            )
        suffixes = {".jpg", ".jpeg", ".png"}
        files = [
            p for p in (*folder.glob("*/*"), *folder.glob("*")) if p.suffix.lower() in suffixes
        ]
        if not files:
            raise DataError(
                f"The texture folder {folder} holds no picture; expected files such as "
                "<class>/<name>.jpg."
            )
        return cls(tuple(sorted(files)))

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
        """Draw one texture of ``shape`` (H, W): ``(H, W, 3)`` float32 RGB in [0, 1].

        Raises ``DataError`` naming a picture that cannot be decoded.
        """
        if not self.files:
            draw = list(PROCEDURAL.values())[rng.integers(len(PROCEDURAL))]
            return np.clip(draw(shape, rng), 0.0, 1.0)
        image = self._picture(self.files[rng.integers(len(self.files))], shape)
        return image.astype(np.float32) / np.float32(255.0)

    def draw_augmented(self, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
        """Draw one texture and apply three random augmenters; see ``augment``."""
        return augment(self.draw(shape, rng), rng)

    def _picture(self, path: Path, shape: tuple[int, int]) -> ByteImage:
        key = (path, shape)
        if key not in self._cache:
            decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if decoded is None:
                raise DataError(
                    f"The texture {path} cannot be decoded; replace or remove the file."
                )
            resized = cv2.resize(decoded, shape[::-1], interpolation=cv2.INTER_AREA)
            if len(self._cache) >= self.cache_size:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = np.ascontiguousarray(resized[..., ::-1])
        return self._cache[key]


def _gamma(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    levels = np.arange(256)[:, None] / 255.0
    table = np.round(255.0 * levels ** rng.uniform(0.5, 2.0, 3)).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), dtype=np.uint8)


def _brightness(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    factor, shift = rng.uniform(0.8, 1.2), rng.uniform(-30.0, 30.0)
    table = np.clip(np.round(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
    return table[image]


def _sharpness(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    amount = float(rng.uniform(0.0, 3.0))  # 0 is smoothed, 1 the original, more is sharpened
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    return np.asarray(cv2.addWeighted(image, amount, smooth, 1.0 - amount, 0.0), dtype=np.uint8)


def _hue_saturation(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    shift, gain = rng.uniform(-50.0, 50.0, 2)
    channel = np.arange(256)
    table = np.stack(
        [
            (channel + round(shift * 180.0 / 255.0)) % 180,
            np.clip(channel + gain, 0, 255),
            channel,
        ],
        axis=-1,
    ).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB), dtype=np.uint8)


def _solarize(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    threshold = rng.integers(32, 129)
    if rng.random() >= 0.5:
        return image
    return np.where(image >= threshold, 255 - image, image)


def _posterize(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    mask = (0xFF << (8 - int(rng.integers(1, 9)))) & 0xFF
    return image & np.uint8(mask)


def _invert(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    return 255 - image


def _autocontrast(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    low = image.min(axis=(0, 1)).astype(np.float32)
    span = np.maximum(image.max(axis=(0, 1)) - low, 1.0)
    table = np.clip((np.arange(256)[:, None] - low) * (255.0 / span), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), dtype=np.uint8)


def _equalize(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    return np.dstack([cv2.equalizeHist(np.ascontiguousarray(image[..., c])) for c in range(3)])


def _rotate(image: ByteImage, rng: np.random.Generator) -> ByteImage:
    height, width = image.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, float(rng.uniform(-45.0, 45.0)), 1.0)
    rotated = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(rotated, dtype=np.uint8)


AUGMENTERS: tuple[Callable[[ByteImage, np.random.Generator], ByteImage], ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue_saturation,
    _solarize,
    _posterize,
    _invert,
    _autocontrast,
    _equalize,
    _rotate,
)


def augment(texture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Apply three of ten augmenters, in random order, to ``(H, W, 3)`` RGB in [0, 1].

    Works on 256 levels like the paper's generator. Source: EasyNet's anomaly generator, step 3
    (gamma, brightness, sharpness, hue and saturation, solarize, posterize, invert, autocontrast,
    equalize, rotate). Departures: sharpening is an unsharp mask, rotation mirrors the border
    instead of leaving it black, and a drawn inversion is always applied.
    """
    image = np.round(np.clip(texture, 0.0, 1.0) * 255.0).astype(np.uint8)
    for choice in rng.choice(len(AUGMENTERS), 3, replace=False):
        image = AUGMENTERS[choice](image, rng)
    return image.astype(np.float32) / np.float32(255.0)
