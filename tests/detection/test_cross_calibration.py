"""All normals train and calibrate, each scored by a model that does not know it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from chiasm.deploy.detection import export_detection
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.cross_calibration import FOLDS
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.readers.mvtec3d import Mvtec3d
from chiasm.detection.readers.splits import divide_into_folds, make_splits
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.train import train
from chiasm.errors import ConfigurationError, SplitError

SETTINGS = {"model": "pixel_gaussian", "image_size": 64, "rotate": False}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    make_scenes(
        folder, products=("flange",), train=8, validation=4, test_good=1, test_per_defect=0, size=96
    )
    return folder / "flange"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIASM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("folds", [2, 5, 40])
@pytest.mark.parametrize(
    "groups", [[""] * 12, ["day"] * 12, ["a", "a", "a", "b", "b", "c", "d", "", "", ""]]
)
def test_folds_share_no_group_and_hold_every_part_once(groups, folds):
    drawn = divide_into_folds(groups, folds, seed=0)
    assert sorted(i for fold in drawn for i in fold) == list(range(len(groups)))
    assert all(drawn)
    alone = len(set(groups)) == 1
    owners = [{groups[i] if groups[i] and not alone else str(i) for i in fold} for fold in drawn]
    assert sum(map(len, owners)) == len(set.union(*owners))
    assert len(drawn) == min(folds, len(set.union(*owners)))
    if alone:
        assert max(map(len, drawn)) - min(map(len, drawn)) <= 1


def test_one_part_has_no_folds():
    with pytest.raises(SplitError, match="at least two"):
        divide_into_folds([""], 5, seed=0)


def test_every_normal_trains_and_calibrates(parts):
    split = make_splits(Mvtec3d(parts), cross=True)
    assert split.crossed
    assert len(split.train) == 12  # those of the validation split among them
    assert len(make_splits(Mvtec3d(parts), cross=True, shots=5).calibration) == 5


def test_scores_are_those_of_models_that_were_trained_without_the_part(parts, tmp_path):
    config = DetectionConfig.make(
        data=parts,
        out=tmp_path / "run",
        calibration="cross",
        calibration_folds=3,
        false_alarm_rate=0.1,
        **SETTINGS,
    )
    train(config)
    contract = read_contract(config.out / "model")
    assert (contract.calibration_folds, contract.training_samples) == (3, 12)
    assert len(contract.calibration_scores) == 12
    assert "in 3 folds" in contract.alarm_rule.promise
    assert not (config.out / FOLDS).exists()
    # The model itself knows the parts, so that its own scores of them are lower.
    source = Mvtec3d(parts)
    model = DetectionPredictor.load(config.out)
    seen = [model.predict(source.load(ref)).score for ref in make_splits(source, cross=True).train]
    assert np.median(seen) < np.median(contract.calibration_scores)
    with pytest.raises(ConfigurationError, match=r"cannot be exported.*hold out as many"):
        export_detection(config.out, tmp_path / "exported", to="onnx", precision="fp32")
    fresh = model.predict(next(source.load(r) for r in source.refs if r.split == "test"))
    assert fresh.defective == (fresh.score > contract.alarm_rule.threshold)


def test_scores_of_two_trainings_that_learn_are_not_pooled(parts, tmp_path):
    for model in ("adnas_light", "adnas_slim", "easynet_slim"):
        settings = {**SETTINGS, "model": model}
        config = DetectionConfig.make(
            data=parts, out=tmp_path / model, calibration="cross", **settings
        )
        with pytest.raises(ConfigurationError, match="scale of its own"):
            train(config)
        assert not (tmp_path / model).exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"confidence": 0.9}, "no rate with a confidence"),
        ({"image_score": "chosen"}, "image_score=chosen"),
    ],
)
def test_what_a_cross_calibration_cannot_keep_is_refused(settings, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        DetectionConfig.make(data=tmp_path, out=tmp_path, calibration="cross", **settings)


def test_a_confidence_that_cannot_be_kept_is_refused_before_the_training(parts, tmp_path):
    config = DetectionConfig.make(data=parts, out=tmp_path / "run", confidence=0.9, **SETTINGS)
    with pytest.raises(SplitError, match=r"4 calibration normals.*needs at least 45"):
        train(config)
    assert not (tmp_path / "run" / "model").exists()


def test_more_normals_never_raise_a_distance_so_that_held_out_scores_are_conservative():
    # Why a memory of all descriptors keeps its rate: scores of left-out parts are no lower than
    # those of full conformal prediction, which is exact.
    draw = torch.Generator().manual_seed(0)
    alarms, runs, normals, rate = 0, 400, 12, 0.25
    for _ in range(runs):
        points = torch.randn(normals + 1, 3, generator=draw)
        known, fresh = points[:-1], points[-1:]
        scores = []
        for fold in range(4):
            left_out = torch.arange(normals) % 4 == fold
            scores += torch.cdist(known[left_out], known[~left_out]).min(dim=1).values.tolist()
        score = float(torch.cdist(fresh, known).min())
        p_value = (1 + sum(s >= score for s in scores)) / (normals + 1)
        alarms += p_value <= rate
    assert alarms / runs <= rate + 3 * (rate * (1 - rate) / runs) ** 0.5


def test_an_interrupted_run_keeps_its_complete_folds(parts, tmp_path, monkeypatch):
    config = DetectionConfig.make(
        data=parts, out=tmp_path / "run", calibration="cross", calibration_folds=2, **SETTINGS
    )
    from chiasm.detection import train as module

    def stop(*args: object, **kwargs: object) -> float:
        raise KeyboardInterrupt

    real = module.train_baseline
    calls: list[Path] = []

    def once(data, **settings):
        calls.append(data.config.out)
        return real(data, **settings) if len(calls) == 1 else stop()

    monkeypatch.setattr(module, "train_baseline", once)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(
        module, "train_baseline", lambda data, **s: calls.append(data.config.out) or real(data, **s)
    )
    train(config)
    runs = [path.relative_to(config.out.parent).as_posix() for path in calls]
    assert runs == ["run/folds/0", "run/folds/1", "run/folds/1", "run"]
    assert json.loads((config.out / "learning.json").read_text())["steps"] == 0
