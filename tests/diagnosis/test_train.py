"""A classifier of discharges end to end, in small size: files to diagnosis."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chiasm.detection.contract import load_model as load_detector
from chiasm.diagnosis.calibrate import belief_share, calibrate, decided_by_distance
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.contract import load_model, save_model
from chiasm.diagnosis.datamodule import digest, open_data
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.quantities.assessment import contradiction
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.scoring import score_recordings
from chiasm.diagnosis.train import train
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.contrast import ContrastTraining
from chiasm.diagnosis.training.known_classes import fit_unknown_rule
from chiasm.errors import ArtifactError, ConfigurationError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TINY = {
    "image_size": 32,
    "seconds": 0.5,
    "windows": 2,
    "shares": (0.5, 0.5, 0.0),
    "pretrain_epochs": 2,
    "epochs": 2,
    "batch": 5,
    "precision": "32-true",
    "flow_weight": 0.01,
}


@pytest.fixture(scope="session")
def run(store: RecordingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(DiagnosisConfig.make(data=store.path, out=out, **TINY))
    return out


@pytest.fixture
def sample(store: RecordingStore):
    return store.load(store.refs[0])


def test_recordings_become_a_model_that_diagnoses(run: Path, sample):
    diagnosis = DiagnosisPredictor.load(run).predict(sample)
    assert diagnosis.source == sample.source
    assert diagnosis.kind in {*diagnosis.probabilities, "unknown"}
    assert math.isclose(sum(diagnosis.probabilities.values()), 1, abs_tol=1e-9)
    assert set(diagnosis.opinions) == {"image", "series"}
    assert 0 <= diagnosis.uncertainty <= 1
    assert 0 <= diagnosis.conflict <= 1
    assert diagnosis.notes == contradiction(diagnosis.kind, diagnosis.severity)
    assert set(json.loads((run / "split.json").read_text())) == {"training", "validation", "test"}


def test_files_are_converted_once(files: Path, store: RecordingStore, monkeypatch):
    def never(self, ref):
        raise AssertionError("read again")

    monkeypatch.setattr("chiasm.diagnosis.readers.aihub.AiHub.load", never)
    assert open_store(files, cache=store.path.parent.parent).refs == store.refs
    assert open_store(store.path).path == store.path


@pytest.mark.parametrize("missing", ["image", "series"])
def test_a_missing_modality_is_noted(run: Path, sample, missing: str):
    diagnosis = DiagnosisPredictor.load(run).predict(replace(sample, **{missing: None}))
    assert diagnosis.notes[0] == f"the {missing} was absent"
    assert missing not in diagnosis.opinions
    assert math.isnan(diagnosis.conflict)
    (opinion,) = diagnosis.opinions.values()
    assert opinion == diagnosis.probabilities


def test_what_cannot_be_diagnosed_is_told_in_words(run: Path, sample):
    model = DiagnosisPredictor.load(run)
    faults = {
        "neither": replace(sample, image=None, series=None),
        "pulses downwards": replace(sample, series=-sample.series),
        "token takes": replace(sample, series=sample.series[:, :100]),
        "was expected": replace(sample, series=sample.series[0]),
        "finite": replace(sample, series=np.full_like(sample.series, np.nan)),
        "picture of shape": replace(sample, image=sample.image[..., 0]),
    }
    for words, fault in faults.items():
        with pytest.raises(DataError, match=words):
            model.predict(fault)
    found = list(model.predict_all([("a", faults["neither"]), ("b", sample)]))
    assert found[0].kind is None
    assert "neither" in found[0].error
    assert found[1].kind is not None


def test_recordings_are_scored_for_evaluation(run: Path, store: RecordingStore):
    model = DiagnosisPredictor.load(run)
    refs = store.refs[:4]
    whole = score_recordings(model, store, refs)
    assert whole.logits.shape == (4, 5)
    assert set(whole.modality_logits) == set(whole.before) == {"image", "series"}
    assert set(whole.groups) == {"equipment", "insulator", "session"}
    for i, ref in enumerate(refs):
        said = model.predict(store.load(ref))
        assert math.isclose(said.uncertainty, whole.uncertainty[i], rel_tol=1e-9)
        assert math.isclose(said.conflict, whole.conflict[i], rel_tol=1e-9)
    alone = score_recordings(model, store, refs, change=lambda s: replace(s, image=None))
    np.testing.assert_allclose(alone.logits, whole.modality_logits["series"], rtol=1e-9)
    assert np.isnan(alone.conflict).all()


def test_weak_evidence_is_unknown(run: Path, sample):
    model = DiagnosisPredictor.load(run)
    earlier = model.contract.model_copy(update={"unknown": None})  # belief alone decides
    sure = earlier.model_copy(update={"unknown_below": {"image+series": 0.0}})
    strict = earlier.model_copy(update={"unknown_below": {"image+series": 1.0}})
    assert DiagnosisPredictor(model.network, sure).predict(sample).kind in model.contract.kinds
    assert DiagnosisPredictor(model.network, strict).predict(sample).kind == "unknown"


def test_what_is_far_from_the_trained_classes_is_unknown(run: Path, store: RecordingStore):
    model = DiagnosisPredictor.load(run)
    rule = model.contract.unknown
    assert rule.by == "distance" and set(rule.limits) == {"image+series", "image", "series"}
    assert model.contract.unknown_below == {}
    scored = score_recordings(model, store, store.refs[:4])
    for place, ref in enumerate(store.refs[:4]):
        said = model.predict(store.load(ref))
        assert said.distance_limit == rule.limits["image+series"] and said.nearest_kind
        assert said.distance / said.distance_limit == pytest.approx(scored.distance[place])
        assert (said.kind == "unknown") == scored.unknown[place]
    near = replace(rule, limits=dict.fromkeys(rule.limits, 0.0))
    strict = DiagnosisPredictor(
        model.network, model.contract.model_copy(update={"unknown": near})
    ).predict(store.load(store.refs[0]))
    assert strict.kind == "unknown"
    assert strict.notes[-1].startswith("like none of the trained classes: nearest is ")
    assert score_recordings(model, store, store.refs[:4], single=False).unknown is None


def test_belief_and_distance_share_what_may_be_unknown(run: Path, store: RecordingStore):
    config = DiagnosisConfig.make(data=store.path, out=run, **TINY, unknown_by="both")
    data = open_data(config)
    right = {"series": np.ones(len(data.split.validation), bool)}
    both = fit_unknown_rule(data, right)
    alone = fit_unknown_rule(
        replace(data, config=config.model_copy(update={"unknown_by": "distance"})), right
    )
    assert belief_share(both) == config.unknown_share / 2 and decided_by_distance(both) == ()
    assert decided_by_distance(alone) == ("series",)
    assert both.limits["series"] >= alone.limits["series"]
    none = fit_unknown_rule(
        replace(data, config=config.model_copy(update={"unknown_by": "belief"})), right
    )
    assert not none.known and belief_share(none) == config.unknown_share


def test_a_saved_model_says_the_same_when_it_is_loaded(run: Path, sample, tmp_path: Path):
    model = DiagnosisPredictor.load(run)
    save_model(tmp_path, model.network, model.contract)
    again = DiagnosisPredictor.load(tmp_path)
    assert again.contract == model.contract
    assert again.predict(sample) is not model.predict(sample)
    assert again.predict(sample).probabilities == model.predict(sample).probabilities


def test_altered_weights_and_the_other_wings_models_are_refused(run: Path, tmp_path: Path):
    for name in ("weights.safetensors", "contract.json"):
        (tmp_path / name).write_bytes((run / "model" / name).read_bytes())
    with pytest.raises(ArtifactError, match="a detector was expected"):
        load_detector(tmp_path)
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match="altered"):
        load_model(tmp_path)
    with pytest.raises(ArtifactError, match="not a model's folder"):
        DiagnosisPredictor.load(tmp_path / "nothing")


@pytest.mark.parametrize("stage", [ContrastTraining, ClassTraining])
def test_a_run_killed_in_the_middle_ends_the_same(
    store: RecordingStore, run: Path, tmp_path: Path, monkeypatch, stage
):
    step = stage.training_step

    def killed(self, batch, number):
        if self.current_epoch == 1 and number == 1:
            raise RuntimeError("killed")
        return step(self, batch, number)

    config = DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY)
    monkeypatch.setattr(stage, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(config)
    monkeypatch.setattr(stage, "training_step", step)
    train(config)
    whole, parts = (
        (folder / "model/weights.safetensors").read_bytes() for folder in (run, tmp_path)
    )
    assert whole == parts


def test_a_spent_budget_leaves_a_usable_model(store: RecordingStore, sample, tmp_path: Path):
    settings = TINY | {"pretrain_epochs": 500, "epochs": 500, "minutes": 1e-3}
    config = DiagnosisConfig.make(data=store.path, out=tmp_path, **settings)
    learned = train(config)
    assert learned.minutes < 1
    assert DiagnosisPredictor.load(tmp_path).predict(sample).kind is not None
    with pytest.raises(ConfigurationError, match=r"other settings \(epochs"):
        train(DiagnosisConfig.make(data=store.path, out=tmp_path, **settings | {"epochs": 3}))


def test_a_table_of_pictures_with_its_own_split_is_learned_from(
    store: RecordingStore, tmp_path: Path
):
    lines = ["image,kind,session,split"]
    for number, ref in enumerate(store.refs):
        split = "train" if int(digest(ref.group["session"]), 16) % 2 else "val"
        image = Path(ref.source)
        assert image.is_file()
        kind = ("weak", "strong")[number % 2]
        lines.append(f"{image},{kind},{ref.group['session']},{split}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    settings = TINY | {"modalities": "image", "split_by": "given", "pretrain_epochs": 0}
    config = DiagnosisConfig.make(
        data=tmp_path / "table.csv", out=tmp_path / "run", cache=tmp_path, **settings
    )
    train(config)
    model = DiagnosisPredictor.load(tmp_path / "run")
    assert model.contract.kinds == ("strong", "weak")
    said = model.predict(store.load(store.refs[0]))  # its series is no concern of this model
    assert set(said.opinions) == {"image"}
    assert said.notes == ()


def test_calibration_turns_no_more_right_diagnoses_away_than_it_may():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    logits = {
        key: 4 * np.eye(3)[labels] + rng.standard_normal((200, 3))
        for key in ("image+series", "image", "series")
    }
    logits["image"][:20] = np.nan
    temperatures, thresholds = calibrate(logits, labels, share=0.1)
    assert all(0.5 <= t <= 10 for t in temperatures.values())
    assert all(0 < t < 1 for t in thresholds.values())
    _, lenient = calibrate(logits, labels, share=0.0)
    assert all(lenient[key] <= thresholds[key] for key in thresholds)


@pytest.mark.parametrize("per_cycle", [50, 128])
def test_a_recorder_of_any_rate_can_be_learned_from_quickly(tmp_path: Path, per_cycle: int):
    rng = np.random.default_rng(0)
    lines = ["series,label,session,frequency,samples_per_cycle"]
    for number in range(12):
        name = f"{number}.npy"
        np.save(tmp_path / name, rng.integers(0, 50, (1, 400 * per_cycle)).astype(np.uint8))
        lines.append(f"{name},{number % 2},s{number},50,{per_cycle}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    settings = {"preset": "quick", "shares": (0.5, 0.5, 0.0), "modalities": "series", "batch": 2}
    config = DiagnosisConfig.make(
        data=tmp_path / "table.csv", out=tmp_path, cache=tmp_path / "cache", **settings
    )
    data = open_data(config)
    # Peaks are held in bins, so that every recorder has the same form.
    assert data.form.samples_per_cycle == 128 and data.form.series.excess
    (batch,) = next(iter(data.loader("classify")))
    assert batch.series.shape[2] % data.form.segment == 0
    assert torch.isfinite(batch.series).all()


@pytest.mark.parametrize(("spent", "left"), [(30.0, 0.5), (600.0, 0.05), (0.0, 1.0)])
def test_the_preparation_is_of_the_budget(spent, left, tmp_path):
    from chiasm.diagnosis import train as module

    @dataclass(frozen=True)
    class Data:
        config: DiagnosisConfig

    config = DiagnosisConfig.make(data=tmp_path, out=tmp_path, minutes=1.0)
    data = Data(config)
    kept = module._within_budget(data, seconds=spent)
    assert kept.config.minutes == pytest.approx(left)
    free = Data(config.model_copy(update={"minutes": None}))
    assert module._within_budget(free, seconds=spent) is free
