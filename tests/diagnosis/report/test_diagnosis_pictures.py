"""Which recordings a report shows, and that its pictures say what the figures say."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from chiasm.diagnosis.report.curves import (
    confusion_matrix,
    corruption_curves,
    f1_bars,
    learning_curves,
    read_learning,
    reliability_diagram,
    reliability_points,
)
from chiasm.diagnosis.report.embedding import embedding_scatter, principal_axes
from chiasm.diagnosis.report.gallery import (
    UNCERTAIN,
    WRONG,
    choose,
    make_cases,
    pulse_indices,
    recording_strip,
)
from chiasm.errors import DataError
from chiasm.metrics.calibration import equal_mass_calibration_error
from chiasm.reporting.style import colours
from chiasm.samples import RecordingSample

HOSTILE = "$x^{_\\frac"
LOG = "epoch,step,contrast_share,validation_f1\n0,4,0.9,\n0,9,,0.25\n1,19,0.5,\n1,19,,0.5\n"


def drawn(path) -> bool:
    return path is not None and path.stat().st_size > 1000


def test_the_points_of_the_diagram_have_the_error_that_the_figure_says(recordings):
    chances = recordings.probabilities
    confidence, right, size = reliability_points(chances, recordings.labels)
    error = np.average(np.abs(confidence - right), weights=size)
    assert error == pytest.approx(equal_mass_calibration_error(chances, recordings.labels))
    assert size.sum() == len(recordings)


def test_each_sort_of_mistake_is_shown_once_before_any_twice(recordings):
    shown = choose(recordings, limit=1000)
    sorts = [(int(recordings.labels[p]), int(recordings.guesses[p])) for _, p in shown]
    different = len(set(sorts))
    assert len(set(sorts[:different])) == different
    assert all(
        reason == WRONG and predicted != truth
        for (reason, _), (truth, predicted) in zip(shown, sorts)
    )
    assert len(shown) == (recordings.labels != recordings.guesses).sum()
    confidence = recordings.probabilities.max(axis=1)[[p for _, p in shown]]
    assert (np.diff(confidence[:different]) <= 0).all()
    assert len(choose(recordings)) == 8


def test_where_nothing_is_wrong_the_least_sure_are_shown(recordings):
    perfect = replace(recordings, labels=recordings.guesses)
    shown = choose(perfect)
    assert [reason for reason, _ in shown] == [UNCERTAIN, UNCERTAIN]
    assert shown[0][1] == recordings.probabilities.max(axis=1).argmin()


def test_a_recording_that_cannot_be_read_is_left_out(recordings, load):
    [(_, first), *others] = choose(recordings, limit=2)

    def failing(index: int) -> RecordingSample:
        if index == first:
            raise DataError("gone")
        return load(index)

    assert [case.index for case in make_cases(recordings, failing, limit=2)] == [
        index for _, index in others
    ]


@pytest.mark.parametrize("lacks", [{}, {"image": None}, {"series": None}])
def test_any_modality_may_be_missing(load, lacks):
    png = recording_strip(replace(load(4), **lacks))
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] > 3 * picture.shape[0]
    assert picture.std() > 5


def test_what_stands_out_are_the_largest_values():
    draw = np.random.default_rng(0)
    series = 20 + draw.standard_normal(20000).astype(np.float32)
    series[::100] += 60
    assert np.array_equal(pulse_indices(series), np.arange(0, 20000, 100))
    quiet = pulse_indices(np.ones(1000, np.float32))
    assert len(quiet) == 50
    loud = pulse_indices(series + 100 * (np.arange(20000) % 3 == 0))
    assert len(loud) == 4000


def test_principal_axes_are_the_widest(recordings):
    draw = np.random.default_rng(0)
    plane = draw.standard_normal((400, 2)) * [9, 4]
    turn, _ = np.linalg.qr(draw.standard_normal((6, 6)))
    points = np.pad(plane, ((0, 0), (0, 4))) @ turn
    flat, share = principal_axes(points + 5)
    assert share == pytest.approx(1)
    assert flat.std(axis=0) == pytest.approx(np.linalg.svd(plane - plane.mean(0))[1] / 20)
    one, _ = principal_axes(np.ones((3, 1)))
    assert one.shape == (3, 2)


def test_every_class_has_a_colour_of_its_own():
    assert len(set(colours([str(n) for n in range(8)]))) == 8


def test_hostile_names_do_not_stop_the_drawing(maker, tmp_path):
    scored = maker(60, sessions=6, kinds=(HOSTILE, "<b>"))
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    kinds = {kind: {"f1": figure} for kind in scored.kinds}
    assert drawn(confusion_matrix([[3, 0], [1, 2]], scored.kinds, tmp_path / "a.png"))
    assert drawn(f1_bars(kinds, figure, tmp_path / "b.png"))
    assert drawn(embedding_scatter(scored, None, tmp_path / "c.png"))
    assert drawn(corruption_curves({HOSTILE: figure, "gain 3": figure}, figure, tmp_path / "d.png"))


def test_what_is_unknown_is_not_drawn(maker, tmp_path):
    none = {"value": None, "low": None, "high": None}
    empty = maker(0)
    assert reliability_diagram(empty, tmp_path / "a.png") is None
    assert embedding_scatter(empty, None, tmp_path / "b.png") is None
    assert (
        embedding_scatter(replace(maker(9), before={}, after={}), None, tmp_path / "b.png") is None
    )
    assert corruption_curves({}, none, tmp_path / "c.png") is None
    assert corruption_curves({"gain 3": none}, none, tmp_path / "c.png") is None
    assert drawn(f1_bars({"void": {"f1": none}}, none, tmp_path / "d.png"))
    assert drawn(reliability_diagram(maker(1), tmp_path / "e.png"))


def test_learning_is_read_by_epoch_and_the_last_value_counts(tmp_path):
    (tmp_path / "logs/contrast").mkdir(parents=True)
    (tmp_path / "logs/contrast/metrics.csv").write_text(LOG)
    (tmp_path / "logs/strange").mkdir()
    (tmp_path / "logs/strange/metrics.csv").write_bytes(b"\xff\xfe\n\n1,2\n")
    logged = read_learning(tmp_path)
    assert logged == {
        "contrast_share": ((1.0, 0.9), (2.0, 0.5)),
        "validation_f1": ((1.0, 0.25), (2.0, 0.5)),
    }
    assert drawn(learning_curves(logged, tmp_path / "learning.png"))
    assert read_learning(None) == {}
    assert learning_curves({}, tmp_path / "none.png") is None
