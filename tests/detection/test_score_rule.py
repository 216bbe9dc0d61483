"""The rule of the image's score is left alone unless another one is better beyond chance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from chiasm.detection.layers.image_score import ImageScoreRule, MapStatistics
from chiasm.detection.score_rule import candidate_terms, choose_image_rule


def statistics(groups, labels, *, shift=0.0, signal=0.5, seed=0):
    """Statistics in which a level of the part, of size ``shift``, hides the signal."""
    rng = np.random.default_rng(seed)
    level = shift * rng.standard_normal(groups.max() + 1)[groups]
    peak = 20 + level + signal * labels + 0.5 * rng.standard_normal(len(groups))
    peaks = {
        # Nearly the same in all: a sum of them shows no more than one.
        (term.statistic, term.size): torch.from_numpy(
            peak + 0.01 * rng.standard_normal(len(groups))
        ).float()
        for term in candidate_terms()
    }
    middle = torch.from_numpy(10 + level).float()
    return MapStatistics(peaks, torch.stack([middle - 1, middle, middle + 1], dim=1))


def parts(count):
    """Each part once as it is and three times with an anomaly."""
    groups = np.tile(np.arange(count), 4)
    return groups, (np.arange(4 * count) >= count).astype(np.int64)


def chosen(found, groups, labels, link="identity"):
    return choose_image_rule(found, labels, groups=groups, link=link)


@pytest.mark.parametrize("seed", range(2))
def test_the_common_rule_stays_where_no_other_is_better(seed):
    groups, labels = parts(20)
    found = chosen(statistics(groups, labels, seed=seed), groups, labels)
    assert found.name == "local_mean"
    assert found.rule == ImageScoreRule()
    assert {"auroc", "rule"} <= set(found.figures["rules"]["local_mean"])


@pytest.mark.parametrize("link", ["identity", "softplus"])
def test_the_background_is_subtracted_where_it_hides_the_anomalies(link):
    groups, labels = parts(40)
    found = chosen(statistics(groups, labels, shift=3.0, signal=1.5), groups, labels, link)
    assert found.rule.background > 0.5
    figures = found.figures["rules"]
    assert figures[found.name]["auroc"] > figures["local_mean"]["auroc"] + 0.1
    assert json.loads(json.dumps(found.figures)) == found.figures | {
        "rules": json.loads(json.dumps(found.figures["rules"]))
    }


def test_learned_pooling_finds_what_a_sum_shows_and_needs_enough_parts():
    groups, labels = parts(40)
    found = chosen(statistics(groups, labels, shift=3.0, signal=1.0), groups, labels)
    learned = found.figures["rules"]["learned"]
    assert learned["auroc"] > found.figures["rules"]["local_mean"]["auroc"]
    assert sum(term["weight"] for term in learned["rule"]["terms"]) == pytest.approx(1)
    groups, labels = parts(12)
    few = chosen(statistics(groups, labels), groups, labels)
    assert "learned" not in few.figures["rules"]
    assert "fewer than" in few.figures["learned"]


def test_few_parts_choose_nothing():
    groups, labels = parts(5)
    found = chosen(statistics(groups, labels, shift=3.0, signal=1.5), groups, labels)
    assert found.rule == ImageScoreRule()
    assert "fewer than" in found.figures["why"]
