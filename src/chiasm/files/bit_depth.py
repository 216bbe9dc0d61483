"""How many bits of 16 a camera used, which the brightest value of a data set tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import tifffile

from chiasm.errors import DataError
from chiasm.files.decoding import TIFF_MARKS, bytes_of, decode_picture
from chiasm.samples import FloatArray

FILES_READ = 200  # images, at most, evenly chosen
_USUAL_BITS = (8, 10, 12, 14)
_PNG, _PNG_DEPTH = b"\x89PNG", 24  # place of the bit depth in the header (IHDR)


@dataclass(frozen=True, slots=True)
class BitDepth:
    """Bits that images use of the 16 that they have.

    Attributes:
        bits: 8, 10, 12 or 14.
        brightest: value in the images that were read.
        images: that were read.
    """

    bits: int
    brightest: int
    images: int

    def in_words(self) -> str:
        """Return what was found, as a sentence without its end."""
        return (
            f"the brightest value of {self.images} images of 16 bits is {self.brightest} of 65535, "
            f"so that the camera has {self.bits} bits"
        )


def bit_depth(paths: Sequence[Path]) -> BitDepth | None:
    """Return the bits that images of 16 bits use; None if they use all, or have 8.

    Args:
        paths: of the images of one data set; of many, some are read. The first one tells whether
            they have 16 bits. Damaged files are left to the reader.
    """
    if not paths or not _has_16_bits(paths[0]):
        return None
    count = len(paths)
    chosen = (
        paths
        if count <= FILES_READ
        else [paths[i * count // FILES_READ] for i in range(FILES_READ)]
    )
    brightest = images = 0
    for path in chosen:
        try:
            pixels = decode_picture(bytes_of(path), str(path))
        except DataError:
            continue
        if pixels.dtype.itemsize != 2:
            continue
        # Not the alpha channel, which is full in any number of bits.
        colours = pixels if pixels.ndim == 2 else pixels[..., :3]
        brightest, images = max(brightest, int(colours.max())), images + 1
        if brightest >= 1 << _USUAL_BITS[-1]:
            return None
    bits = next((bits for bits in _USUAL_BITS if brightest < 1 << bits), None)
    return None if bits is None or not brightest else BitDepth(bits, brightest, images)


def few_bits(rgb: FloatArray, content: bytes) -> str:
    """Return a sentence where one image of 16 bits uses hardly any of them, else "".

    Whether that is the camera or a dark part, one image cannot tell.

    Args:
        rgb: ``(H, W, 3)`` in [0, 1], of all 16 bits.
        content: of its file.
    """
    brightest = round(65535 * float(rgb.max(initial=0)))
    if not _head_has_16_bits(content) or not 0 < brightest < 1 << _USUAL_BITS[-1]:
        return ""
    bits = next(bits for bits in _USUAL_BITS if brightest < 1 << bits)
    return (
        f"The brightest value of the image is {brightest} of 65535. If the camera has {bits} bits, "
        f"say so (--bits {bits}): the image is far darker otherwise."
    )


def _head_has_16_bits(content: bytes) -> bool:
    """Return whether the header of a PNG or TIFF says 16 bits."""
    try:
        if content[:4] in TIFF_MARKS:
            with tifffile.TiffFile(BytesIO(content)) as file:
                return bool(file.pages.first.bitspersample == 16)
    except Exception:  # a damaged file makes tifffile raise nearly anything; the reader tells it
        return False
    return content.startswith(_PNG) and len(content) > _PNG_DEPTH and content[_PNG_DEPTH] == 16


def _has_16_bits(path: Path) -> bool:
    """Return whether the header of a PNG or TIFF says 16 bits; other colour images have 8."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_PNG_DEPTH + 1)
        if head[:4] in TIFF_MARKS:
            with tifffile.TiffFile(path) as file:
                return bool(file.pages.first.bitspersample == 16)
    except Exception:  # a damaged file makes tifffile raise nearly anything; the reader tells it
        return False
    return head.startswith(_PNG) and head[-1] == 16 and len(head) > _PNG_DEPTH
