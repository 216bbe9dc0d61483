"""The EXIF orientation of every format, against Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from chiasm.detection.sensors.orientation import orientation_of, turned, upright
from chiasm.errors import DataError
from chiasm.files.images import rgb_from_bytes

FORMATS = ("PNG", "WEBP", "TIFF", "JPEG")
COLOURS = np.zeros((16, 24, 3), np.uint8)
COLOURS[:8, :12, 0] = COLOURS[8:, :12, 1] = COLOURS[:8, 12:, 2] = 255


def encoded(form: str, orientation: int | None, pixels=COLOURS) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(form, {})
    Image.fromarray(pixels).save(stream, form, exif=exif, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_an_image_is_turned_as_pillow_turns_it(form, orientation):
    content = encoded(form, orientation)
    image = upright(rgb_from_bytes(content, "a"), content, partner=None, name="a")
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))) / 255
    np.testing.assert_allclose(image, shown, atol=0.06)  # JPEG


@pytest.mark.parametrize("form", FORMATS)
def test_beside_3d_points_the_size_tells_how_it_lies(form):
    content = encoded(form, 6)
    image = rgb_from_bytes(content, "a")
    stored = upright(image, content, partner=(16, 24), name="a")
    np.testing.assert_allclose(stored, COLOURS / 255, atol=0.06)
    assert upright(image, content, partner=(24, 16), name="a").shape == (24, 16, 3)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_beside_3d_points_what_nothing_tells_is_refused(orientation):
    content = encoded("PNG", orientation)
    with pytest.raises(DataError, match=r"a\.png is to be turned .*exiftool"):
        upright(rgb_from_bytes(content, "a"), content, partner=(16, 24), name="a.png")


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_note_turns_nothing(form):
    content = encoded(form, 6)
    for cut in range(0, len(content), 7):
        assert 1 <= orientation_of(content[:cut]) <= 8
    assert orientation_of(b"") == orientation_of(b"\xff\xd8") == orientation_of(b"II*\x00") == 1


def test_the_opposite_turn_brings_an_image_back():
    for orientation in range(1, 9):
        back = {6: 8, 8: 6}.get(orientation, orientation)
        np.testing.assert_array_equal(turned(turned(COLOURS, orientation), back), COLOURS)
