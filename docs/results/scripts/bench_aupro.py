"""Time AUPRO on 110 maps of 256 x 256, and compare its figures with two other routes.

Three routes to the same figure:
  every_threshold  the definition written down with numpy: all pixels sorted with their order, the
                   overlap curve of each region kept apart and averaged over every distinct score
  one_sort         the same area from one sort with order and two cumulative sums over all pixels
  exact            chiasm.metrics.region_overlap.aupro
and, for scale, the cost of finding the regions, which all of them pay.

Run: OMP_NUM_THREADS=1 python docs/results/scripts/bench_aupro.py [--output docs/results/aupro.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chiasm.metrics.overlap_curve import DEFAULT_LIMITS, area_to_limit, region_weights
from chiasm.metrics.region_overlap import aupro


def make_maps(images: int, side: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make smooth noise with blobs at the defects: ``(images, side, side)`` maps and masks."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    maps = np.empty((images, side, side), np.float32)
    masks = np.zeros((images, side, side), bool)
    for index in range(images):
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), 4)
        scores = noise / noise.std() + 0.2 * rng.standard_normal((side, side))
        for _ in range(rng.integers(1, 4) if index >= images // 3 else 0):
            y, x = rng.uniform(-0.35, 0.35, 2)
            distance = (rows - y) ** 2 + ((columns - x) * rng.uniform(0.5, 2)) ** 2
            radius = rng.uniform(0.02, 0.08)
            masks[index] |= distance < radius**2
            scores += rng.uniform(1, 4) * np.exp(-distance / (2 * radius**2))
        maps[index] = np.log1p(np.exp(scores))
    return maps, masks


def every_threshold(maps: NDArray[Any], masks: NDArray[Any]) -> dict[float, float]:
    """Average each region's overlap curve over every distinct score, all pixels sorted once."""
    labels = np.zeros(maps.shape, np.int64)
    regions = 0
    for index, mask in enumerate(masks):
        numbered, count = ndimage.label(mask, structure=np.ones((3, 3)))
        labels[index] = np.where(numbered > 0, numbered + regions, 0)
        regions += count
    order = np.argsort(-maps.ravel(), kind="stable")
    ranked, owner = maps.ravel()[order], labels.ravel()[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    rate = np.append(0.0, np.cumsum(owner == 0)[last] / np.count_nonzero(owner == 0))
    overlap = np.zeros(last.size + 1)
    for region in range(1, regions + 1):
        hits = np.flatnonzero(owner == region)
        overlap[1:] += np.searchsorted(hits, last, side="right") / (hits.size * regions)
    return {limit: float(area_to_limit(rate, overlap, limit)) for limit in DEFAULT_LIMITS}


def one_sort(maps: NDArray[Any], masks: NDArray[Any]) -> dict[float, float]:
    """Weigh pixels by region, sort all with their order, and sum up over every distinct score."""
    weights = np.zeros(maps.shape)
    regions = 0
    for index, mask in enumerate(masks):
        weights[index][mask], count = region_weights(mask)
        regions += count
    order = np.argsort(-maps.ravel(), kind="stable")
    ranked = maps.ravel()[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    alarms = np.cumsum(~masks.ravel()[order])[last]
    rate = np.append(0.0, alarms / alarms[-1])
    overlap = np.append(0.0, np.cumsum(weights.ravel()[order])[last] / regions)
    return {limit: float(area_to_limit(rate, overlap, limit)) for limit in DEFAULT_LIMITS}


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most memory that numpy and Python held during a run, beyond the input."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=110)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    maps, masks = make_maps(arguments.images, arguments.side, arguments.seed)

    reference = every_threshold(maps, masks)
    exact = aupro(maps, masks)
    times = {
        "every_threshold": seconds(lambda: every_threshold(maps, masks), 1),
        "one_sort": seconds(lambda: one_sort(maps, masks), 2),
        "exact": seconds(lambda: aupro(maps, masks), 5),
        "regions_only": seconds(lambda: [region_weights(mask) for mask in masks], 5),
    }
    memory = {"exact": peak_bytes(lambda: aupro(maps, masks))}
    result = {
        "images": arguments.images,
        "side": arguments.side,
        "seed": arguments.seed,
        "machine": f"{platform.machine()}, one thread, numpy {np.__version__}",
        "aupro": {f"{x:g}": exact[x] for x in DEFAULT_LIMITS},
        "exact_minus_every_threshold": max(abs(exact[x] - reference[x]) for x in DEFAULT_LIMITS),
        "seconds": times,
        "exact_times_faster_than_every_threshold": times["every_threshold"] / times["exact"],
        "peak_bytes": memory,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
