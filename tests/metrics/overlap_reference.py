"""AUPRO as its definition reads: a loop over every threshold, image and region."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def brute_force_aupro(
    maps: Sequence[NDArray],
    masks: Sequence[NDArray],
    limit: float,
    foregrounds: Sequence[NDArray] | None = None,
) -> float:
    regions, good = [], []
    for index, (scores, mask) in enumerate(zip(maps, masks)):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[labels == number] for number in range(1, count + 1)]
        negative = ~mask if foregrounds is None else ~mask & foregrounds[index]
        good.append(scores[negative])
    negatives = np.concatenate(good)
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        rate = np.mean(negatives >= threshold)
        points.append((rate, np.mean([np.mean(region >= threshold) for region in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + at_limit) / 2
    return area / limit


def smooth_maps(
    images: int, side: int, seed: int = 0, strength: float = 2.5
) -> tuple[NDArray, NDArray, NDArray]:
    """Make maps as detectors give them: smooth noise, and blobs where there are defects.

    Returns ``(images, side, side)`` float32 maps, bool masks (the first third are good) and bool
    foregrounds (a disc).
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    disc = rows**2 + columns**2 < 0.2
    maps = np.empty((images, side, side), np.float32)
    masks = np.zeros((images, side, side), bool)
    for index in range(images):
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 64)
        scores = noise / noise.std() + 0.2 * rng.standard_normal((side, side))
        for _ in range(rng.integers(1, 4) if index >= images // 3 else 0):
            y, x = rng.uniform(-0.25, 0.25, 2)
            distance = (rows - y) ** 2 + ((columns - x) * rng.uniform(0.5, 2)) ** 2
            radius = rng.uniform(0.03, 0.1) ** 2
            masks[index] |= distance < radius
            scores += strength * rng.uniform(0.5, 1.5) * np.exp(-distance / (2 * radius))
        maps[index] = np.log1p(np.exp(scores)) * disc
        masks[index] &= disc
    return maps, masks, np.broadcast_to(disc, masks.shape)
