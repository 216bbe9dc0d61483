"""Normal parts of colour alone, and a generator whose anomalies are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.samples import CropBox, PreparedSample

SIZE = 32


class Square:
    """Inverts the colour of a random 6 x 6 square on the object, in two of three draws."""

    name, family = "square", "test"

    def supports(self, sample: PreparedSample) -> bool:
        return True

    def __call__(self, sample: PreparedSample, rng: np.random.Generator) -> PreparedSample:
        if rng.random() < 1 / 3:
            return sample
        row, column = rng.integers(8, SIZE - 14, size=2)
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[row : row + 6, column : column + 6] = True
        rgb = np.where(mask[..., None], 1 - sample.rgb, sample.rgb).astype(np.float32)
        return replace(sample, rgb=rgb, mask=mask, label=1, kind=self.name)


@pytest.fixture
def square() -> Square:
    return Square()


@pytest.fixture(scope="session")
def parts() -> list[PreparedSample]:
    rng = np.random.default_rng(0)
    foreground = np.zeros((SIZE, SIZE), dtype=bool)
    foreground[8:-8, 6:-6] = True
    return [
        PreparedSample(
            rgb=(rng.uniform(0, 0.4, (SIZE, SIZE, 3)) * foreground[..., None]).astype(np.float32),
            xyz=None,
            height=None,
            normals=None,
            depth=None,
            valid=np.zeros_like(foreground),
            foreground=foreground,
            mask=None,
            box=CropBox(0, 0, SIZE, SIZE, SIZE),
            label=0,
            source=f"part {number}",
        )
        for number in range(5)
    ]


@pytest.fixture(scope="session")
def scale() -> GeometryScale:
    return GeometryScale(height=0.05)
