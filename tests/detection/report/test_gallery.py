"""Which parts a report shows, and that it can draw any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.detection.report.gallery import GAP, OUTLINE, SIDE, choose, draw_gallery, make_cases


def test_the_misjudged_are_shown(scored):
    shown = choose(scored)
    for reason, one in shown:
        alarm, label = one.verdict.defective, one.sample.label
        assert (reason == "missed") == (label == 1 and not alarm)
        assert (reason == "false alarm") == (label == 0 and alarm)
    assert [r for r, _ in shown].count("missed") == 2
    assert [r for r, _ in shown].count("false alarm") == 1


def test_no_part_is_shown_twice_and_clear_finds_differ_in_kind(scored):
    shown = choose(scored)
    assert len({id(one) for _, one in shown}) == len(shown)
    found = [one.sample.kind for reason, one in shown if reason == "found"]
    assert sorted(found) == ["cut", "dent"]


def test_many_misjudged_fill_the_free_places(part):
    parts = [part(n, label=1, kind="cut", score=n, alarm=False) for n in range(12)]
    shown = choose(parts)
    assert [reason for reason, _ in shown] == ["missed"] * 8
    assert shown[0][1].verdict.score == 0  # the worst first


def test_unknown_truth_is_called_neither_miss_nor_false_alarm(part):
    parts = [part(n, label=None, kind="", score=n, alarm=n > 2) for n in range(5)]
    assert {reason for reason, _ in choose(parts)} == {"alarm"}
    undecided = [part(n, score=n, alarm=None) for n in range(5)]
    assert {reason for reason, _ in choose(undecided)} == {"not decided"}


def test_failed_parts_have_no_picture(failed):
    assert make_cases([failed(1)]) == []


@pytest.mark.parametrize("lacks", [{"rgb": None}, {"xyz": None}, {"mask": None}])
def test_any_sensor_may_be_missing(scored, lacks):
    one = replace(scored[-1], sample=replace(scored[-1].sample, **lacks))
    [case] = make_cases([one])
    assert case.strip.shape == (SIDE, 4 * SIDE + 3 * GAP, 3)
    assert case.strip.dtype == np.uint8


def test_only_defects_are_outlined(scored):
    def outlined(strip):
        truth = strip[:, 3 * (SIDE + GAP) :]
        return (np.abs(truth.astype(int) - OUTLINE).sum(-1) < 30).any()

    for case in make_cases(scored):
        assert outlined(case.strip) == (case.sample.sample.label == 1)


def test_hostile_names_do_not_stop_the_drawing(scored, tmp_path):
    odd = replace(scored[-1], sample=replace(scored[-1].sample, kind="$x^{_\\frac"))
    path = draw_gallery(make_cases([odd]), tmp_path / "gallery.png")
    assert path is not None
    assert path.stat().st_size > 1000
    assert draw_gallery([], tmp_path / "none.png") is None
