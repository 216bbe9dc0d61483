"""The command line of the second wing: train, evaluate and predict recordings."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import chiasm
from chiasm.api import make_config, predict, wing
from chiasm.cli.main import app
from chiasm.diagnosis.evaluate import _files, evaluate
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.source import RecordingRef
from chiasm.errors import ConfigurationError, DataError, SplitError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SETTINGS = [
    "image_size=32",
    "seconds=0.5",
    "windows=1",
    "shares=[0.4,0.2,0.4]",
    "pretrain_epochs=1",
    "epochs=1",
    "batch=6",
    "precision=32-true",
]


def call(*words: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("line")
    data, run = folder / "data", folder / "run"
    call("data", "make", data, "--recordings", 30, "--sessions", 15)
    cache = f"cache={folder / 'cache'}"
    call("train", "--data", data, "--out", run, "--model", "mad_small", *SETTINGS, cache)
    return data, run


def test_evaluation_judges_unseen_sessions_and_says_that_data_are_simulated(trained):
    data, run = trained
    metrics = evaluate(run, data=data, most_corrupted=5)
    split = json.loads((run / "split.json").read_text())
    assert metrics["counts"]["judged"] == len(split["test"]) > 0
    assert metrics["simulated"] is True
    assert set(metrics["missing"]) and set(metrics["trivial"]) and set(metrics["corruptions"])
    page = (run / "report/report.html").read_text()
    assert "simulator scores prove software" in page.lower()
    assert json.loads((run / "report/metrics.json").read_text())["wing"] == "classifier"


def test_prediction_writes_a_row_each_and_goes_on_after_a_broken_file(trained, tmp_path: Path):
    data, run = trained
    new = tmp_path / "new"
    shutil.copytree(data, new)
    broken = sorted(new.rglob("*.csv"))[0]
    broken.write_text("1,2,three\n")
    # The status says that not all were diagnosed.
    call("predict", run, new, "--out", tmp_path / "said", "--no-pictures", status=3)
    rows = table(tmp_path / "said/diagnoses.csv")
    assert len(rows) == 30
    failed = [row for row in rows if row["error"]]
    assert len(failed) == 1 and broken.name in failed[0]["error"]
    kinds = DiagnosisPredictor.load(run).contract.kinds
    assert all(row["kind"] in {*kinds, "unknown"} for row in rows if not row["error"])


def test_a_loaded_model_is_of_its_wing(trained):
    _, run = trained
    assert isinstance(chiasm.load(str(run)), DiagnosisPredictor)
    assert wing(run) == "classifier"
    assert wing(run / "nowhere") == "detector"


def test_data_that_were_trained_on_are_not_judged(trained, tmp_path: Path):
    data, run = trained
    shutil.copytree(run / "model", tmp_path / "model")
    seen = set(json.loads((run / "split.json").read_text())["training"])
    only = tmp_path / "data"
    shutil.copytree(data, only)
    for path in list(only.rglob("*.png")):
        if str(data / path.relative_to(only)) not in seen:
            for other in only.rglob(f"{path.stem}.*"):
                other.unlink()
    with pytest.raises(DataError, match="not trained on"):
        evaluate(tmp_path / "model", data=only)


def test_a_model_of_a_random_split_says_why_it_cannot_be_judged_elsewhere(trained, tmp_path: Path):
    data, run = trained
    shutil.copytree(run / "model", tmp_path / "model")
    path = tmp_path / "model/contract.json"
    contract = json.loads(path.read_text())
    contract["split"] |= {"by": "random", "groups_by": "random"}
    path.write_text(json.dumps(contract))
    with pytest.raises(SplitError, match="random split"):
        evaluate(tmp_path / "model", data=data)


def test_settings_follow_the_models_wing(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("model: mad_base\n")
    made = make_config(file=file, data=tmp_path, out=tmp_path)
    assert type(made).__name__ == "DiagnosisConfig"
    assert type(make_config(data=tmp_path, out=tmp_path)).__name__ == "DetectionConfig"
    small = make_config(overrides=["model=mad_small"], data=tmp_path, out=tmp_path, seed=3)
    assert (small.model, small.seed) == ("mad_small", 3)


def test_other_splits_and_classes_left_out_are_trained_beside_the_run(trained, monkeypatch):
    monkeypatch.setattr("chiasm.diagnosis.evaluate.score_corrupted", lambda *_: ({}, []))
    data, run = trained
    call(
        *("evaluate", run, "--data", data, "--out", run / "other"),
        *("--splits", "random,equipment=TFR-CV", "--left-out", "void"),
    )
    metrics = json.loads((run / "other/metrics.json").read_text())
    assert set(metrics["splits"]) == {"session", "random", "equipment=TFR-CV"}
    assert metrics["splits"]["session"]["gap"] is not None
    assert 0 <= metrics["open_set"]["void"]["energy_score"]["auroc"]["value"] <= 1
    beside = run / "beside"
    lists = json.loads((beside / "without_void/split.json").read_text())
    assert not any("void" in source for source in lists["training"] + lists["validation"])
    assert any("void" in source for source in lists["test"])
    alone = json.loads((beside / "split_equipment_TFR-CV/split.json").read_text())
    assert all("TFR-CV" in source for source in alone["test"])
    assert not any("TFR-CV" in source for source in alone["training"] + alone["validation"])


def test_what_cannot_be_trained_beside_a_run_is_said(trained):
    data, run = trained
    with pytest.raises(DataError, match="no class 'arc'"):
        evaluate(run, data=data, left_out=["arc"], most_corrupted=0)
    with pytest.raises(SplitError, match="No recording is of equipment 'nothing'"):
        evaluate(run, data=data, splits=["equipment=nothing"], most_corrupted=0)
    with pytest.raises(ConfigurationError, match="no config"):
        evaluate(run / "model", data=data, splits=["random"], most_corrupted=0)


def test_new_recordings_need_no_labels(trained, tmp_path: Path):
    data, run = trained
    new = tmp_path / "new"
    new.mkdir()
    pictures = sorted(data.rglob("*.png"))[:2]
    for number, picture in enumerate(pictures):
        shutil.copy(picture, new / f"{number}.png")
        shutil.copy(picture.with_suffix(".csv"), new / f"{number}.csv")
    (new / "1.csv").unlink()
    said = call("predict", run, new, "--out", tmp_path / "said")
    rows = table(tmp_path / "said/diagnoses.csv")
    assert [row["error"] for row in rows] == ["", ""]
    assert "series was absent" in rows[1]["notes"]
    assert "60 Hz" in said and "2 recordings" in said
    one = call("predict", run, new / "0.png", "--series", new / "0.csv", "--out", tmp_path / "one")
    alone = table(tmp_path / "one/diagnoses.csv")
    assert alone == rows[:1]
    assert rows[0]["kind"] in one


def test_no_success_is_reported_where_nothing_was_diagnosed(trained, tmp_path: Path):
    _, run = trained
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"None of the 1 recordings could be evaluated: .*a\.png"):
        predict(run, tmp_path / "bad", out=tmp_path / "said")
    assert "a.png" in (tmp_path / "said/diagnoses.csv").read_text()
    with pytest.raises(ConfigurationError, match="lamp are for models of the other kind"):
        predict(run, tmp_path / "bad", out=tmp_path / "said", lamp=1)


def test_the_file_of_a_series_is_not_called_a_picture():
    names = {name: set(_files(recording_of(name))) for name in ("a.txt", "a.png")}
    assert names == {"a.txt": {"series"}, "a.png": {"image", "series"}}


def recording_of(source: str) -> RecordingRef:
    return RecordingRef(source, {}, 50.0, 128)
