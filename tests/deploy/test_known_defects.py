"""Labelled defective parts choose the threshold of trained and of exported models."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from exported import NORMALS, brightest, disc

import chiasm
from chiasm.deploy.threshold import set_threshold
from chiasm.detection.decision import AlarmRule
from chiasm.detection.prediction.known_defects import defective_refs, seen_before
from chiasm.detection.readers.opening import open_source
from chiasm.errors import ConfigurationError, DataError
from chiasm.metrics.known_defects import KnownDefects, best_f1
from chiasm.runtime.deployment import read_deployment
from chiasm.service.model_pool import ModelPool
from chiasm.service.model_routes import facts


def table(folder: Path, parts: list[tuple[float, int, str]]) -> Path:
    """Write discs of a brightness, a label and a split."""
    folder.mkdir()
    rows = ["rgb,xyz,label,split"]
    for number, (brightness, label, split) in enumerate(parts):
        rgb, xyz = disc(brightness)
        cv2.imwrite(str(folder / f"{number}.png"), rgb)
        tifffile.imwrite(folder / f"{number}.tiff", xyz, photometric="rgb")
        rows.append(f"{number}.png,{number}.tiff,{label},{split}")
    (folder / "parts.csv").write_text("\n".join(rows) + "\n")
    return folder / "parts.csv"


BRIGHT = [0.5, 0.62, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.95]


@pytest.fixture
def defects(tmp_path: Path) -> Path:
    good = [(0.3, 0, "validation")]  # which does not choose
    return table(tmp_path / "defects", [*((b, 1, "validation") for b in BRIGHT), *good])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return brightest(tmp_path / "disc")


def test_the_best_f1_decides_in_an_exported_model(folder, defects):
    before = read_deployment(folder).alarm_rule
    change = set_threshold(folder, defects=defects)
    after = read_deployment(folder).alarm_rule
    assert after.known_defects is not None
    assert len(after.known_defects.defects) == len(BRIGHT)
    assert after.threshold == best_f1(NORMALS, after.known_defects.defects).threshold
    model = chiasm.load(folder)
    for brightness in (0.4, 0.5, 0.55, 0.61, 0.7):
        verdict = model(*disc(brightness))
        assert verdict.defective == (verdict.score > after.threshold)
    assert "No false-alarm rate is promised" in str(change)
    assert np.isnan(after.promised_rate) and after.decides
    # Back to the promise by one command, and as it was.
    set_threshold(folder, false_alarm_rate=before.false_alarm_rate)
    back = read_deployment(folder).alarm_rule
    assert (back.threshold, back.known_defects) == (before.threshold, None)


def test_a_miss_rate_is_promised_where_defects_are_enough(folder, defects):
    change = set_threshold(folder, defects=defects, miss_rate=0.2)
    rule = read_deployment(folder).alarm_rule
    assert rule.known_defects.missed == 1  # 2 of 10 is the rate of the second lowest
    assert "at most 20 % of defects like these are missed" in str(change)
    with pytest.raises(ConfigurationError, match="needs 99"):
        set_threshold(folder, defects=defects, miss_rate=0.01)
    assert read_deployment(folder).alarm_rule.known_defects == rule.known_defects


@pytest.mark.parametrize(
    "asked", [{"miss_rate": 0.1}, {"defects": Path("x"), "false_alarm_rate": 0.1}]
)
def test_two_ways_to_choose_exclude_each_other(folder, asked):
    with pytest.raises(ConfigurationError):
        set_threshold(folder, **asked)


def test_defects_of_the_test_choose_nothing(tmp_path):
    source = open_source(table(tmp_path / "test", [(0.9, 1, "test"), (0.3, 0, "train")]))
    with pytest.raises(DataError, match="of its test split"):
        defective_refs(source)
    mixed = open_source(table(tmp_path / "mixed", [(0.9, 1, "test"), (0.8, 1, "validation")]))
    assert [ref.split for ref in defective_refs(mixed)] == ["validation"]
    assert [ref.split for ref in defective_refs(mixed, own=True)] == ["validation"]
    good = open_source(table(tmp_path / "good", [(0.9, 0, "train")]))
    with pytest.raises(DataError, match="no defective part"):
        defective_refs(good)


def test_the_service_says_what_chose_the_threshold(folder, defects):
    pool = ModelPool({"disc": folder}, chiasm.load)
    try:
        before = facts(pool["disc"])
        assert before.false_alarm_rate == 0.05
        set_threshold(folder, defects=defects)
        pool.reload_changed()
        after = facts(pool["disc"])
    finally:
        pool.close()
    assert after.false_alarm_rate is None
    assert "best F1" in after.promise
    assert after.threshold == read_deployment(folder).alarm_rule.threshold


def test_too_few_normals_decide_by_known_defects():
    undecided = AlarmRule([1.0, 2.0, 3.0], 0.05, None)
    assert undecided.threshold is None
    rule = AlarmRule([1.0, 2.0, 3.0], 0.05, None, known_defects=KnownDefects(2.5, (4.0,), f1=1.0))
    assert rule.decide([2.4, 2.6])[1].tolist() == [False, True]
    assert rule.require() is rule
    assert rule.undecided == rule.remedy == ""
    assert "1 of 3 calibration normals alarm" in rule.promise


def test_what_was_written_is_read_as_it_was(folder, defects):
    set_threshold(folder, defects=defects)
    stored = json.loads((folder / "deployment.json").read_text())["known_defects"]
    assert set(stored) == {"threshold", "defects", "miss_rate", "f1", "files"}
    known = read_deployment(folder).known_defects
    assert known.threshold == stored["threshold"] and isinstance(known.defects, tuple)


def test_a_test_on_parts_that_chose_the_threshold_is_told(folder, defects, tmp_path):
    set_threshold(folder, defects=defects)
    known = read_deployment(folder).known_defects
    assert len(set(known.files)) == len(BRIGHT)
    refs = open_source(defects).refs
    assert "chose the threshold" in seen_before(refs, known)
    assert seen_before([ref for ref in refs if ref.label == 0], known) == ""
    assert seen_before(refs, None) == ""
