"""The size that is checked is the size that is decoded, and larger files are not decoded."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from stub_service import plane

from chiasm.errors import DataError
from chiasm.service.declared_size import Limits, check_image, check_tiff
from chiasm.service.decoding import decode_part
from chiasm.service.multipart import Upload

LIMITS = Limits(pixels=10_000, values=30_000)
FLAT: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}


def jpeg(side: int) -> bytes:
    """A JPEG of 16 x 16 that declares another side."""
    content = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def tiff(array: np.ndarray, **how: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, array, **{**FLAT, **how})
    return stream.getvalue()


@pytest.mark.parametrize("marker", [0x00, 0x02, 0xBF, 0xD9, 0xDA])
def test_a_jpeg_is_not_measured_behind_what_decoders_stop_at(marker: int) -> None:
    large = jpeg(6000)[2:]
    hidden = bytes([0xFF, marker]) + struct.pack(">H", len(large) + 2) + large
    with pytest.raises(DataError, match="no size is found"):
        check_image(b"\xff\xd8" + hidden + jpeg(16)[2:], "a.jpg", LIMITS)


def test_filling_and_segments_of_a_jpeg_are_passed_over() -> None:
    plain = jpeg(16)
    noted = b"\xff\xd8" + b"\xff\xff\xfe\x00\x06note" + plain[2:]
    assert cv2.imdecode(np.frombuffer(noted, np.uint8), cv2.IMREAD_UNCHANGED).shape == (16, 16)
    assert check_image(noted, "a.jpg", LIMITS) == "jpeg"


@pytest.mark.parametrize("first", [True, False])
def test_every_page_of_a_tiff_is_measured(first: bool) -> None:
    # The OME description names only the small page; OpenCV decodes the first one.
    ome = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="32" '
        'SizeY="32" SizeC="3" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
        f'<TiffData IFD="{int(first)}" PlaneCount="1"/></Pixels></Image></OME>'
    )
    small, large = np.zeros((32, 32, 3), np.uint8), np.zeros((300, 300, 3), np.uint8)
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in (large, small) if first else (small, large):
            writer.write(page, photometric="rgb", description=ome, metadata=None)
            ome = ""
    with pytest.raises(DataError, match="300 x 300"):
        check_image(stream.getvalue(), "a.tiff", LIMITS)


def check_numbers(content: bytes) -> None:
    with tifffile.TiffFile(BytesIO(content)) as file:
        check_tiff(file, where="a.tiff", limits=LIMITS, length=len(content), plain=True)


@pytest.mark.parametrize("codec", ["png", "jpeg2000", "jpegxl", "webp", "jpeg"])
def test_pictures_within_a_tiff_of_numbers_are_refused(codec: str) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    content = tiff(pixels, compression=codec, photometric="rgb")
    with pytest.raises(DataError, match="pictures inside"):
        check_numbers(content)


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.uint16])
def test_packed_numbers_are_taken(codec: str | None, kind: type) -> None:
    content = tiff(plane().astype(kind), compression=codec)
    check_numbers(content)


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(kind: type) -> None:
    with pytest.raises(DataError, match="whole numbers or floats"):
        check_image(tiff(plane().astype(kind)), "a.tiff", LIMITS)


def test_samples_of_a_page_count_too() -> None:
    many = tiff(np.zeros((50, 50, 100), np.uint8), planarconfig="contig")
    with pytest.raises(DataError, match="declares"):
        check_image(many, "a.tiff", LIMITS)


def test_markers_of_missing_points_are_noted_and_nan_is_missing() -> None:
    limits = Limits(pixels=10_000, values=30_000)
    depth = np.full((20, 20), 600, np.uint16)
    depth[0] = 65535
    fields = {"fx": "30", "fy": "30", "cx": "9.5", "cy": "9.5"}
    upload = Upload("depth", "d.png", cv2.imencode(".png", depth)[1].tobytes())
    part = decode_part({"depth": upload}, fields, limits)
    assert part.xyz is not None and not part.xyz[0].any() and part.xyz[1:].any(axis=2).all()
    assert "65535" in " ".join(part.notes)
    points = plane()
    points[3, 4] = np.nan
    stream = BytesIO()
    np.save(stream, points)
    part = decode_part({"xyz": Upload("xyz", "p.npy", stream.getvalue())}, {}, limits)
    assert part.xyz is not None and not part.xyz[3, 4].any() and not part.notes
    with pytest.raises(DataError, match=r"principal point .* outside d\.png|principal point"):
        decode_part({"depth": upload}, fields | {"cx": "320"}, limits)
