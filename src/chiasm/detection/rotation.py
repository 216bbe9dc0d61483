"""Few parts that may lie at any angle: each is shown rotated, where more is found so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from chiasm.detection.anomalies.generators import validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.features import NormalityFeatures
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.fit_memory import fit_memory
from chiasm.detection.training.segment import mask_at, mean_relative
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.metrics.ranking import average_precision
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.samples import BoolArray, FloatArray, PreparedSample

# Normals, rotated copies among them, that are enough; and rotations of one part at most.
_ENOUGH, _MOST_ANGLES = 60, 12

_LOOKS = 40  # at parts with synthetic anomalies, at least, before it is decided


def rotations_of(
    config: DetectionConfig,
    parts: Sequence[PreparedSample],
    *,
    owners: Sequence[int],
    scale: GeometryScale,
) -> int:
    """At how many rotations each part is to be shown.

    What the configuration leaves open is found out for light models: each part, with synthetic
    anomalies, is compared with the other parts as they lie and with rotated copies of them, and
    turning is taken where the distances then tell anomalies better.

    Args:
        config: of the run.
        parts: prepared normals.
        owners: what a memory leaves out for each.
        scale: of the geometry picture.
    """
    most = max(1, min(_MOST_ANGLES, _ENOUGH // len(parts)))
    if most == 1 or config.rotate is False:
        return 1
    if config.rotate:
        return most
    if config.model != "adnas_light":
        say("Few parts: if they may lie at any angle, rotate=true shows each of them rotated.")
        return 1
    as_they_lie = _told_apart(config, parts, 1, owners=owners, scale=scale)
    at_all_angles = _told_apart(config, parts, most, owners=owners, scale=scale)
    better = at_all_angles > as_they_lie
    say(
        f"Few parts. Synthetic anomalies on one, beside the others as they lie: pixel AP "
        f"{as_they_lie:.3f}; beside rotated copies, too: {at_all_angles:.3f}. "
        + (f"Each is shown at {most} rotations." if better else "They are shown as they lie.")
        + f" (rotate={'false' if better else 'true'} decides otherwise.)"
    )
    return most if better else 1


def at_rotations(
    parts: Sequence[PreparedSample], rotations: int
) -> tuple[list[PreparedSample], list[int]]:
    """Parts with rotated copies after them, and for each the number of the part that it shows."""
    copies = [
        rotated(part, 360 * number / rotations) for number in range(1, rotations) for part in parts
    ]
    return [*parts, *copies], list(range(len(parts))) * rotations


def frozen_detector(config: DetectionConfig) -> AdnasDetector:
    """A light detector whose memory of normals is still empty."""
    detector: AdnasDetector = find_model(config.model).builder(
        "concatenation",
        modalities=config.modalities,
        image_size=config.image_size,
        memory_entries=config.memory_entries,
    )
    return detector.eval()


@torch.no_grad()
def _told_apart(
    config: DetectionConfig,
    parts: Sequence[PreparedSample],
    rotations: int,
    *,
    owners: Sequence[int],
    scale: GeometryScale,
) -> float:
    """Pixel AP of the distance from the other parts, on parts with synthetic anomalies.

    The mean over parts: pooled, the few largest anomalies would decide, and change with the seed.
    NaN where no anomaly is larger than nothing.
    """
    detector = frozen_detector(config)
    source = detector.source
    assert isinstance(source, NormalityFeatures)
    shown, sources = at_rotations(parts, rotations)
    fit_memory(
        source,
        shown,
        scale=scale,
        seed=config.seed,
        owners=[owners[own] for own in sources],
    )
    # Not those that choose the score rule later.
    dataset = SyntheticParts(
        parts,
        numbers=range(len(parts)),
        generator=validation_generator(probability=1.0),
        seed=config.seed * 10 + 3,
        owners=owners,
    )
    found: list[float] = []
    for epoch in range(math.ceil(_LOOKS / len(parts))):
        dataset.epoch = epoch
        for batch in fresh_loader(
            dataset, batch=8, scale=scale, modalities=config.modalities, shuffle=False
        ):
            distance = mean_relative(detector(batch))
            size = distance.shape[-2:]
            inside = torch.nn.functional.adaptive_max_pool2d(batch.foreground, size) > 0
            odd = mask_at(batch, size) > 0
            found += [
                average_precision(one[here].numpy(), there[here].numpy())
                for one, here, there in zip(distance, inside, odd, strict=True)
                if there[here].any()
            ]
    return sum(found) / len(found) if found else math.nan


def rotated(part: PreparedSample, degrees: float) -> PreparedSample:
    """Turn a part about the middle of its crop, around the camera's axis.

    Colours are interpolated; points, heights and normals are taken from the nearest pixel, so that
    none is invented, and turn with the picture. Light and shadow turn, too, as they would not.

    Args:
        part: prepared.
        degrees: clockwise, as the picture is seen.
    """
    size = part.foreground.shape[0]
    middle = (size - 1) / 2
    # OpenCV counts rotations counter-clockwise.
    where = cv2.getRotationMatrix2D((middle, middle), -degrees, 1.0)

    def moved(image: np.ndarray, how: int = cv2.INTER_NEAREST) -> np.ndarray:
        found: np.ndarray = cv2.warpAffine(image, where, (size, size), flags=how)
        return found

    def moved_mask(mask: BoolArray) -> BoolArray:
        return moved(mask.view(np.uint8)).view(np.bool_)

    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))

    def about_the_axis(vectors: FloatArray) -> FloatArray:
        # Image and camera agree: x to the right, y down.
        out = vectors.copy()
        out[..., 0] = cosine * vectors[..., 0] - sine * vectors[..., 1]
        out[..., 1] = sine * vectors[..., 0] + cosine * vectors[..., 1]
        return out

    plane = part.plane
    if plane is not None:
        a, b, c, d = plane
        plane = (cosine * a - sine * b, sine * a + cosine * b, c, d)
    foreground = moved_mask(part.foreground)
    return replace(
        part,
        rgb=None if part.rgb is None else moved(part.rgb, cv2.INTER_LINEAR) * foreground[..., None],
        xyz=None if part.xyz is None else about_the_axis(moved(part.xyz)),
        height=None if part.height is None else moved(part.height),
        normals=None if part.normals is None else about_the_axis(moved(part.normals)),
        depth=None if part.depth is None else moved(part.depth),
        valid=moved_mask(part.valid),
        foreground=foreground,
        mask=None if part.mask is None else moved_mask(part.mask),
        plane=plane,
    )
