"""Pictures of a verdict: heat maps, the grounds below them, and a point cloud."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from chiasm.detection.report.overlay import HeatScale, heat
from chiasm.diagnosis.prediction.pictures import pattern_picture
from chiasm.errors import ConfigurationError
from chiasm.samples import Diagnosis, FloatArray, RecordingSample
from chiasm.service.decoding import Part
from chiasm.service.refusals import Refusal

MOST_POINTS = 65_536
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Arrays from which the pictures of a verdict are drawn.

    Attributes:
        scores: ``(H, W)`` float32.
        rgb: ``(H, W, 3)`` uint8, or None.
        z: ``(H, W)`` float32 metres, 0 where missing; or None.
        xyz: ``(H', W', 3)`` float32 metres, every ``step``-th pixel of the frame; or None.
        step: pixels of the frame between those of ``xyz``.
        scale: of the heat.
    """

    scores: FloatArray
    rgb: Bytes | None
    z: FloatArray | None
    xyz: FloatArray | None
    step: int
    scale: HeatScale


@dataclass(frozen=True, slots=True, eq=False)
class ViewSource:
    """Map and files of a verdict, from which its views are decoded on request.

    Files are smaller than their arrays, and most verdicts are never looked at.

    Attributes:
        scores: ``(H, W)`` float32.
        scale: of the heat.
        decode: returns the part's arrays.
        file_bytes: size of the files that ``decode`` holds.
    """

    scores: FloatArray
    scale: HeatScale
    decode: Callable[[], Part]
    file_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.scores.nbytes + self.file_bytes


@dataclass(frozen=True, slots=True, eq=False)
class PatternSource:
    """A recording with its diagnosis, from which its pattern is drawn on request.

    Attributes:
        sample: the recording.
        diagnosis: of it.
        model: that diagnosed it.
    """

    sample: RecordingSample
    diagnosis: Diagnosis
    model: Any

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        arrays = (self.sample.image, self.sample.series)
        return sum(array.nbytes for array in arrays if array is not None)


def pattern_of(source: PatternSource, theme: Literal["light", "dark"]) -> bytes:
    """Return the pattern of a recording as PNG; ``Refusal`` 501 if it cannot be drawn here."""
    try:
        return pattern_picture(source.model, source.sample, source.diagnosis, theme=theme)
    except ConfigurationError as cause:
        raise Refusal(501, "no_drawing", f"{cause}") from cause


def views_of(source: ViewSource) -> Views:
    """Decode the views of a part."""
    part = source.decode()
    rgb, xyz = part.rgb, part.xyz
    height, width = source.scores.shape
    step = math.ceil(math.sqrt(height * width / MOST_POINTS))
    while -(-height // step) * -(-width // step) > MOST_POINTS:
        step += 1
    return Views(
        scores=np.ascontiguousarray(source.scores, np.float32),
        rgb=None if rgb is None else np.asarray(cv2.convertScaleAbs(rgb, alpha=255.0), np.uint8),
        z=None if xyz is None else xyz[..., 2],
        xyz=None if xyz is None else xyz[::step, ::step],
        step=step,
        scale=source.scale,
    )


def point_cloud(views: Views) -> FloatArray:
    """Return at most ``MOST_POINTS`` measured points on an even grid of pixels.

    Returns ``(n, 8)`` float32: x, y, z in metres, score, red, green, blue in [0, 1] (grey without
    an RGB image), and heat in [0, 1] as in the pictures. Raises ``Refusal`` 404 for a part without
    points.
    """
    if views.xyz is None:
        raise Refusal(404, "no_such_view", "The part was sent without 3D points.")
    measured = (views.xyz != 0).any(axis=2)
    points = np.full((int(measured.sum()), 8), 0.6, np.float32)
    points[:, :3] = views.xyz[measured]
    points[:, 3] = views.scores[:: views.step, :: views.step][measured]
    points[:, 7] = views.scale.strength(points[:, 3])
    if views.rgb is not None:
        points[:, 4:7] = views.rgb[:: views.step, :: views.step][measured] / np.float32(255)
    return points


def heat_png(views: Views) -> bytes:
    """Return the heat map alone, transparent below the scale; same frame as the grounds."""
    colour, opacity = heat(views.scores, scale=views.scale)
    return _png(np.dstack([colour, np.rint(255 * opacity).astype(np.uint8)]))


def heat_over_png(views: Views, ground: str) -> bytes:
    """Return the heat map over ``"rgb"`` or ``"depth"``, as one opaque picture."""
    colour, opacity = heat(views.scores, scale=views.scale)
    pixels = _ground(views, ground)
    below = pixels if pixels.ndim == 3 else pixels[..., None]
    weight = opacity[..., None]
    return _png((below * (1 - weight) + colour * weight).astype(np.uint8))


def ground_png(views: Views, ground: str) -> bytes:
    """Return the part's ``"rgb"`` or ``"depth"``; ``Refusal`` 404 if it was not sent."""
    return _png(_ground(views, ground))


def map_npy(views: Views) -> bytes:
    """Return the scores as ``numpy.load`` reads them."""
    stream = BytesIO()
    np.save(stream, views.scores)
    return stream.getvalue()


class ViewCache:
    """Views of the newest verdicts, as many as fit into ``most_bytes``; threads may share it."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._sources: OrderedDict[str, ViewSource | PatternSource] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, verdict: str, source: ViewSource | PatternSource) -> None:
        """Add a verdict, and remove the oldest ones while there are too many bytes."""
        with self._lock:
            former = self._sources.pop(verdict, None)  # of the same request, sent again
            self._held -= 0 if former is None else former.nbytes
            self._sources[verdict] = source
            self._held += source.nbytes
            while self._held > self._most and self._sources:
                _, oldest = self._sources.popitem(last=False)
                self._held -= oldest.nbytes

    def get(self, verdict: str) -> Views:
        """Return the views of a part's verdict; ``Refusal`` 404 if they are not kept."""
        source = self._kept(verdict)
        if not isinstance(source, ViewSource):
            raise Refusal(404, "no_such_view", "This verdict is on a recording: see pattern.png.")
        return views_of(source)

    def pattern(self, verdict: str, theme: Literal["light", "dark"]) -> bytes:
        """Return the pattern of a recording as PNG; ``Refusal`` 404 if it is not kept."""
        source = self._kept(verdict)
        if not isinstance(source, PatternSource):
            raise Refusal(404, "no_such_view", "This verdict is on a part, which has no pattern.")
        return pattern_of(source, theme)

    def _kept(self, verdict: str) -> ViewSource | PatternSource:
        with self._lock:
            source = self._sources.get(verdict)
        if source is None:
            raise Refusal(
                404,
                "not_kept",
                "This verdict has no pictures, or they are not kept any more: only the newest "
                "are (option --cache-mb). Send the part again to see them.",
            )
        return source


def _ground(views: Views, ground: str) -> Bytes:
    """Return the ground as BGR or grey."""
    if ground == "rgb" and views.rgb is not None:
        return views.rgb[..., ::-1]
    if ground == "depth" and views.z is not None:
        return _depth_picture(views.z)
    raise Refusal(404, "no_such_view", f"The part was sent without {ground}.")


def _depth_picture(z: FloatArray) -> Bytes:
    """Return depth as grey: near is bright, missing is black."""
    valid = z != 0
    if not valid.any():
        return np.zeros(z.shape, np.uint8)
    near, far = np.quantile(z[valid], [0.01, 0.99])
    brightness = 40 + 215 * np.clip((far - z) / max(float(far - near), 1e-9), 0, 1)
    return np.where(valid, brightness, 0).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    # Compression 1 is three times faster than the default, and a tenth larger.
    _, content = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    return content.tobytes()
