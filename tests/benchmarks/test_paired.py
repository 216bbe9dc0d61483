"""Methods compared on the same recordings: what is kept of each, joined, and said in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.benchmarks.diagnosis import METHODS
from chiasm.benchmarks.paired import Comparison, compared, joined, pooled_figure
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import Entry, Table, fill
from chiasm.benchmarks.trial import Trial
from chiasm.diagnosis.report.predictions import (
    CORRUPTED,
    PREDICTIONS,
    read_predictions,
    stacked,
    write_predictions,
)
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.metrics.classification import macro_f1

KINDS = ("a", "b", "c")


def scored(right: float, seed: int, count: int = 240) -> ScoredRecordings:
    """Recordings of 40 sessions, of which a share is told rightly, the same ones for any share."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, count)
    hard = rng.uniform(size=count)
    noise = np.random.default_rng(seed).normal(size=(count, 3)) / 10
    guesses = np.where(hard < right, labels, (labels + 1) % 3)
    return ScoredRecordings(
        logits=2 * np.eye(3)[guesses] + noise,
        labels=labels,
        kinds=KINDS,
        groups={"session": np.array([f"s{n // 6}" for n in range(count)])},
        sources=tuple(f"r{n}" for n in range(count)),
    )


@pytest.fixture
def judged(tmp_path: Path):
    """A store in which four methods have been judged on the same recordings."""
    store = ResultStore(tmp_path / "store")
    (tmp_path / "data").mkdir()
    rows = {}
    for seed, (label, right) in enumerate(
        {"MAD": 0.7, "CMT": 0.93, "MiniROCKET": 0.92, "HOG, LightGBM": 0.6}.items()
    ):
        settings = METHODS[label][1] | {"split_by": "session", "seed": 1}
        rows[label] = (Trial("classifier", tmp_path / "data", settings),)
        report = store.report_folder(rows[label][0])
        report.mkdir(parents=True)
        write_predictions(report / PREDICTIONS, scored(right, seed))
    return store, rows


def test_predictions_are_kept_as_they_are(tmp_path):
    one = scored(0.8, 1)
    again = read_predictions(write_predictions(tmp_path / PREDICTIONS, one))
    np.testing.assert_allclose(again.probabilities, one.probabilities, atol=1e-6)  # float32
    assert again.labels.tolist() == one.labels.tolist()
    assert again.sources == one.sources
    assert again.groups["session"].tolist() == one.groups["session"].tolist()
    with pytest.raises(DataError, match="holds no predictions"):
        read_predictions(tmp_path / "nothing.npz")


def test_corrupted_recordings_are_compared_together(judged):
    store, rows = judged
    for seed, label in enumerate(("MAD", "CMT")):
        lists = [("gain 2", scored(0.9 - 0.4 * seed, 5)), ("noise", scored(0.8 - 0.4 * seed, 6))]
        write_predictions(store.report_folder(rows[label][0]) / CORRUPTED, stacked(lists))
    some = {label: rows[label] for label in ("MAD", "CMT")}
    words, pairs = compared(Comparison("Corrupted", "session", some, CORRUPTED), store)
    assert "480 test recordings of 40 sessions" in words[0]
    assert (pairs[0].method, pairs[0].other) == ("CMT", "MAD")
    assert pairs[0].high < 0
    with pytest.raises(DataError, match="different classes, or there is no list"):
        stacked([])


def test_runs_are_joined_and_their_figure_is_of_all_recordings(judged):
    store, rows = judged
    trials = rows["MAD"] + rows["CMT"]
    both = joined(trials, store)
    assert both is not None
    assert len(both) == 480
    entry = Entry("x", "y", "pooled.macro_f1", trials, by="session")
    value, low, high = pooled_figure(entry, store)
    assert value == pytest.approx(macro_f1(both.labels, both.guesses, 3), abs=1e-5)
    assert low < value < high
    assert joined((*trials, Trial("classifier", trials[0].data, {"model": "x"})), store) is None


def test_the_verdict_tells_who_is_not_shown_to_be_worse_and_where_the_bar_is(judged):
    store, rows = judged
    words, pairs = compared(Comparison("Split by session", "session", rows), store)
    first, second = words
    assert "240 test recordings of 40 sessions" in first
    assert "the highest macro-F1 is that of CMT" in first
    assert "Not shown to be worse, which is no proof of being as good" in first
    assert "over the 5 pairs of this split" in first
    level, worse = first.split("Significantly worse")
    assert "MiniROCKET" in level
    assert "MAD (-0.2" in worse
    assert "HOG, LightGBM (-0.3" in worse
    assert "the best simple baseline is MiniROCKET" in second
    assert second.endswith("is worse.")
    assert {(p.method, p.other) for p in pairs} >= {("MAD", "CMT"), ("MAD", "MiniROCKET")}
    # The same guesses cannot be told apart, and one row alone is no comparison.
    twins = {"MAD": rows["CMT"], "MiniROCKET": rows["CMT"]}
    words, pairs = compared(Comparison("Split", "session", twins), store)
    assert "is not shown to differ from it" in words[1]
    assert pairs[0].p_value == 1
    assert compared(Comparison("Split", "session", {"MAD": rows["MAD"]}), store) == ([], [])


def test_a_network_that_is_best_is_held_against_the_bar(judged):
    store, rows = judged
    swapped = {"MAD": rows["CMT"], "HOG, LightGBM": rows["HOG, LightGBM"]}
    words, _ = compared(Comparison("Split", "session", swapped), store)
    assert words[1].endswith("is better.")


def test_pooled_figures_wait_for_all_runs(judged):
    store, rows = judged
    trials = rows["MAD"] + rows["CMT"]
    entry = Entry("x", "macro-F1", "pooled.macro_f1", trials, by="session")
    table = Table("t", "", (entry,))
    one = {trials[0].key: Result("done", {})}
    part = fill(table, one, lambda e: pooled_figure(e, store))
    assert (part[0].value, part[0].remark) == (None, "1 of 2 runs")
    both = {trial.key: Result("done", {}) for trial in trials}
    whole = fill(table, both, lambda e: pooled_figure(e, store))
    assert whole[0].value is not None
