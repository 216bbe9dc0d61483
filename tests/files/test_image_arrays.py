"""Images as callers have them: every form gives the same array, what is no image is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.errors import DataError
from chiasm.files.image_arrays import rgb_image
from chiasm.files.images import write_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
EXPECTED = PIXELS / np.float32(255)


def _tensor(array: np.ndarray) -> object:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(array))


def _picture(array: np.ndarray, mode: str | None = None) -> object:
    image = pytest.importorskip("PIL.Image").fromarray(array)
    return image if mode is None else image.convert(mode)


FORMS = {
    "uint8": lambda: PIXELS,
    "uint16": lambda: PIXELS.astype(np.uint16) * 257,
    "float32": lambda: EXPECTED,
    "float64": lambda: EXPECTED.astype(np.float64),
    "not contiguous": lambda: np.ascontiguousarray(PIXELS[::-1])[::-1],
    "channels first": lambda: PIXELS.transpose(2, 0, 1),
    "alpha": lambda: np.dstack([PIXELS, np.full((24, 32), 7, np.uint8)]),
    "tensor": lambda: _tensor(EXPECTED.transpose(2, 0, 1)),
    "tensor with batch axis": lambda: _tensor(EXPECTED.transpose(2, 0, 1)[None]),
    "PIL": lambda: _picture(PIXELS),
    "PIL with alpha": lambda: _picture(PIXELS, "RGBA"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_image(form: str):
    image = rgb_image(FORMS[form]())
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, EXPECTED, atol=1e-7)


def test_a_path_is_read(tmp_path: Path):
    write_rgb(tmp_path / "part.png", EXPECTED)
    np.testing.assert_allclose(rgb_image(str(tmp_path / "part.png")), EXPECTED, atol=1e-7)


def test_grey_is_repeated():
    grey = PIXELS[..., 0]
    for form in (grey, grey[..., None], _picture(grey)):
        np.testing.assert_allclose(rgb_image(form), np.repeat(EXPECTED[..., :1], 3, axis=2))


def test_a_palette_image_keeps_its_colours():
    colours = np.where(PIXELS > 127, 255, 0).astype(np.uint8)
    palette = _picture(colours).quantize(16)
    np.testing.assert_allclose(rgb_image(palette), np.asarray(palette.convert("RGB")) / 255.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (PIXELS.astype(np.float32), r"outside \[0, 1\]; divide 8-bit images by 255"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (PIXELS.astype(np.int64), "int64 values"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(height, width, 3\), but has \(8, 8, 2\)"),
        (np.zeros(8, np.uint8), r"but has \(8,\)"),
        (object(), "type object, which holds no numbers"),
        ({"a": 1}, "type dict"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(value: object, message: str):
    with pytest.raises(DataError, match=message):
        rgb_image(value)
