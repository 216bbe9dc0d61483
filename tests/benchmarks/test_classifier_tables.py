"""Tables of recordings: what stands behind them, what is said of them, and a kill in between."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from chiasm.benchmarks.benchmark import TRIALS
from chiasm.benchmarks.diagnosis import METHODS, SIMPLE, DiagnosisSuite, printed_mad
from chiasm.benchmarks.diagnosis_tables import RECORDING_TABLES, describe_recordings
from chiasm.benchmarks.render import write
from chiasm.benchmarks.run_trial import evaluate, train
from chiasm.benchmarks.store import Result, ResultStore
from chiasm.benchmarks.table import figure, fill
from chiasm.benchmarks.trial import Trial, fingerprint_of
from chiasm.cli.main import app
from chiasm.diagnosis.report.predictions import PREDICTIONS, read_predictions
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.classification import macro_f1
from chiasm.registry import find_model


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "made"
    make_recordings(folder, count=30, sessions=30, seed=1)
    return folder


@pytest.fixture
def cached(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("name", RECORDING_TABLES)
def test_every_table_is_described(name, recordings, cached):
    suite = DiagnosisSuite(recordings, splits=("session",), seeds=(1, 2))
    table = describe_recordings(name, suite)
    assert table.name == name
    assert all(entry.trials for entry in table.entries)
    assert {trial.settings["seed"] for trial in table.trials} == {1, 2}
    for trial in table.trials:
        assert find_model(trial.method).wing == "classifier"


def test_printed_values_are_those_of_the_paper():
    values = printed_mad()
    assert values["mad_table4"]["Perceiver IO"]["macro-F1"] == 0.9946
    assert values["mad_table3"]["MAD, small"]["GFLOPs"] == 2.10
    assert values["mad_table2"]["MAD, series alone"]["macro-F1"] == 0.9516
    assert set(values["mad_table2"]) | set(values["mad_table4"]) <= set(METHODS)


def test_each_group_is_left_out_in_turn(recordings):
    suite = DiagnosisSuite(recordings, splits=("equipment",))
    names = suite.groups("equipment")
    trials = suite.trials("MAD", "equipment")
    assert len(names) > 3
    assert [trial.settings["test_group"] for trial in trials] == list(names)
    some = DiagnosisSuite(recordings, splits=("equipment",), left_out=names[:2])
    assert len(some.trials("MAD", "equipment")) == 2
    assert "test_group" not in suite.trials("MAD", "session")[0].settings


def test_settings_of_networks_are_kept_from_methods_that_are_none(recordings):
    suite = DiagnosisSuite(recordings, settings={"preset": "quick", "shares": [0.5, 0.2, 0.3]})
    (network,), (simple,) = suite.trials("MAD"), suite.trials("MiniROCKET")
    assert network.settings["preset"] == "quick"
    assert "preset" not in simple.settings
    assert simple.settings["shares"] == network.settings["shares"]
    (alone,) = suite.trials("MAD, cross-entropy alone", epochs=10, pretrain_epochs=5)
    assert (alone.settings["pretrain_epochs"], alone.settings["epochs"]) == (0, 20)


def test_the_size_asked_for_is_that_of_networks_alone(recordings):
    suite = DiagnosisSuite(recordings, size="base")
    assert suite.trials("CMT")[0].method == "cross_modal_transformer_base"
    assert suite.trials("residual CNN")[0].method == "residual_cnn_small"


def test_what_does_not_exist_is_told(recordings):
    with pytest.raises(ConfigurationError, match="There is no table 'x' of recordings"):
        describe_recordings("x", DiagnosisSuite(recordings))
    with pytest.raises(ConfigurationError, match="There is no method 'BTF' of recordings"):
        DiagnosisSuite(recordings, methods=("BTF",))
    with pytest.raises(DataError, match="no groups of kind 'site'"):
        DiagnosisSuite(recordings, splits=("site",))
    with pytest.raises(DataError, match="There is no equipment 'X'"):
        DiagnosisSuite(recordings, splits=("equipment",), left_out=("X",))


def test_trials_that_are_judged_otherwise_learn_but_once(recordings, tmp_path):
    plain = Trial("classifier", recordings, {"model": "minirocket"})
    more = Trial("classifier", recordings, {"model": "minirocket"}, {"most_corrupted": 5})
    store = ResultStore(tmp_path)
    assert plain.key != more.key
    assert store.run_folder(plain) == store.run_folder(more)
    assert store.report_folder(plain) != store.report_folder(more)


def test_an_average_depends_on_the_code_of_what_it_joins(recordings):
    def trial(**options):
        return Trial("classifier", recordings, {"model": "late_average", "options": options})

    one, other = trial(), trial(series="minirocket")
    assert fingerprint_of(one) != fingerprint_of(other)


def test_a_star_is_the_mean_of_all_figures_there():
    found = {"corruptions": {"gain 0.3": {"value": 0.2}, "noise": {"value": 0.6}}}
    assert figure(found, "corruptions.*") == (pytest.approx(0.4), None, None)
    assert figure(found, "corruptions.gain 0.3") == (0.2, None, None)
    assert figure({"corruptions": {}}, "corruptions.*") is None


def test_confusion_is_drawn_as_shades_and_not_ranked(recordings, cached, tmp_path):
    suite = DiagnosisSuite(recordings)
    table = describe_recordings("mad_fig6", suite)
    kinds = suite.kinds
    called = {own: {other: float(own == other) for other in kinds} for own in kinds}
    results = {trial.key: Result("done", {"called": called}) for trial in table.trials}
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
def test_a_table_that_is_killed_ends_as_one_left_alone(
    recordings, tmp_path, monkeypatch, run_killed, run_whole
):
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path / "cache"))
    # The other wing's table is killed in the other phases, too (test_bench.py).
    run_killed(command(recordings, tmp_path / "killed"), tmp_path / "killed", "evaluate.log")
    run_whole(command(recordings, tmp_path / "killed"))
    content = json.loads((tmp_path / "killed" / "classifiers.json").read_text())
    f1 = {e["row"]: e["value"] for e in content["entries"] if e["figure"] == "pooled.macro_f1"}
    assert len(f1) == len(content["pairs"]) + 1 == 2
    store = ResultStore(tmp_path / "killed" / TRIALS)
    settings = {"shares": "0.5,0.2,0.3", "options": {}}  # as the command line reads them
    for label in f1:
        (trial,) = DiagnosisSuite(recordings, settings=settings).trials(label)
        alone = tmp_path / "alone" / trial.method
        description = trial.description() | {
            "folder": str(recordings),
            "report": str(alone / "report"),
        }
        train(description, alone)
        evaluate(description, alone)
        expected = read_predictions(alone / "report" / PREDICTIONS)
        kept = read_predictions(store.report_folder(trial) / PREDICTIONS)
        assert kept.sources == expected.sources
        # Sums of float32 over another number of threads differ in their last bits.
        np.testing.assert_allclose(kept.probabilities, expected.probabilities, atol=1e-6)
        whole = macro_f1(expected.labels, expected.guesses, len(expected.kinds))
        assert f1[label] == pytest.approx(whole, abs=1e-5)
    page = (tmp_path / "killed" / "classifiers.md").read_text()
    assert "**Verdict**" in page
    assert "best simple baseline" in page
    assert (tmp_path / "killed" / "classifiers.png").exists()
    output = CliRunner().invoke(app, command(recordings, tmp_path / "killed")).output
    assert "2 of 2 trials are stored, 0 to run." in output


def test_simple_rivals_are_there_to_be_the_bar():
    assert sum(family == SIMPLE for family, _ in METHODS.values()) == 7
