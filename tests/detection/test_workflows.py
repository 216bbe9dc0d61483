"""A run end to end, in small size: files, search, training, report, verdicts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import chiasm
from chiasm.cli.main import app
from chiasm.detection import score_rule
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import load_model
from chiasm.detection.evaluate import evaluate
from chiasm.detection.fusion_search.fixed_fusion import FinalistTrainer
from chiasm.detection.layers.image_score import ImageScoreRule, Term
from chiasm.detection.predict import predict
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.score_rule import ImageRuleChoice
from chiasm.detection.train import train
from chiasm.detection.training.search import FusionSearch
from chiasm.detection.training.segment import SegmentationTraining
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError, DataError
from chiasm.runs.run_folder import record_data_hash

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TINY = {
    "image_size": 64,
    "rotate": False,
    "rounds": 1,
    "train_epochs": 1,
    "batch": 4,
    "memory_entries": 1000,
    "false_alarm_rate": 0.25,
    "search": {"epochs": 1, "finalists": 2, "final_epochs": 1, "final_steps": 1},
}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    make_scenes(
        folder,
        products=("flange",),
        train=10,
        validation=4,
        test_good=2,
        test_per_defect=1,
        size=96,
    )
    return folder / "flange"


@pytest.fixture(scope="session")
def run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "frozen"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHIASM_CACHE", str(out / "cache"))
        train(DetectionConfig.make(data=parts, out=out, **TINY))
    return out


def test_a_run_writes_a_model_that_predicts_from_arrays(run: Path, parts: Path):
    from chiasm.files.images import read_rgb, read_xyz

    rgb = read_rgb(parts / "test/good/rgb/000.png")
    xyz = read_xyz(parts / "test/good/xyz/000.tiff")
    model = chiasm.load(str(run))
    verdict = model(rgb, xyz)
    assert 0 < verdict.p_value <= 1
    assert verdict.anomaly_map is not None
    assert verdict.anomaly_map.scores.shape == rgb.shape[:2]
    assert verdict.score == model(rgb, xyz).score


def test_a_genotype_is_written_as_file_and_drawing(run: Path):
    assert json.loads((run / "genotype.json").read_text())["provenance"]["seed"] == 0
    assert (run / "genotype.svg").exists()
    assert (run / "genotype.png").exists()


def test_evaluation_writes_a_self_contained_report(run: Path, parts: Path, tmp_path: Path):
    metrics = evaluate(run, data=parts, out=tmp_path)
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics) >= {"image", "pixel", "object", "region", "trivial", "cost"}
    assert 0 <= metrics["region"]["aupro"]["0.3"]["value"] <= 1
    page = (tmp_path / "report.html").read_text()
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert "defective parts" in page


def test_a_broken_sample_is_reported_and_the_others_are_predicted(
    run: Path, parts: Path, tmp_path: Path
):
    folder = tmp_path / "new"
    for role in ("rgb", "xyz"):
        (folder / role).mkdir(parents=True)
        for path in sorted((parts / "test/good" / role).iterdir()):
            (folder / role / path.name).write_bytes(path.read_bytes())
    (folder / "xyz" / "000.tiff").write_bytes(b"not a picture")
    verdicts = predict(run, folder, out=tmp_path / "out")
    assert [bool(v.error) for v in verdicts] == [True, False]
    assert "000.tiff" in verdicts[0].error
    rows = list(csv.DictReader((tmp_path / "out/verdicts.csv").read_text().splitlines()))
    assert [row["picture"] != "" for row in rows] == [False, True]
    assert [p.name for p in (tmp_path / "out").glob("*.png")] == [rows[1]["picture"]]


def test_heat_maps_of_an_earlier_prediction_are_removed(run: Path, parts: Path, tmp_path: Path):
    rgb, xyz = parts / "test/good/rgb/000.png", parts / "test/good/xyz/000.tiff"
    predict(run, rgb, xyz=xyz, out=tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 1
    (tmp_path / "mine.png").write_bytes(b"of a user")
    (tmp_path / "bad.tiff").write_bytes(b"not a point map")
    with pytest.raises(DataError, match="None of the 1 parts could be evaluated"):
        predict(run, rgb, xyz=tmp_path / "bad.tiff", out=tmp_path)
    assert [p.name for p in tmp_path.glob("*.png")] == ["mine.png"]


def test_points_in_millimetres_are_refused(run: Path, parts: Path):
    from chiasm.files.images import read_rgb, read_xyz

    model = chiasm.load(str(run))
    nearest, farthest = model.contract.distance
    assert 0.1 < nearest <= farthest < 2
    rgb, xyz = (parts / f"test/good/{name}" for name in ("rgb/000.png", "xyz/000.tiff"))
    for times, words in ((1000, "millimetres"), (30, "metres away at training")):
        with pytest.raises(DataError, match=words):
            model(read_rgb(rgb), read_xyz(xyz) * np.float32(times))


def test_an_interrupted_run_continues_and_ends_the_same(run: Path, parts: Path, tmp_path: Path):
    (tmp_path / "again").mkdir()
    config = DetectionConfig.make(data=parts, out=tmp_path / "again", **TINY)
    train(config)
    first = (tmp_path / "again/model/weights.safetensors").read_bytes()
    assert first == (run / "model/weights.safetensors").read_bytes()
    (tmp_path / "again/model/contract.json").unlink()
    train(config)  # search and training are done: only calibration is left
    assert (tmp_path / "again/model/weights.safetensors").read_bytes() == first


@pytest.mark.parametrize("stage", [FusionSearch, SegmentationTraining])
def test_a_run_killed_in_an_epoch_ends_the_same(parts: Path, tmp_path: Path, monkeypatch, stage):
    search = TINY["search"] | {"epochs": 3, "finalists": 1}
    settings = TINY | {"search": search, "train_epochs": 3, "batch": 2, "data": parts}
    train(DetectionConfig.make(out=tmp_path / "whole", **settings))
    step = stage.training_step

    def killed(self, batch, number):
        if self.current_epoch == 2 and number == 1:
            raise RuntimeError("killed")
        return step(self, batch, number)

    cut = DetectionConfig.make(out=tmp_path / "cut", **settings)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(stage, "training_step", killed)
        train(cut)
    resumed = []
    monkeypatch.setattr(
        stage,
        "on_train_epoch_start",
        lambda self, start=stage.on_train_epoch_start: (
            resumed.append(self.current_epoch),
            start(self),
        ),
    )
    train(cut)
    assert resumed[0] == 2
    for name in ("genotype.json", "model/weights.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_takes_a_single_run(run: Path, parts: Path):
    settings = TINY | {"learning_rate": 0.1, "train_epochs": 2}
    with pytest.raises(ConfigurationError, match=r"other settings \(learning_rate\)"):
        train(DetectionConfig.make(data=parts, out=run, **settings))
    with pytest.raises(ConfigurationError, match="other training parts"):
        record_data_hash(run, "0" * 64)
    assert json.loads((run / "genotype.json").read_text())["provenance"]["seed"] == 0


def test_ctrl_c_is_raised_and_the_last_epoch_is_saved(parts: Path, tmp_path: Path, monkeypatch):
    step = SegmentationTraining.training_step

    def pressed(self, batch, number):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, number)

    config = DetectionConfig.make(
        data=parts, out=tmp_path, fusion="concatenation", **TINY | {"train_epochs": 2}
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SegmentationTraining, "training_step", pressed)
        train(config)
    assert (tmp_path / "checkpoints/train/last.ckpt").exists()


@pytest.mark.parametrize("fusion", ["concatenation", "random"])
@pytest.mark.parametrize("modalities", ["rgb,geometry", "geometry"])
def test_other_fusions_and_single_sensors_train(parts: Path, tmp_path: Path, fusion, modalities):
    config = DetectionConfig.make(
        data=parts, out=tmp_path, fusion=fusion, modalities=modalities, **TINY
    )
    train(config)
    assert chiasm.load(str(tmp_path)).contract.modalities == tuple(modalities.split(","))


@pytest.mark.parametrize("hand_made_ap", [0.0, 1.0])
def test_the_better_of_searched_and_hand_made_fusion_is_taken(
    parts: Path, tmp_path: Path, monkeypatch, hand_made_ap: float
):
    def train_finalist(self, training):
        return {
            "steps": training.epochs * len(self.data.loader("train")),
            "validation_ap": hand_made_ap if training.fusion == "concatenation" else 0.5,
        }

    monkeypatch.setattr(FinalistTrainer, "__call__", train_finalist)
    result = train(DetectionConfig.make(data=parts, out=tmp_path, fusion="best", **TINY))
    assert (result.genotype is None) == bool(hand_made_ap)
    assert (tmp_path / "genotype.json").exists() != bool(hand_made_ap)
    contract = json.loads((tmp_path / "model" / "contract.json").read_text())
    assert contract["fusion"] == ("concatenation" if hand_made_ap else "genotype")
    finalists = json.loads((tmp_path / "finalists.json").read_text())
    assert [finalist["cells"] for finalist in finalists].count("concatenation") == 1


@pytest.mark.parametrize("settings", [{"fusion": "concatenation"}, {"model": "pixel_gaussian"}])
def test_the_rule_of_the_image_s_score_is_chosen_and_recorded(
    parts: Path, tmp_path: Path, monkeypatch, settings
):
    rule = ImageScoreRule((Term("top_share", 0.02),))
    seen = []

    def choose(statistics, labels, *, groups, link, seed):
        seen.append((labels, groups, link))
        return ImageRuleChoice(rule, "top_share 2%", {"chosen": "top_share 2%"})

    monkeypatch.setattr(score_rule, "choose_image_rule", choose)
    train(DetectionConfig.make(data=parts, out=tmp_path, image_score="chosen", **TINY | settings))
    predictor = chiasm.load(str(tmp_path))
    assert predictor.contract.image_score == predictor.detector.image_rule == rule
    assert "highest 2.00%" in predictor.contract.score_rule
    record = json.loads((tmp_path / "score_rule.json").read_text())["image_score"]
    [(labels, groups, link)] = seen
    # Each part stands once without an anomaly, and with some.
    assert len(set(groups[labels == 0])) == (labels == 0).sum()
    assert set(groups[labels == 1]) <= set(groups[labels == 0])
    baseline = "model" in settings
    assert (record["parts"], link) == (
        ("calibration", "identity") if baseline else ("held out", "softplus")
    )


def test_a_method_with_its_own_image_score_keeps_it(parts: Path, tmp_path: Path, capsys):
    config = DetectionConfig.make(
        data=parts, out=tmp_path, model="brightness", modalities="rgb", image_score="chosen"
    )
    train(config)
    assert chiasm.load(str(tmp_path)).contract.image_score == ImageScoreRule()
    assert "score of its own" in " ".join(capsys.readouterr().out.split())


def test_the_slim_published_method_trains(parts: Path, tmp_path: Path):
    config = DetectionConfig.make(data=parts, out=tmp_path, model="adnas_slim", **TINY)
    result = train(config)
    assert np.isfinite(result.validation_ap)
    chiasm.load(str(tmp_path))


def test_altered_weights_are_refused(run: Path, tmp_path: Path):
    for name in ("weights.safetensors", "contract.json", "genotype.json"):
        (tmp_path / name).write_bytes((run / "model" / name).read_bytes())
    load_model(tmp_path)
    raw = bytearray((tmp_path / "weights.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(bytes(raw))
    with pytest.raises(ArtifactError, match="altered"):
        load_model(tmp_path)
    (tmp_path / "genotype.json").unlink()
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no weights"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("rgb", "xyz", "word"),
    [
        (None, None, "neither"),
        (np.zeros((8, 8, 3)), np.zeros((9, 8, 3)), "same pixels"),
        (np.zeros((8, 8, 5)), None, "shape"),
        (np.full((8, 8, 3), 255.0), None, "255"),
        (np.zeros((64, 64, 3)), None, "no geometry"),
        (None, np.ones((64, 64, 3)), "no rgb"),
        (np.zeros((8, 8, 3)), np.ones((8, 8, 3)), "at least 16"),
        (np.zeros((64, 64, 3)), np.full((64, 64, 3), np.nan), "missing"),
        (np.zeros((64, 64, 3)), np.zeros((64, 64, 3)), "missing"),
    ],
)
def test_wrong_arrays_are_refused_with_a_reason(run: Path, rgb, xyz, word):
    with pytest.raises(DataError, match=word):
        chiasm.load(str(run))(rgb, xyz)


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match="image_size"):
        DetectionConfig.make(data="x", out="y", image_size=100)
    with pytest.raises(ConfigurationError, match="colour"):
        DetectionConfig.make(data="x", out="y", overrides=["colour=blue"])
    with pytest.raises(ConfigurationError, match="key=value"):
        DetectionConfig.make(data="x", out="y", overrides=["blue"])


def test_a_saved_configuration_is_the_same(tmp_path: Path):
    config = DetectionConfig.make(
        data="x", out=tmp_path, overrides=["modalities=geometry", "seed=3"]
    )
    config.save(tmp_path / "config.yaml")
    assert DetectionConfig.make(file=tmp_path / "config.yaml") == config


def test_the_command_line_lists_models_and_refuses_nonsense(tmp_path: Path):
    runner = CliRunner()
    result = runner.invoke(app, ["models"])
    assert "adnas_paper" in result.output
    failed = runner.invoke(app, ["predict", str(tmp_path), str(tmp_path)])
    assert isinstance(failed.exception, ChiasmError)


def test_the_command_line_makes_and_checks_data(tmp_path: Path):
    runner = CliRunner()
    counts = ["--train", "2", "--validation", "1", "--test-good", "1", "--test-per-defect", "1"]
    made = runner.invoke(app, ["data", "make", str(tmp_path), "--size", "64", *counts])
    assert made.exit_code == 0, made.output
    folder = made.output.split()[0]
    checked = runner.invoke(app, ["data", "check", folder, "--strict"])
    assert checked.exit_code == 0, checked.output
    assert "Distance from the camera by z: 0." in checked.output
    next(Path(folder).rglob("*.tiff")).unlink()
    assert runner.invoke(app, ["data", "check", folder]).exit_code == 0
    assert runner.invoke(app, ["data", "check", folder, "--strict"]).exit_code == 1
