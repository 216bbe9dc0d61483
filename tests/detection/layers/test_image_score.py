"""Rules of the image's score against sorting by hand, and as the products of exported graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chiasm.deploy.map_products import MapProducts
from chiasm.detection.detector import Detector
from chiasm.detection.layers.image_score import (
    ImageScoreRule,
    Term,
    joined_statistics,
    linked,
    map_statistics,
)
from chiasm.detection.layers.maps import MapPostprocessing

SIZE = 128
RULES = {
    "common": ImageScoreRule(),
    "pixel": ImageScoreRule((Term("local_mean", 0.0),)),
    "share": ImageScoreRule((Term("top_share", 0.013),)),
    "background": ImageScoreRule(background=1.0, usual_background=0.3),
    "odds": ImageScoreRule(
        (Term("top_share", 0.01),), "softplus", 0.8, usual_background=-2.0, usual_spread=0.7
    ),
    "sum": ImageScoreRule((Term(weight=0.6), Term("top_share", 0.05, 0.4)), "softplus", 0.2),
}


def maps_of(count=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    foreground = torch.zeros(count, 1, SIZE, SIZE)
    foreground[0, 0, 20:100, 30:90] = 1
    foreground[1, 0, 64:, 3:50] = 1
    maps = torch.nn.functional.softplus(2 * torch.randn(foreground.shape, generator=draw) - 2)
    return maps * MapPostprocessing().dilated_foreground(foreground), foreground


def score(rule, maps, foreground, operations):
    return map_statistics(
        maps,
        foreground,
        terms=rule.terms,
        background=rule.reads_background,
        operations=operations,
    ).score(rule)


def cells_by_hand(maps, foreground, number):
    """Falling means of the object's cells of 2 x 2 pixels."""
    inside = MapPostprocessing().dilated_foreground(foreground)[number, 0].numpy()
    values = maps[number, 0].numpy()
    found = []
    for row in range(0, SIZE, 2):
        for column in range(0, SIZE, 2):
            if inside[row : row + 2, column : column + 2].mean() > 0.5:
                found.append(values[row : row + 2, column : column + 2].mean())
    return np.sort(found)[::-1]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_exported_graphs_score_by_the_same_rule(rule):
    maps, foreground = maps_of()
    expected = score(rule, maps, foreground, MapPostprocessing())
    found = score(rule, maps, foreground, MapProducts())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [0.001, 0.013, 0.5, 1.0])
def test_the_top_share_is_the_mean_of_the_highest_cells(share):
    maps, foreground = maps_of()
    found = score(
        ImageScoreRule((Term("top_share", share),)), maps, foreground, MapPostprocessing()
    )
    for number in (0, 1):
        cells = cells_by_hand(maps, foreground, number)
        count = max(share * len(cells), 1)
        whole = int(count)
        rest = (count - whole) * cells[whole] if whole < len(cells) else 0
        assert float(found[number]) == pytest.approx((cells[:whole].sum() + rest) / count, rel=1e-4)


def test_quartiles_are_those_of_the_objects_cells():
    maps, foreground = maps_of()
    found = map_statistics(
        maps, foreground, terms=(), background=True, operations=MapPostprocessing()
    ).quartiles
    for number in (0, 1):
        expected = np.quantile(cells_by_hand(maps, foreground, number), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(found[number], expected, rtol=1e-3)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_frame_without_an_object_has_a_finite_score(rule):
    maps, foreground = maps_of()
    assert not foreground[2].any()
    assert torch.isfinite(score(rule, maps, foreground, MapPostprocessing())).all()


def test_the_common_rule_is_the_largest_local_mean_as_before():
    maps, foreground = maps_of()
    radius = int(SIZE / 24 / 2)
    window = 2 * radius + 1
    expected = torch.nn.functional.avg_pool2d(
        maps, window, 1, radius, count_include_pad=False
    ).amax(dim=(1, 2, 3))
    found = Detector().image_scores(None, maps, foreground)
    torch.testing.assert_close(found, expected)


def test_the_link_inverts_softplus():
    values = torch.tensor([-8.0, -2.0, 0.0, 3.0, 30.0])
    torch.testing.assert_close(
        linked(torch.nn.functional.softplus(values), "softplus"), values, atol=1e-4, rtol=1e-4
    )
    assert torch.equal(linked(values, "identity"), values)


def test_a_level_that_all_pixels_share_does_not_count_where_it_is_subtracted():
    maps, foreground = maps_of(2)
    inside = maps > 0
    odds = linked(maps, "softplus").clamp(min=-5)
    rule = ImageScoreRule((Term("local_mean", 0.0),), "softplus", 1.0)
    common = ImageScoreRule((Term("local_mean", 0.0),))
    scores = {
        shift: [
            score(r, torch.nn.functional.softplus(odds + shift) * inside, foreground, PLAIN)
            for r in (rule, common)
        ]
        for shift in (0.0, 1.0)
    }
    moved, moved_common = (b - a for a, b in zip(scores[0.0], scores[1.0]))
    assert (moved.abs() < 0.25 * moved_common.abs()).all()


PLAIN = MapPostprocessing()


def test_statistics_of_batches_join_to_those_of_all_parts():
    maps, foreground = maps_of()
    rule = RULES["sum"]

    def of(rows):
        return map_statistics(
            maps[rows], foreground[rows], terms=rule.terms, background=True, operations=PLAIN
        )

    joined = joined_statistics([of(slice(0, 1)), of(slice(1, 3))])
    torch.testing.assert_close(joined.score(rule), of(slice(0, 3)).score(rule))


@pytest.mark.parametrize(
    "wrong",
    [
        {"terms": ()},
        {"background": float("nan")},
        {"usual_spread": 0.0},
    ],
)
def test_a_rule_that_gives_no_number_is_refused(wrong):
    with pytest.raises(ValueError, match=r"finite|above 0"):
        replace(ImageScoreRule(), **wrong)
    with pytest.raises(ValueError, match="must be in"):
        Term("top_share", 0.0)


def test_rules_are_told_in_words():
    words = {name: rule.in_words() for name, rule in RULES.items()}
    assert words["common"] == "the largest local mean of the map"
    assert "median" in words["background"]
    assert "spread" in words["odds"]
    assert len(set(words.values())) == len(words)
