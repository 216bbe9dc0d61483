"""Figures of the evaluation of a detector, in the schema of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from chiasm.detection.report.scored import ScoredSample, framed_all
from chiasm.metrics.bootstrap import (
    auroc_interval,
    bootstrap_interval,
    bootstrap_weights,
    percentile_interval,
)
from chiasm.metrics.overlap_curve import DEFAULT_LIMITS
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels
from chiasm.metrics.region_overlap import aupro
from chiasm.reporting.figure import Figure, figure


def evaluate_scores(
    scored: Sequence[ScoredSample],
    *,
    cost: Mapping[str, Any],
    limits: Sequence[float] = DEFAULT_LIMITS,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all figures with 95 % intervals: bootstrap over images, exact for rates.

    Samples without a verdict or a label are counted and left out. Defective samples without a mask
    enter the figures of images alone. Groups: ``image``, ``pixel``, ``object`` (pixel figures with
    negatives inside the foreground only), ``region`` (AUPRO by limit), ``kinds``, ``trivial``
    (baselines without a model), ``cost``, ``counts``.
    """
    labelled = [s for s in scored if not s.verdict.error and s.sample.label is not None]
    labels = np.array([s.sample.label for s in labelled], int)
    scores = np.array([s.verdict.score for s in labelled])
    has_truth = np.array([s.has_pixel_truth for s in labelled], bool)
    frames = framed_all(s for s in labelled if s.has_pixel_truth)
    pixel_labels = labels[has_truth]
    result: dict[str, Any] = {"schema": "chiasm.metrics", "version": 1}
    result["image"] = _image(scores, labels, labelled, draws=draws, seed=seed)
    maps, masks, foregrounds = ([f[i] for f in frames] for i in range(3))
    whole, inside = PixelHistograms(), PixelHistograms()
    for scores_map, mask, foreground in frames:
        whole.update(scores_map, mask)
        inside.update(scores_map, mask, foreground)
    has_defect = any(m.any() for m in masks)
    weights = None
    if has_defect and len(set(pixel_labels.tolist())) == 2:
        weights = bootstrap_weights(
            len(pixel_labels), stratify=pixel_labels, draws=draws, seed=seed
        )

    def pixel(histograms: PixelHistograms, regions: Any) -> dict[str, Any]:
        flat = flatten_pixels(maps, masks, regions)
        spread: dict[str, Any] = {"auroc": None, "ap": None}
        if weights is not None:
            spread["auroc"] = percentile_interval(histograms.auroc(weights))
            spread["ap"] = percentile_interval(histograms.average_precision(weights))
        return {
            "auroc": figure(auroc(*flat), spread["auroc"]),
            "ap": figure(average_precision(*flat), spread["ap"]),
        }

    def regions(histograms: PixelHistograms, inside_only: Any) -> dict[str, Figure]:
        exact = aupro(maps, masks, limits=limits, foregrounds=inside_only)
        spread = histograms.aupro(tuple(limits), weights) if weights is not None else {}
        return {
            str(limit): figure(
                exact[limit], percentile_interval(spread[limit]) if limit in spread else None
            )
            for limit in limits
        }

    if has_defect:
        result["pixel"] = pixel(whole, None)
        result["object"] = {**pixel(inside, foregrounds), "aupro": regions(inside, foregrounds)}
        result["region"] = {"aupro": regions(whole, None)}
    else:
        result["pixel"] = {"auroc": figure(math.nan), "ap": figure(math.nan)}
        result["object"] = dict(result["pixel"]) | {"aupro": {}}
        result["region"] = {"aupro": {}}
    result["kinds"] = _kinds(
        labelled, scores, labels, has_truth, frames, whole, draws=draws, seed=seed
    )
    result["trivial"] = _trivial(labelled, labels, masks, foregrounds, limits)
    result["cost"] = dict(cost)
    result["counts"] = {
        "judged": len(labelled),
        "good": int((labels == 0).sum()),
        "defective": int((labels == 1).sum()),
        "not_judged": len(scored) - len(labelled),
        "without_mask": int((~has_truth).sum()),
    }
    return result


def _image(
    scores: NDArray[Any],
    labels: NDArray[Any],
    labelled: Sequence[ScoredSample],
    *,
    draws: int,
    seed: int,
) -> dict[str, Figure]:
    two = len(set(labels.tolist())) == 2
    alarms = np.array([bool(s.verdict.defective) for s in labelled], bool)

    def spread(fn: Callable[[Any, Any], float]) -> tuple[float, float]:
        return bootstrap_interval(fn, scores, labels, stratify=labels, draws=draws, seed=seed)

    return {
        "auroc": figure(
            auroc(scores, labels) if two else math.nan,
            auroc_interval(scores, labels, draws=draws, seed=seed) if two else None,
        ),
        "ap": figure(
            average_precision(scores, labels) if two else math.nan,
            spread(average_precision) if two else None,
        ),
        "f1_max": figure(
            f1_max(scores, labels)[0] if two else math.nan,
            spread(lambda s, y: f1_max(s, y)[0]) if two else None,
        ),
        "false_alarm_rate": rate(alarms[labels == 0]),
        "missed_rate": rate(~alarms[labels == 1]),
    }


def rate(events: NDArray[np.bool_]) -> Figure:
    """Return the share of events, with the exact (Clopper-Pearson) interval."""
    if not events.size:
        return figure(math.nan)
    interval = binomtest(int(events.sum()), events.size).proportion_ci()
    return figure(float(events.mean()), (float(interval.low), float(interval.high)))


def _kinds(
    labelled: Sequence[ScoredSample],
    scores: NDArray[Any],
    labels: NDArray[Any],
    has_truth: NDArray[np.bool_],
    frames: Sequence[Any],
    histograms: PixelHistograms,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Compute the figures of each kind of defect against all good parts.

    ``frames`` belong to the samples of ``has_truth``.
    """
    kinds = {}
    names = sorted({s.sample.kind for s in labelled if s.sample.label == 1})
    for name in names:
        chosen = np.array([s.sample.kind == name or s.sample.label == 0 for s in labelled])
        in_frame = chosen[has_truth]
        maps = [f[0] for f, c in zip(frames, in_frame) if c]
        masks = [f[1] for f, c in zip(frames, in_frame) if c]
        has_defect = any(m.any() for m in masks)
        two = len(set(labels[chosen].tolist())) == 2
        flat = flatten_pixels(maps, masks)
        spread: dict[str, tuple[float, float]] = {}
        if two:
            spread["auroc"] = auroc_interval(scores[chosen], labels[chosen], draws=draws, seed=seed)
            if has_defect:
                kind_labels = labels[has_truth][in_frame]
                weights = np.zeros((draws, len(in_frame)))
                weights[:, in_frame] = bootstrap_weights(
                    len(kind_labels), stratify=kind_labels, draws=draws, seed=seed
                )
                spread["ap"] = percentile_interval(histograms.average_precision(weights))
                spread["aupro"] = percentile_interval(histograms.aupro((0.3,), weights)[0.3])
        kinds[name] = {
            "count": int((chosen & (labels == 1)).sum()),
            "image_auroc": figure(
                auroc(scores[chosen], labels[chosen]) if two else math.nan, spread.get("auroc")
            ),
            "pixel_ap": figure(
                average_precision(*flat) if has_defect else math.nan, spread.get("ap")
            ),
            "aupro": figure(
                aupro(maps, masks, limits=(0.3,))[0.3] if has_defect else math.nan,
                spread.get("aupro"),
            ),
        }
    return kinds


def _trivial(
    labelled: Sequence[ScoredSample],
    labels: NDArray[Any],
    masks: Sequence[Any],
    foregrounds: Sequence[Any],
    limits: Sequence[float],
) -> dict[str, Any]:
    """Compute baselines without a model: a number per image, the object's outline as a map."""

    def brightness(s: ScoredSample) -> float:
        assert s.verdict.anomaly_map is not None
        inside = s.verdict.anomaly_map.foreground
        if s.sample.rgb is None or not inside.any():
            return 0.0
        return float(s.sample.rgb[inside].mean())

    def area(s: ScoredSample) -> float:
        assert s.verdict.anomaly_map is not None
        return float(s.verdict.anomaly_map.foreground.mean())

    measured = {
        "missing points": [1 - float(s.sample.valid.mean()) for s in labelled],
        "object brightness": [brightness(s) for s in labelled],
        "object area": [area(s) for s in labelled],
    }
    files = [Path(s.sample.source) for s in labelled]
    if all(f.is_file() for f in files):
        measured["file size"] = [float(f.stat().st_size) for f in files]
    image = {}
    if len(set(labels.tolist())) == 2:
        for name, values in measured.items():
            area_under = auroc(np.array(values), labels)
            image[name] = figure(max(area_under, 1 - area_under))
    pixel: dict[str, Any] = {}
    if any(m.any() for m in masks):
        outline = [f.astype(np.float32) for f in foregrounds]
        flat = flatten_pixels(outline, masks)
        exact = aupro(outline, masks, limits=limits)
        pixel = {
            "auroc": figure(auroc(*flat)),
            "ap": figure(average_precision(*flat)),
            "aupro": {str(limit): figure(exact[limit]) for limit in limits},
        }
    return {"image": image, "pixel": pixel}
