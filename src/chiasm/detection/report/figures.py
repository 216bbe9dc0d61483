"""All figures of an evaluation, in the one schema of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from chiasm.detection.report.scored import ScoredSample, framed
from chiasm.metrics.bootstrap import (
    auroc_interval,
    bootstrap_interval,
    bootstrap_weights,
    percentile_interval,
)
from chiasm.metrics.pixel_histograms import PixelHistograms
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels
from chiasm.metrics.region_overlap import aupro
from chiasm.reporting.figure import Figure, figure

LIMITS = (0.3, 0.1, 0.05, 0.01)


def evaluate_scores(
    scored: Sequence[ScoredSample],
    *,
    cost: Mapping[str, Any],
    limits: Sequence[float] = LIMITS,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute every figure, with 95 % intervals: bootstrap over images, exact for rates.

    Samples that could not be judged are counted and left out, and defective ones without a mask of
    all but the image's figures. Groups: ``image``, ``pixel``,
    ``object`` (pixel figures with negatives inside the foreground only), ``region`` (AUPRO by
    limit), ``kinds``, ``trivial`` (what needs no model), ``cost``, ``counts``.
    """
    judged = [s for s in scored if not s.verdict.error and s.sample.label is not None]
    labels = np.array([s.sample.label for s in judged], int)
    scores = np.array([s.verdict.score for s in judged])
    # A defective part without a mask is known to be defective, and not where.
    outlined = np.array([s.outlined for s in judged], bool)
    frames = [framed(s) for s, known in zip(judged, outlined) if known]
    own = labels[outlined]
    result: dict[str, Any] = {"schema": "chiasm.metrics", "version": 1}
    result["image"] = _image(scores, labels, judged, draws=draws, seed=seed)
    maps, masks, foregrounds = ([f[i] for f in frames] for i in range(3))
    whole, inside = PixelHistograms(), PixelHistograms()
    for one, mask, foreground in frames:
        whole.update(one, mask)
        inside.update(one, mask, foreground)
    labelled = any(m.any() for m in masks)
    both = labelled and len(set(own.tolist())) == 2
    weights = bootstrap_weights(len(own), stratify=own, draws=draws, seed=seed) if both else None

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

    if labelled:
        result["pixel"] = pixel(whole, None)
        result["object"] = {**pixel(inside, foregrounds), "aupro": regions(inside, foregrounds)}
        result["region"] = {"aupro": regions(whole, None)}
    else:
        result["pixel"] = {"auroc": figure(math.nan), "ap": figure(math.nan)}
        result["object"] = dict(result["pixel"]) | {"aupro": {}}
        result["region"] = {"aupro": {}}
    result["kinds"] = _kinds(
        judged, scores, labels, outlined, frames, whole, draws=draws, seed=seed
    )
    result["trivial"] = _trivial(judged, labels, masks, foregrounds, limits)
    result["cost"] = dict(cost)
    result["counts"] = {
        "judged": len(judged),
        "good": int((labels == 0).sum()),
        "defective": int((labels == 1).sum()),
        "not_judged": len(scored) - len(judged),
        "without_mask": int((~outlined).sum()),
    }
    return result


def _image(
    scores: NDArray[Any],
    labels: NDArray[Any],
    judged: Sequence[ScoredSample],
    *,
    draws: int,
    seed: int,
) -> dict[str, Figure]:
    two = len(set(labels.tolist())) == 2
    alarms = np.array([bool(s.verdict.defective) for s in judged], bool)

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
    """The share of events, with the exact (Clopper-Pearson) interval."""
    if not events.size:
        return figure(math.nan)
    interval = binomtest(int(events.sum()), events.size).proportion_ci()
    return figure(float(events.mean()), (float(interval.low), float(interval.high)))


def _kinds(
    judged: Sequence[ScoredSample],
    scores: NDArray[Any],
    labels: NDArray[Any],
    outlined: NDArray[np.bool_],
    frames: Sequence[Any],
    histograms: PixelHistograms,
    *,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Each kind of defect against all good parts; ``frames`` are of the outlined ones."""
    kinds = {}
    names = sorted({s.sample.kind for s in judged if s.sample.label == 1})
    for name in names:
        chosen = np.array([s.sample.kind == name or s.sample.label == 0 for s in judged])
        drawn = chosen[outlined]
        maps = [f[0] for f, c in zip(frames, drawn) if c]
        masks = [f[1] for f, c in zip(frames, drawn) if c]
        known = any(m.any() for m in masks)
        two = len(set(labels[chosen].tolist())) == 2
        flat = flatten_pixels(maps, masks)
        spread: dict[str, tuple[float, float]] = {}
        if two:
            spread["auroc"] = auroc_interval(scores[chosen], labels[chosen], draws=draws, seed=seed)
            if known:
                own = labels[outlined][drawn]
                weights = np.zeros((draws, len(drawn)))
                weights[:, drawn] = bootstrap_weights(
                    len(own), stratify=own, draws=draws, seed=seed
                )
                spread["ap"] = percentile_interval(histograms.average_precision(weights))
                spread["aupro"] = percentile_interval(histograms.aupro((0.3,), weights)[0.3])
        kinds[name] = {
            "count": int((chosen & (labels == 1)).sum()),
            "image_auroc": figure(
                auroc(scores[chosen], labels[chosen]) if two else math.nan, spread.get("auroc")
            ),
            "pixel_ap": figure(average_precision(*flat) if known else math.nan, spread.get("ap")),
            "aupro": figure(
                aupro(maps, masks, limits=(0.3,))[0.3] if known else math.nan, spread.get("aupro")
            ),
        }
    return kinds


def _trivial(
    judged: Sequence[ScoredSample],
    labels: NDArray[Any],
    masks: Sequence[Any],
    foregrounds: Sequence[Any],
    limits: Sequence[float],
) -> dict[str, Any]:
    """What needs no model: one number per image, and the object's outline as a map."""

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
        "missing points": [1 - float(s.sample.valid.mean()) for s in judged],
        "object brightness": [brightness(s) for s in judged],
        "object area": [area(s) for s in judged],
    }
    files = [Path(s.sample.source) for s in judged]
    if all(f.is_file() for f in files):
        measured["file size"] = [float(f.stat().st_size) for f in files]
    image = {}
    if len(set(labels.tolist())) == 2:
        for name, values in measured.items():
            one = auroc(np.array(values), labels)
            image[name] = figure(max(one, 1 - one))
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
