"""The figures of ``metrics.json``: those of the metrics functions, in the frame of the papers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chiasm.detection.report.curves import precision_recall_points, roc_points
from chiasm.detection.report.figures import evaluate_scores
from chiasm.detection.report.schema import Metrics, validated
from chiasm.detection.report.scored import ScoredSample, framed
from chiasm.metrics.overlap_curve import DEFAULT_LIMITS, area_to_limit
from chiasm.metrics.ranking import auroc, average_precision, f1_max, flatten_pixels
from chiasm.metrics.region_overlap import aupro, overlap_curve

CLOSE = {"abs": 6e-6}  # figures are rounded to five digits


def evaluated(scored: list[ScoredSample], **changes: Any) -> dict[str, Any]:
    return evaluate_scores(scored, cost={"parameters": 12}, **({"draws": 40} | changes))


def leaves(tree: Any) -> Iterator[dict[str, float | None]]:
    """Every ``{value, low, high}`` below."""
    if isinstance(tree, dict):
        if set(tree) == {"value", "low", "high"}:
            yield tree
        else:
            for branch in tree.values():
                yield from leaves(branch)


@pytest.fixture(scope="module")
def metrics(scored: list[ScoredSample]) -> dict[str, Any]:
    return evaluated(scored)


def test_figures_are_those_of_the_metrics_functions(scored, metrics):
    scores = np.array([s.verdict.score for s in scored])
    labels = np.array([s.sample.label for s in scored])
    maps, masks, foregrounds = zip(*(framed(s) for s in scored))
    image, pixel, inside = metrics["image"], metrics["pixel"], metrics["object"]
    assert image["auroc"]["value"] == pytest.approx(auroc(scores, labels), **CLOSE)
    assert image["ap"]["value"] == pytest.approx(average_precision(scores, labels), **CLOSE)
    assert image["f1_max"]["value"] == pytest.approx(f1_max(scores, labels)[0], **CLOSE)
    assert image["false_alarm_rate"]["value"] == 1 / 8
    assert image["missed_rate"]["value"] == pytest.approx(2 / 9, **CLOSE)
    for group, keep in ((pixel, None), (inside, foregrounds)):
        flat = flatten_pixels(maps, masks, keep)
        assert group["auroc"]["value"] == pytest.approx(auroc(*flat), **CLOSE)
        assert group["ap"]["value"] == pytest.approx(average_precision(*flat), **CLOSE)
    for limit in DEFAULT_LIMITS:
        whole = aupro(maps, masks, limits=[limit])[limit]
        part = aupro(maps, masks, limits=[limit], foregrounds=foregrounds)[limit]
        key = str(limit)
        assert metrics["region"]["aupro"][key]["value"] == pytest.approx(whole, **CLOSE)
        assert inside["aupro"][key]["value"] == pytest.approx(part, **CLOSE)


def test_defects_without_a_mask_are_no_good_pixels(scored, metrics):
    unmasked = next(s for s in scored if s.sample.label == 1)
    more = [*scored, *[replace(unmasked, sample=replace(unmasked.sample, mask=None))] * 3]
    found = evaluated(more)
    assert found["counts"]["without_mask"] == 3
    assert found["counts"]["judged"] == len(more)
    for group in ("pixel", "region"):
        for ours, theirs in zip(leaves(found[group]), leaves(metrics[group]), strict=True):
            assert ours["value"] == theirs["value"]
    kind = unmasked.sample.kind
    assert found["kinds"][kind]["pixel_ap"]["value"] == metrics["kinds"][kind]["pixel_ap"]["value"]
    assert found["kinds"][kind]["count"] == metrics["kinds"][kind]["count"] + 3


def test_curves_have_the_areas_that_the_figures_say(scored):
    scores = np.array([s.verdict.score for s in scored])
    labels = np.array([s.sample.label for s in scored])
    maps, masks, _ = zip(*(framed(s) for s in scored))
    alarms, hits = roc_points(scores, labels)
    assert np.trapezoid(hits, alarms) == pytest.approx(auroc(scores, labels))
    recall, precision = precision_recall_points(maps, masks)
    summed = np.sum(np.diff(recall, prepend=0) * precision)
    assert summed == pytest.approx(average_precision(*flatten_pixels(maps, masks)))
    curve = overlap_curve(maps, masks)
    for limit, area in aupro(maps, masks, limits=DEFAULT_LIMITS).items():
        assert area_to_limit(*curve, limit) == pytest.approx(area)


def test_tied_scores_have_the_roc_of_their_auroc():
    scores, labels = [1, 1, 1, 2, 2, 3], [0, 1, 0, 1, 0, 1]
    alarms, hits = roc_points(scores, labels)
    assert np.trapezoid(hits, alarms) == pytest.approx(auroc(scores, labels))


def test_object_figures_ignore_what_lies_outside_the_object(scored, metrics):
    disturbed = []
    for one in scored:
        found = one.verdict.anomaly_map
        # Far enough from the object that resizing does not carry it in.
        loud = found.scores.copy()
        loud[:4] = 50.0
        verdict = replace(one.verdict, anomaly_map=replace(found, scores=loud))
        disturbed.append(replace(one, verdict=verdict))
    after = evaluated(disturbed)
    assert after["object"] == metrics["object"]
    assert after["pixel"]["auroc"]["value"] < metrics["pixel"]["auroc"]["value"]
    assert after["region"]["aupro"]["0.05"]["value"] < metrics["region"]["aupro"]["0.05"]["value"]


def test_failed_and_unlabelled_parts_are_counted_and_change_no_figure(
    scored, metrics, part, failed
):
    after = evaluated([failed(1), *scored, failed(2), part(50, label=None, kind="")])
    counts = after.pop("counts")
    assert counts.pop("without_mask") == 0
    assert counts == {"judged": 17, "good": 8, "defective": 9, "not_judged": 3}
    assert after == {name: group for name, group in metrics.items() if name != "counts"}


def test_every_interval_holds_its_figure(metrics):
    both = [f for f in leaves(metrics) if f["low"] is not None]
    assert len(both) > 15
    for figure in both:
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_fewer_parts_give_wider_intervals(scored, metrics):
    half = evaluated(scored[::2])["image"]["missed_rate"]
    whole = metrics["image"]["missed_rate"]
    assert half["high"] - half["low"] > whole["high"] - whole["low"]


def test_the_same_seed_gives_the_same_figures(scored, metrics):
    assert evaluated(scored) == metrics
    assert evaluated(scored, seed=1)["pixel"]["ap"] != metrics["pixel"]["ap"]


def test_kinds_are_measured_against_all_good_parts(scored, metrics):
    chosen = [s for s in scored if s.sample.kind in ("good", "cut")]
    expected = auroc([s.verdict.score for s in chosen], [s.sample.label for s in chosen])
    assert set(metrics["kinds"]) == {"cut", "dent"}
    assert metrics["kinds"]["cut"]["count"] == 4
    assert metrics["kinds"]["cut"]["image_auroc"]["value"] == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_fits_the_schema_with_unknown_figures(scored, label):
    metrics = validated(evaluated([s for s in scored if s.sample.label == label]))
    assert metrics["image"]["auroc"]["value"] is None
    assert (metrics["image"]["missed_rate"]["value"] is None) == (label == 0)


def test_nothing_judged_fits_the_schema(failed):
    assert validated(evaluated([failed(1)]))["counts"]["not_judged"] == 1


def test_metrics_fit_the_schema_and_survive_json(metrics):
    read = json.loads(json.dumps(validated(metrics)))
    assert Metrics.model_validate(read).model_dump(by_alias=True) == read


@pytest.mark.parametrize(
    ("group", "wrong"),
    [
        ("pixel", {"auroc": {"value": 1.2, "low": None, "high": None}}),
        ("region", {"aupro": {"3": {"value": 0.5, "low": None, "high": None}}}),
        ("counts", {"judged": 3, "good": 1, "defective": 1, "not_judged": 0}),
        ("schema", "something else"),
        ("surprise", {}),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(metrics, group, wrong):
    with pytest.raises(ValidationError):
        validated(metrics | {group: wrong})


def test_an_interval_upside_down_is_refused(metrics):
    wrong = metrics["pixel"] | {"ap": {"value": 0.5, "low": 0.6, "high": 0.4}}
    with pytest.raises(ValidationError, match="upside down"):
        validated(metrics | {"pixel": wrong})
