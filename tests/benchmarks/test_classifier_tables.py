"""Tables of recordings: what stands behind them, what is said of them, and a kill in between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from chiasm.benchmarks.asked_recordings import METHODS, SIMPLE, AskedRecordings, printed_mad
from chiasm.benchmarks.cell import Cell, fingerprint_of
from chiasm.benchmarks.classifier_tables import RECORDING_TABLES, describe_recordings
from chiasm.benchmarks.paired import Comparison, compared, joined, pooled_figure
from chiasm.benchmarks.render import write
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import Entry, figure, fill
from chiasm.cli.main import app
from chiasm.data.discharge.simulator import make_discharges
from chiasm.errors import ConfigurationError, DataError
from chiasm.evaluation.diagnosis.predictions import (
    CORRUPTED,
    PREDICTIONS,
    read_predictions,
    stacked,
    write_predictions,
)
from chiasm.evaluation.diagnosis.scored import ScoredRecordings
from chiasm.metrics.classification import macro_f1
from chiasm.registry import find_model

KINDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "made"
    make_discharges(folder, count=30, sessions=30, seed=1)
    return folder


@pytest.fixture
def cached(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("name", RECORDING_TABLES)
def test_every_table_is_described(name, recordings, cached):
    asked = AskedRecordings(recordings, splits=("session",), seeds=(1, 2))
    table = describe_recordings(name, asked)
    assert table.name == name
    assert all(entry.cells for entry in table.entries)
    assert {cell.settings["seed"] for cell in table.cells} == {1, 2}
    for cell in table.cells:
        assert find_model(cell.method).wing == "classifier"


def test_printed_values_are_those_of_the_paper():
    values = printed_mad()
    assert values["mad_table4"]["Perceiver IO"]["macro-F1"] == 0.9946
    assert values["mad_table3"]["MAD, small"]["GFLOPs"] == 2.10
    assert values["mad_table2"]["MAD, series alone"]["macro-F1"] == 0.9516
    assert set(values["mad_table2"]) | set(values["mad_table4"]) <= set(METHODS)


def test_each_group_is_left_out_in_turn(recordings):
    asked = AskedRecordings(recordings, splits=("equipment",))
    names = asked.groups("equipment")
    cells = asked.cells("MAD", "equipment")
    assert len(names) > 3
    assert [cell.settings["test_group"] for cell in cells] == list(names)
    some = AskedRecordings(recordings, splits=("equipment",), left_out=names[:2])
    assert len(some.cells("MAD", "equipment")) == 2
    assert "test_group" not in asked.cells("MAD", "session")[0].settings


def test_settings_of_networks_are_kept_from_methods_that_are_none(recordings):
    asked = AskedRecordings(recordings, settings={"preset": "quick", "shares": [0.5, 0.2, 0.3]})
    (network,), (simple,) = asked.cells("MAD"), asked.cells("MiniROCKET")
    assert network.settings["preset"] == "quick"
    assert "preset" not in simple.settings
    assert simple.settings["shares"] == network.settings["shares"]
    (alone,) = asked.cells("MAD, cross-entropy alone", epochs=10, pretrain_epochs=5)
    assert (alone.settings["pretrain_epochs"], alone.settings["epochs"]) == (0, 20)


def test_the_size_asked_for_is_that_of_networks_alone(recordings):
    asked = AskedRecordings(recordings, size="base")
    assert asked.cells("CMT")[0].method == "cross_modal_transformer_base"
    assert asked.cells("residual CNN")[0].method == "residual_cnn_small"


def test_what_does_not_exist_is_told(recordings):
    with pytest.raises(ConfigurationError, match="There is no table 'x' of recordings"):
        describe_recordings("x", AskedRecordings(recordings))
    with pytest.raises(ConfigurationError, match="There is no method 'BTF' of recordings"):
        AskedRecordings(recordings, methods=("BTF",))
    with pytest.raises(DataError, match="no groups of kind 'site'"):
        AskedRecordings(recordings, splits=("site",))
    with pytest.raises(DataError, match="There is no equipment 'X'"):
        AskedRecordings(recordings, splits=("equipment",), left_out=("X",))


def test_cells_that_are_judged_otherwise_learn_but_once(recordings, tmp_path):
    plain = Cell("classifier", recordings, {"model": "minirocket"})
    more = Cell("classifier", recordings, {"model": "minirocket"}, {"most_corrupted": 5})
    store = ResultStore(tmp_path)
    assert plain.key != more.key
    assert store.run_folder(plain) == store.run_folder(more)
    assert store.report_folder(plain) != store.report_folder(more)


def test_an_average_depends_on_the_code_of_what_it_joins(recordings):
    def cell(**options):
        return Cell("classifier", recordings, {"model": "late_average", "options": options})

    one, other = cell(), cell(series="minirocket")
    assert fingerprint_of(one) != fingerprint_of(other)


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
def judged(recordings, tmp_path):
    """A store in which four methods have been judged on the same recordings."""
    store = ResultStore(tmp_path)
    asked = AskedRecordings(recordings)
    rows = {}
    for seed, (label, right) in enumerate(
        {"MAD": 0.7, "CMT": 0.93, "MiniROCKET": 0.92, "HOG, LightGBM": 0.6}.items()
    ):
        rows[label] = asked.cells(label)
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
    with pytest.raises(DataError, match="different classes, or there is none"):
        stacked([])


def test_runs_are_joined_and_their_figure_is_of_all_recordings(judged):
    store, rows = judged
    cells = rows["MAD"] + rows["CMT"]
    both = joined(cells, store)
    assert both is not None
    assert len(both) == 480
    entry = Entry("x", "y", "pooled.macro_f1", cells, by="session")
    value, low, high = pooled_figure(entry, store)
    assert value == pytest.approx(macro_f1(both.labels, both.guesses, 3), abs=1e-5)
    assert low < value < high
    assert joined((*cells, Cell("classifier", cells[0].data, {"model": "x"})), store) is None


def test_the_verdict_tells_who_is_level_and_where_the_bar_is(judged):
    store, rows = judged
    words, pairs = compared(Comparison("Split by session", "session", rows), store)
    first, second = words
    assert "240 test recordings of 40 sessions" in first
    assert "the highest macro-F1 is that of CMT" in first
    assert "Statistically indistinguishable from it" in first
    level, worse = first.split("Worse beyond chance")
    assert "MiniROCKET" in level
    assert "MAD (-0.2" in worse
    assert "HOG, LightGBM (-0.3" in worse
    assert "the bar among simple rivals is MiniROCKET" in second
    assert second.endswith("falls short of it.")
    assert {(p.method, p.other) for p in pairs} >= {("MAD", "CMT"), ("MAD", "MiniROCKET")}
    # The same guesses cannot be told apart, and one row alone is no comparison.
    twins = {"MAD": rows["CMT"], "MiniROCKET": rows["CMT"]}
    words, pairs = compared(Comparison("Split", "session", twins), store)
    assert "is level with it" in words[1]
    assert pairs[0].p_value == 1
    assert compared(Comparison("Split", "session", {"MAD": rows["MAD"]}), store) == ([], [])


def test_a_network_that_is_best_is_held_against_the_bar(judged):
    store, rows = judged
    swapped = {"MAD": rows["CMT"], "HOG, LightGBM": rows["HOG, LightGBM"]}
    words, _ = compared(Comparison("Split", "session", swapped), store)
    assert words[1].endswith("clears it.")


def test_pooled_figures_wait_for_all_runs(judged):
    store, rows = judged
    cells = rows["MAD"] + rows["CMT"]
    entry = Entry("x", "macro-F1", "pooled.macro_f1", cells, by="session")
    table = describe_recordings("mad_table4", AskedRecordings(cells[0].data))
    one = {cells[0].key: Result("done", {})}
    part = fill(table.__class__("t", "", (entry,)), one, lambda e: pooled_figure(e, store))
    assert (part[0].value, part[0].remark) == (None, "1 of 2 runs")
    both = {cell.key: Result("done", {}) for cell in cells}
    whole = fill(table.__class__("t", "", (entry,)), both, lambda e: pooled_figure(e, store))
    assert whole[0].value is not None


def test_a_star_is_the_mean_of_all_figures_there():
    found = {"corruptions": {"gain 0.3": {"value": 0.2}, "noise": {"value": 0.6}}}
    assert figure(found, "corruptions.*") == (pytest.approx(0.4), None, None)
    assert figure(found, "corruptions.gain 0.3") == (0.2, None, None)
    assert figure({"corruptions": {}}, "corruptions.*") is None


def test_confusion_is_drawn_as_shades_and_not_ranked(recordings, cached, tmp_path):
    asked = AskedRecordings(recordings)
    table = describe_recordings("mad_fig6", asked)
    kinds = asked.kinds
    called = {own: {other: float(own == other) for other in kinds} for own in kinds}
    results = {cell.key: Result("done", {"called": called}) for cell in table.cells}
    page = write(table, fill(table, results), tmp_path, {}).read_text()
    assert "**" not in page
    first = next(line for line in page.splitlines() if line.startswith(f"| MAD: {kinds[0]}"))
    assert first.split("|")[2:-1] == [" 1.000 "] + [" 0.000 "] * (len(kinds) - 1)
    picture = cv2.imread(str(tmp_path / "mad_fig6.png"))
    assert picture.shape[0] > picture.shape[1] / 3


def command(recordings: Path, out: Path) -> list[str]:
    words = ["bench", "classifiers", "--data", str(recordings), "--out", str(out)]
    methods = ["--methods", "histogram, logistic;HOG, LightGBM"]
    return [*words, *methods, "shares=0.5,0.2,0.3", "options={}"]


@pytest.mark.timeout(600)
def test_a_table_that_is_killed_thrice_ends_as_one_left_alone(recordings, tmp_path, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    program = [sys.executable, "-c", "from chiasm.cli.main import main; main()"]
    for sign in ("learn.log", "judge.log", "result.json"):
        begun = subprocess.Popen([*program, *command(recordings, tmp_path / "killed")])
        while begun.poll() is None and not list((tmp_path / "killed").rglob(sign)):
            time.sleep(0.1)
        begun.send_signal(signal.SIGKILL)
        begun.wait()
    found = []
    for place in ("killed", "alone"):
        subprocess.run([*program, *command(recordings, tmp_path / place)], check=True)
        content = json.loads((tmp_path / place / "classifiers.json").read_text())
        kept = [e for e in content["entries"] if e["figure"].startswith("pooled.")]
        found.append([(e["row"], e["column"], e["value"], e["low"], e["high"]) for e in kept])
        found[-1] += content["verdict"]
    assert found[0] == found[1]
    assert len(found[0]) == 8
    assert all(entry[2] is not None for entry in found[0][:6])
    page = (tmp_path / "alone" / "classifiers.md").read_text()
    assert "**Verdict**" in page
    assert "bar among simple rivals" in page
    assert (tmp_path / "alone" / "classifiers.png").exists()
    said = CliRunner().invoke(app, command(recordings, tmp_path / "alone")).output
    assert "2 of 2 runs are there, 0 are to be made." in said


def test_simple_rivals_are_there_to_be_the_bar():
    assert sum(family == SIMPLE for family, _ in METHODS.values()) == 6
