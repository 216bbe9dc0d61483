"""Ratios of times, each pair measured alternately in one process.

Run on a quiet machine:
  python docs/results/scripts/bench_speed.py --data shared/data/mvtec_3d/cable_gland \
      --output docs/results/speed.json

preparation  support plane and largest cluster of a 400 x 400 cloud: ours against scikit-learn's
             RANSACRegressor and DBSCAN with EasyNet's parameters; the overlap of the two objects
pruned       one part through the network of a genotype, without and with what cannot be reached
search       an epoch of the search against an epoch of plain training, same stored features
precision    a training step of adnas_slim in bfloat16 and channels-last against float32
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.cluster import DBSCAN
from sklearn.linear_model import RANSACRegressor

import chiasm
from chiasm.api import registered
from chiasm.detection.layers.segmentation import segmentation_loss
from chiasm.detection.preparation.prepare import PreparationSettings, object_mask
from chiasm.detection.preparation.support_plane import fit_support_plane
from chiasm.detection.readers.opening import open_source
from chiasm.fusion.genotype import random_genotype
from chiasm.samples import RGBDBatch, RGBDSample


def alternate(*calls: Callable[[], Any], rounds: int) -> list[float]:
    """Median seconds of each call, the calls taking turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call()
            seconds[number].append(time.perf_counter() - start)
    return [float(np.median(s)) for s in seconds]


def straightforward(sample: RGBDSample) -> np.ndarray:
    """The object by scikit-learn: plane through the border's points, density clusters of the rest.

    Parameters of EasyNet: strips of 10 px of 256, inliers within 4 mm, 5 mm off the plane,
    clusters of 30 points within 6 mm, the largest is the object.
    """
    assert sample.xyz is not None
    width = round(sample.valid.shape[0] * 10 / 256)
    strip = np.ones_like(sample.valid)
    strip[width:-width, width:-width] = False
    border = sample.xyz[strip & sample.valid].astype(np.float64)
    plane = RANSACRegressor(
        min_samples=3, residual_threshold=0.004, max_trials=1000, stop_probability=1, random_state=0
    ).fit(border[:, :2], border[:, 2])
    slope, offset = plane.estimator_.coef_, plane.estimator_.intercept_
    xyz = sample.xyz.astype(np.float64)
    away = np.abs(xyz[..., 2] - xyz[..., :2] @ slope - offset) / np.sqrt(1 + slope @ slope)
    rest = (away > 0.005) & sample.valid
    labels = DBSCAN(eps=0.006, min_samples=30).fit_predict(xyz[rest])
    cluster = np.zeros_like(sample.valid)
    if (labels >= 0).any():
        largest = np.bincount(labels[labels >= 0]).argmax()
        cluster[rest] = labels == largest
    return cluster


def ours(sample: RGBDSample) -> np.ndarray:
    """The object as the detectors see it, with the same distance from the plane."""
    assert sample.xyz is not None
    settings = PreparationSettings(plane_margin=0.005)
    plane = fit_support_plane(sample.xyz, sample.valid, distance=0.004)
    return object_mask(sample, plane, settings)


def preparation(data: Path) -> dict[str, Any]:
    """Eight parts of the real data, as 400 x 400 clouds."""
    source = open_source(data)
    rows = []
    for ref in source.refs[:: max(1, len(source.refs) // 8)][:8]:
        whole = source.load(ref)
        assert whole.xyz is not None
        xyz = cv2.resize(whole.xyz, (400, 400), interpolation=cv2.INTER_NEAREST_EXACT)
        sample = RGBDSample(None, xyz, np.any(xyz != 0, axis=2), source=whole.source)
        a, b = ours(sample) & sample.valid, straightforward(sample)
        seconds = alternate(lambda s=sample: straightforward(s), lambda s=sample: ours(s), rounds=3)
        rows.append((*seconds, (a & b).sum() / (a | b).sum()))
    reference, seconds_ours, overlap = np.array(rows).T
    return {
        "scikit_learn_s": round(float(np.median(reference)), 4),
        "ours_s": round(float(np.median(seconds_ours)), 4),
        "times_faster": round(float(np.median(reference / seconds_ours)), 1),
        "intersection_over_union": {
            "median": round(float(np.median(overlap)), 4),
            "least": round(float(overlap.min()), 4),
        },
    }


def _batch(count: int, size: int = 256) -> RGBDBatch:
    picture = torch.rand(count, 3, size, size)
    mask = torch.zeros(count, 1, size, size)
    mask[:, :, 60:90, 60:90] = 1
    return RGBDBatch(picture, picture.flip(1), torch.ones(count, 1, size, size), mask)


def pruned(genotypes: int = 5) -> dict[str, Any]:
    """adnas_slim, random genotypes."""
    model = registered("adnas_slim")
    assert model.pools is not None
    batch = _batch(1)
    ratios, changes = [], []
    for seed in range(genotypes):
        genotype = random_genotype(model.pools(("rgb", "geometry")), seed=seed)
        pair = []
        for _ in range(2):
            torch.manual_seed(0)
            pair.append(model.builder(genotype).eval())
        pair[1].prune()
        with torch.no_grad():
            changes.append(float((pair[0](batch).logits - pair[1](batch).logits).abs().max()))
            before, after = alternate(*(lambda d=d: d(batch) for d in pair), rounds=15)
        ratios.append(before / after)
    return {
        "times_faster": [round(r, 2) for r in ratios],
        "median": round(float(np.median(ratios)), 2),
        "largest_change_of_a_logit": max(changes),
    }


def precision() -> dict[str, Any]:
    """Forward, backward and step of adnas_slim on eight parts."""
    batch = _batch(8)
    channels_last = RGBDBatch(
        batch.rgb.contiguous(memory_format=torch.channels_last),
        batch.geometry.contiguous(memory_format=torch.channels_last),
        batch.foreground,
        batch.mask,
    )

    def step(half: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        detector = registered("adnas_slim").builder("concatenation")
        if half:
            detector = detector.to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(detector.parameters())
        inputs = channels_last if half else batch

        def run() -> None:
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = detector(inputs).logits
            mask = torch.nn.functional.adaptive_max_pool2d(batch.mask, logits.shape[-2:])
            segmentation_loss(logits.float(), mask, dice=True).backward()
            optimiser.step()

        return run

    full, half = alternate(step(False), step(True), rounds=5)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "float32_s": round(full, 3),
        "bfloat16_channels_last_s": round(half, 3),
        "times_faster": round(full / half, 2),
        "processor_has_bfloat16": "avx512_bf16" in flags or "amx_bf16" in flags,
    }


def search(data: Path, folder: Path) -> dict[str, Any]:
    """One epoch of each on the same stored features, three times."""
    from chiasm.detection.config import DetectionConfig
    from chiasm.detection.opening import open_data
    from chiasm.detection.training.search import FusionSearch
    from chiasm.detection.training.segment import SegmentationTraining
    from chiasm.training.trainer import Budget, fit

    data_module = open_data(
        DetectionConfig(
            data=data, out=folder, rounds=1, memory_entries=20_000, shots=60, calibration_share=0.2
        )
    )
    genotype = random_genotype(data_module.pools, seed=0)
    rows = []
    for number in range(3):
        times = []
        for kind in ("search", "train"):
            budget = Budget(None)
            if kind == "search":
                module: Any = FusionSearch(
                    data_module.detector("supernet"),
                    architecture_batches=data_module.loader("architecture"),
                    budget=budget,
                    epochs=2,
                )
            else:
                module = SegmentationTraining(
                    data_module.detector(genotype), budget=budget, epochs=2
                )
            start = time.perf_counter()
            fit(
                module,
                data_module.loader("train"),
                data_module.loader("validate"),
                folder=folder / str(number),
                name=kind,
                epochs=2,
                budget=budget,
                quiet=True,
            )
            times.append((time.perf_counter() - start) / 2)
        rows.append(times)
    searched, trained = np.median(np.array(rows), axis=0)
    return {
        "search_epoch_s": round(float(searched), 2),
        "training_epoch_s": round(float(trained), 2),
        "ratio": round(float(searched / trained), 2),
    }


def main() -> None:
    """Measure everything and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, call in {
        "preparation": lambda: preparation(arguments.data),
        "pruned": pruned,
        "precision": precision,
        "search": lambda: search(arguments.data, arguments.folder),
    }.items():
        figures[name] = call()
        print(name, json.dumps(figures[name]), flush=True)
    figures["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "chiasm": chiasm.__version__,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
