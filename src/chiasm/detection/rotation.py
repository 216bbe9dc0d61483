"""Few parts that may lie at any angle: each is also shown rotated where that improves detection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from chiasm.detection.anomalies.generators import validation_generator
from chiasm.detection.config import DetectionConfig
from chiasm.detection.layers.features import RELATIVE_DISTANCE, distances_from_normal
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.preparation.geometry import GeometryScale
from chiasm.detection.training.fit_memory import fit_memory
from chiasm.detection.training.segment import mask_at, to_device
from chiasm.detection.training.synthetic import SyntheticParts, fresh_loader
from chiasm.metrics.ranking import average_precision, nan_loses
from chiasm.runs.console import say
from chiasm.samples import BoolArray, FloatArray, PreparedSample
from chiasm.training.device import device_of
from chiasm.training.progress import Progress

ENOUGH_PARTS = 60  # rotated copies among them; more are not made
MOST_ROTATIONS = 12  # of one part
TRIAL_PARTS = 40  # with synthetic anomalies, at least, that the choice is based on


def choose_rotations(
    config: DetectionConfig,
    parts: Sequence[PreparedSample],
    *,
    owners: Sequence[int],
    scale: GeometryScale,
    frozen: AdnasDetector | None,
    most: int | None = None,
) -> int:
    """Choose at how many rotations each part is shown in training.

    Where the configuration leaves it open and there is a detector with frozen features to try it
    with, parts with synthetic anomalies are compared with the other parts, once without and once
    with rotated copies of these. Copies are made where the distances then detect the anomalies
    better. That is a property of the parts: the answer is the same for every method.

    Args:
        config: of the run.
        parts: prepared normals.
        owners: for each part the owner of the descriptors that a memory leaves out for it.
        scale: of the geometry picture.
        frozen: detector with frozen features, whose memories are fitted here; None leaves the
            choice to the user.
        most: that a budget has time for, where the configuration leaves it open; None sets none.
    """
    limit, most = most, max(1, min(MOST_ROTATIONS, ENOUGH_PARTS // len(parts)))
    if most == 1 or config.rotate is False:
        return 1
    if config.rotate:
        return most
    if limit is not None and limit < most:
        most = limit
        if most == 1:
            say("There is no time to try rotated copies of the few parts (rotate=true shows them).")
            return 1
    if frozen is None:
        say("Few parts: if they may lie at any angle, rotate=true shows each of them rotated.")
        return 1
    upright, rotated_too = (
        _trial_ap(frozen, parts, count, seed=config.seed, owners=owners, scale=scale)
        for count in (1, most)
    )
    better = nan_loses(rotated_too) > nan_loses(upright)
    say(
        f"Few parts. Pixel AP on synthetic anomalies: {upright:.3f} without rotated copies, "
        f"{rotated_too:.3f} with them. "
        + (f"Each part is shown at {most} rotations." if better else "No part is rotated.")
        + f" (rotate={'false' if better else 'true'} overrides this.)"
    )
    return most if better else 1


def with_rotations(
    parts: Sequence[PreparedSample], rotations: int
) -> tuple[Sequence[PreparedSample], list[int]]:
    """Return parts with rotated copies after them, and for each the index of its original.

    At one rotation the sequence itself is returned: many parts stay on disk. Rotated copies, of
    few parts alone, are in memory.
    """
    if rotations == 1:
        return parts, list(range(len(parts)))
    copies = [
        rotated(part, 360 * number / rotations) for number in range(1, rotations) for part in parts
    ]
    return [*parts, *copies], list(range(len(parts))) * rotations


@torch.no_grad()
def _trial_ap(
    detector: AdnasDetector,
    parts: Sequence[PreparedSample],
    rotations: int,
    *,
    seed: int,
    owners: Sequence[int],
    scale: GeometryScale,
) -> float:
    """Compute the pixel AP of the distance from the other parts, on synthetic anomalies.

    It is the mean over parts: pooled over pixels, the few largest anomalies would dominate, and
    they change with the seed. NaN where no anomaly covers a pixel.
    """
    source = detector.frozen_source
    assert source is not None
    shown, originals = with_rotations(parts, rotations)
    fit_memory(
        source,
        shown,
        scale=scale,
        seed=seed,
        owners=[owners[original] for original in originals],
    )
    # Another seed than that of the anomalies which choose the score rule later.
    dataset = SyntheticParts(
        parts,
        numbers=range(len(parts)),
        generator=validation_generator(probability=1.0),
        seed=seed * 10 + 3,
        owners=owners,
    )
    precisions: list[float] = []
    epochs = math.ceil(TRIAL_PARTS / len(parts))
    progress = Progress(f"Trying {rotations} rotations", epochs * len(parts))
    for epoch in range(epochs):
        dataset.epoch = epoch
        for batch in fresh_loader(
            dataset, batch=8, scale=scale, modalities=source.modalities, shuffle=False
        ):
            batch = to_device(batch, device_of(source))
            features = source(batch, frozenset())  # no map is read
            distances = distances_from_normal(features)[RELATIVE_DISTANCE]
            size = distances.shape[-2:]
            objects = torch.nn.functional.adaptive_max_pool2d(batch.foreground, size) > 0
            anomalies = mask_at(batch, size) > 0
            precisions += [
                average_precision(distance[inside].cpu().numpy(), anomalous[inside].cpu().numpy())
                for distance, inside, anomalous in zip(distances, objects, anomalies, strict=True)
                if anomalous[inside].any()
            ]
            progress.update(len(distances))
    progress.close()
    return sum(precisions) / len(precisions) if precisions else math.nan


def rotated(part: PreparedSample, degrees: float) -> PreparedSample:
    """Rotate a part around the camera's axis, about the middle of its crop.

    Colours are interpolated. Points, heights and normals are those of the nearest pixel, so that
    none is invented, and rotate with the picture. Light and shadow rotate too, which they would
    not in a real frame.

    Args:
        part: prepared.
        degrees: clockwise, as the picture is seen.
    """
    size = part.foreground.shape[0]
    middle = (size - 1) / 2
    # OpenCV counts rotations counter-clockwise.
    matrix = cv2.getRotationMatrix2D((middle, middle), -degrees, 1.0)

    def warp(image: np.ndarray, interpolation: int = cv2.INTER_NEAREST) -> np.ndarray:
        warped: np.ndarray = cv2.warpAffine(image, matrix, (size, size), flags=interpolation)
        return warped

    def warp_mask(mask: BoolArray) -> BoolArray:
        return warp(mask.view(np.uint8)).view(np.bool_)

    angle = np.deg2rad(degrees)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))

    def rotate_vectors(vectors: FloatArray) -> FloatArray:
        # Image and camera share their axes: x to the right, y down.
        out = vectors.copy()
        out[..., 0] = cosine * vectors[..., 0] - sine * vectors[..., 1]
        out[..., 1] = sine * vectors[..., 0] + cosine * vectors[..., 1]
        return out

    plane = part.plane
    if plane is not None:
        a, b, c, d = plane
        plane = (cosine * a - sine * b, sine * a + cosine * b, c, d)
    foreground = warp_mask(part.foreground)
    return replace(
        part,
        rgb=None if part.rgb is None else warp(part.rgb, cv2.INTER_LINEAR) * foreground[..., None],
        xyz=None if part.xyz is None else rotate_vectors(warp(part.xyz)),
        height=None if part.height is None else warp(part.height),
        normals=None if part.normals is None else rotate_vectors(warp(part.normals)),
        depth=None if part.depth is None else warp(part.depth),
        valid=warp_mask(part.valid),
        foreground=foreground,
        mask=None if part.mask is None else warp_mask(part.mask),
        plane=plane,
    )
