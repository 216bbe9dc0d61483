"""What a verdict looks like: heat maps, grounds to lay them on, and a cloud of points."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.report.overlay import HeatScale, heat
from chiasm.samples import FloatArray
from chiasm.service.decoding import Part
from chiasm.service.refusals import Refusal

MOST_POINTS = 65_536
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What there is to look at.

    Attributes:
        scores: ``(H, W)`` float32.
        rgb: ``(H, W, 3)`` uint8, or None.
        z: ``(H, W)`` float32 metres, 0 where missing; or None.
        xyz: ``(H', W', 3)`` float32 metres, every ``step``-th pixel of the frame; or None.
        step: between the pixels of ``xyz``.
        scale: of the heat.
    """

    scores: FloatArray
    rgb: Bytes | None
    z: FloatArray | None
    xyz: FloatArray | None
    step: int
    scale: HeatScale


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is kept of a verdict; its part is decoded again when somebody looks.

    Files are smaller than what is in them, and most verdicts are never looked at.

    Attributes:
        scores: ``(H, W)`` float32.
        scale: of the heat.
        decode: the part.
        file_bytes: that are held for decoding it.
    """

    scores: FloatArray
    scale: HeatScale
    decode: Callable[[], Part]
    file_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes that are held in all."""
        return self.scores.nbytes + self.file_bytes


def views_of(kept: Kept) -> Views:
    """Decode what there is to see of a part."""
    part = kept.decode()
    rgb, xyz = part.rgb, part.xyz
    height, width = kept.scores.shape
    step = math.ceil(math.sqrt(height * width / MOST_POINTS))
    while -(-height // step) * -(-width // step) > MOST_POINTS:
        step += 1
    return Views(
        scores=np.ascontiguousarray(kept.scores, np.float32),
        rgb=None if rgb is None else np.asarray(cv2.convertScaleAbs(rgb, alpha=255.0), np.uint8),
        z=None if xyz is None else xyz[..., 2],
        xyz=None if xyz is None else xyz[::step, ::step],
        step=step,
        scale=kept.scale,
    )


def point_cloud(views: Views) -> FloatArray:
    """At most ``MOST_POINTS`` measured points on an even grid of pixels.

    Returns ``(n, 8)`` float32: x, y, z in metres, score, red, green, blue in [0, 1], grey where
    there is no colour, and heat in [0, 1] as in the pictures. Raises ``Refusal`` 404 where the
    part had no points.
    """
    if views.xyz is None:
        raise Refusal(404, "no_such_view", "The part was sent without 3D points.")
    measured = (views.xyz != 0).any(axis=2)
    out = np.full((int(measured.sum()), 8), 0.6, np.float32)
    out[:, :3] = views.xyz[measured]
    out[:, 3] = views.scores[:: views.step, :: views.step][measured]
    out[:, 7] = views.scale.strength(out[:, 3])
    if views.rgb is not None:
        out[:, 4:7] = views.rgb[:: views.step, :: views.step][measured] / np.float32(255)
    return out


def heat_png(views: Views) -> bytes:
    """The heat map alone, transparent where nothing is suspicious; same frame as the grounds."""
    colour, share = heat(views.scores, scale=views.scale)
    opacity = np.rint(255 * share).astype(np.uint8)
    return _png(np.dstack([colour, opacity]))


def heat_over_png(views: Views, ground: str) -> bytes:
    """The heat map over ``"rgb"`` or ``"depth"``, in one opaque picture."""
    colour, share = heat(views.scores, scale=views.scale)
    pixels = _ground(views, ground)
    below = pixels if pixels.ndim == 3 else pixels[..., None]
    opaque = share[..., None]
    return _png((below * (1 - opaque) + colour * opaque).astype(np.uint8))


def ground_png(views: Views, ground: str) -> bytes:
    """The part itself: its ``"rgb"`` or ``"depth"``; ``Refusal`` 404 where it had none."""
    return _png(_ground(views, ground))


def map_npy(views: Views) -> bytes:
    """The scores as ``numpy.load`` reads them."""
    stream = BytesIO()
    np.save(stream, views.scores)
    return stream.getvalue()


class KeptViews:
    """The newest verdicts' views, as many as fit into ``most_bytes``."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._all: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, verdict: str, kept: Kept) -> None:
        """Keep what a verdict's views need, and let the oldest go where there is no room."""
        with self._lock:
            self._all[verdict] = kept
            self._held += kept.nbytes
            while self._held > self._most and self._all:
                _, oldest = self._all.popitem(last=False)
                self._held -= oldest.nbytes

    def get(self, verdict: str) -> Views:
        """The views of a verdict; ``Refusal`` 404 where they are no longer kept."""
        with self._lock:
            kept = self._all.get(verdict)
        if kept is None:
            raise Refusal(
                404,
                "not_kept",
                "The pictures of this verdict are not kept any more, or there never were any; "
                "only the newest are (option --cache-mb). Send the part again to see them.",
            )
        return views_of(kept)


def _ground(views: Views, ground: str) -> Bytes:
    """BGR or grey."""
    if ground == "rgb" and views.rgb is not None:
        return views.rgb[..., ::-1]
    if ground == "depth" and views.z is not None:
        return _depth_picture(views.z)
    raise Refusal(404, "no_such_view", f"The part was sent without {ground}.")


def _depth_picture(z: FloatArray) -> Bytes:
    """Near is bright, missing is black."""
    valid = z != 0
    if not valid.any():
        return np.zeros(z.shape, np.uint8)
    near, far = np.quantile(z[valid], [0.01, 0.99])
    bright = 40 + 215 * np.clip((far - z) / max(float(far - near), 1e-9), 0, 1)
    return np.where(valid, bright, 0).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    # Compression 1: three times faster than the default, and a tenth larger.
    _, content = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    return content.tobytes()
