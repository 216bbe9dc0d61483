"""Another promise of a model that exists: kept, said, and refused where it is too bold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from exported import NORMALS, brightest, disc
from typer.testing import CliRunner

import chiasm
from chiasm.cli.main import app
from chiasm.deploy.threshold import back_up, set_threshold
from chiasm.detection.contract import read_contract
from chiasm.errors import ArtifactError, ConfigurationError, SplitError
from chiasm.metrics.calibration import conformal_threshold
from chiasm.runtime.deployment import read_deployment
from chiasm.service.model_pool import ModelPool
from chiasm.service.model_routes import facts
from version_1_weights import part, write_model

STORED = Path(__file__).parents[1] / "version_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return brightest(tmp_path / "disc")


@pytest.mark.parametrize(
    ("asked", "rate", "confidence"),
    [
        ({"false_alarm_rate": 0.02}, 0.02, None),
        ({"confidence": 0.9}, 0.05, 0.9),
        ({"false_alarm_rate": 0.1, "confidence": 0.95}, 0.1, 0.95),
    ],
)
def test_an_exported_model_decides_by_its_new_threshold(folder, asked, rate, confidence):
    before = read_deployment(folder)
    change = set_threshold(folder, **asked)
    after = read_deployment(folder)
    assert (after.false_alarm_rate, after.confidence) == (rate, confidence)
    assert after.alarm_rule.threshold == conformal_threshold(NORMALS, rate, confidence)
    assert (after.calibration_scores, after.model_hash) == (NORMALS, before.model_hash)
    assert len(after.notes) == len(before.notes) + 1
    said = str(change)
    assert before.alarm_rule.promise in said
    assert after.alarm_rule.promise in said
    model = chiasm.load(folder)
    for brightness in (0.3, 0.5, 0.59, 0.61):
        verdict = model(*disc(brightness))
        assert verdict.defective == (verdict.score > after.alarm_rule.threshold)
    assert change.backup is not None
    change.backup.replace(folder / "deployment.json")
    assert read_deployment(folder) == before


def test_a_confidence_stays_until_it_is_taken_back(folder):
    set_threshold(folder, confidence=0.9)
    set_threshold(folder, false_alarm_rate=0.1)
    assert read_deployment(folder).confidence == 0.9
    set_threshold(folder, on_average=True)
    assert read_deployment(folder).confidence is None
    with pytest.raises(ConfigurationError, match="exclude each other"):
        set_threshold(folder, confidence=0.9, on_average=True)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"false_alarm_rate": 0.001}, SplitError, "needs at least 999"),
        ({"confidence": 0.9999}, SplitError, "confidence of 0.9999 needs at least"),
        ({"confidence": 0.0}, ConfigurationError, "not between 0 and 1"),
        ({"false_alarm_rate": 5.0}, ConfigurationError, "not between 0 and 1"),
    ],
)
def test_what_cannot_be_promised_changes_nothing(folder, asked, error, words):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(error, match=words):
        set_threshold(folder, **asked)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_asking_nothing_shows_the_promise_and_changes_nothing(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = CliRunner().invoke(app, ["threshold", str(folder)])
    assert done.exit_code == 0, done.output
    assert read_deployment(folder).alarm_rule.promise in done.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_running_service_adopts_it(folder):
    pool = ModelPool({"disc": folder}, chiasm.load)
    try:
        old = facts(pool["disc"])
        command = ["threshold", str(folder), "--false-alarm-rate", "0.1", "--confidence", "0.9"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        pool.reload_changed()
        new = facts(pool["disc"])
    finally:
        pool.close()
    assert (old.confidence, new.confidence) == (None, 0.9)
    assert new.threshold < old.threshold
    assert new.promise == read_deployment(folder).alarm_rule.promise != old.promise


def test_a_trained_model_of_an_earlier_version_gets_a_new_threshold(tmp_path: Path):
    run = tmp_path / "run"
    write_model(STORED / "btf", run / "model")
    before = read_contract(run / "model")
    rate = 2 / (len(before.calibration_scores) + 1)
    change = set_threshold(run, false_alarm_rate=rate)
    after = read_contract(run / "model")
    assert after == before.model_copy(update={"false_alarm_rate": rate})
    model = chiasm.load(run)
    verdict = model(*part())
    assert verdict.defective == (verdict.score > np.sort(before.calibration_scores)[-2])
    assert change.backup is not None
    assert change.backup.parent == run / "model"


def test_a_classifier_has_no_threshold(tmp_path: Path):
    shutil.copytree(STORED / "exported_diagnosis", tmp_path / "pd")
    with pytest.raises(ConfigurationError, match="has no threshold"):
        set_threshold(tmp_path / "pd", false_alarm_rate=0.1)
    write_model(STORED / "rocket", tmp_path / "model")
    with pytest.raises(ArtifactError, match="holds a classifier"):
        set_threshold(tmp_path / "model", false_alarm_rate=0.1)


def test_two_changes_within_a_second_keep_both_backups(tmp_path: Path):
    path = tmp_path / "deployment.json"
    kept = []
    for content in ("first", "second", "third"):
        path.write_text(content)
        kept.append(back_up(path))
    assert [copy.read_text() for copy in kept] == ["first", "second", "third"]
