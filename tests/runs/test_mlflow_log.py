"""A run in MLflow: what is logged, once and again, and what is refused before the work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chiasm.cli.main import app
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.runs.mlflow_log import REMEMBERED, contracts_of_run, log_to_mlflow

CURVE = {0: 0.9, 1: 0.5, 2: 0.25}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a training leaves behind, and an evaluation."""
    folder = tmp_path / "run"
    for place in ("model", "logs/train", "logs/search", "report/figures"):
        (folder / place).mkdir(parents=True)
    (folder / "config.yaml").write_text("model: adnas_light\nsearch:\n  epochs: 3\nlamp: null\n")
    contract = {"wing": "detector", "method": "adnas_light"}
    (folder / "model/contract.json").write_text(json.dumps(contract))
    lines = ["epoch,step,train_loss,validation_ap"]
    for epoch, loss in CURVE.items():
        lines += [f"{epoch},{10 * epoch + 4},{loss + 1},", f"{epoch},{10 * epoch + 9},{loss},"]
        lines.append(f"{epoch},{10 * epoch + 9},,{1 - loss}")
    (folder / "logs/train/metrics.csv").write_text("\n".join(lines) + "\n")
    (folder / "logs/search/metrics.csv").write_text("epoch,step,train_loss\n0,4,nan\n")
    figures = {"image": {"auroc": {"value": 0.75, "low": 0.5}, "ap": {"value": None}}, "schema": ""}
    (folder / "report/metrics.json").write_text(json.dumps(figures))
    (folder / "report/figures/map.png").write_bytes(b"png")
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'chiasm[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_settings_curves_report_and_contract_are_logged_once(run: Path, store: str):
    from mlflow.tracking import MlflowClient

    name = log_to_mlflow(run, experiment="parts")
    client = MlflowClient(store)
    logged = client.get_run(name)
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {"model": "adnas_light", "search.epochs": "3", "lamp": "null"}
    assert logged.data.tags["chiasm.wing"] == "detection"
    curve = {m.step: m.value for m in client.get_metric_history(name, "train/train_loss")}
    assert curve == CURVE
    assert logged.data.metrics["train/validation_ap"] == 0.75
    assert logged.data.metrics["report/image/auroc"] == 0.75
    assert not {"search/train_loss", "report/image/ap"} & set(logged.data.metrics)
    listed = {
        f.path for place in ("", "model", "report") for f in client.list_artifacts(name, place)
    }
    assert listed >= {"config.yaml", "model/contract.json", "report/metrics.json", "report/figures"}

    figures = {"image": {"auroc": {"value": 0.875}}}
    (run / "report/metrics.json").write_text(json.dumps(figures))
    assert log_to_mlflow(run, experiment="parts") == name
    assert client.get_run(name).data.metrics["report/image/auroc"] == 0.875
    assert len(client.get_metric_history(name, "train/train_loss")) == len(CURVE)
    # Another model, another experiment and a run that was deleted there are another run.
    others = {name, log_to_mlflow(run, experiment="others")}
    (run / "model/contract.json").write_text('{"wing": "classifier", "method": "mad_small"}')
    others.add(last := log_to_mlflow(run, experiment="others"))
    client.delete_run(last)
    others.add(log_to_mlflow(run, experiment="others"))
    assert len(others) == 4
    shutil.rmtree(run / "report")  # as before an evaluation
    log_to_mlflow(run, experiment="others")


def test_what_is_no_run_is_refused(run: Path):
    for folder in (run / "model", run / "absent"):
        with pytest.raises(ArtifactError, match="holds no trained run"):
            contracts_of_run(folder)
        with pytest.raises(ArtifactError, match="Name the folder that 'chiasm train' wrote"):
            log_to_mlflow(folder)
    assert not (run / REMEMBERED).exists()


def test_mlflow_that_is_absent_is_named_before_a_training(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    monkeypatch.setitem(__import__("sys").modules, "mlflow.exceptions", None)
    words = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--mlflow", "parts"]
    ended = CliRunner().invoke(app, words)
    assert isinstance(ended.exception, ModuleNotFoundError)
    assert (ended.exception.name or "").startswith("mlflow")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_a_store_that_cannot_be_used_is_said_with_its_address(run: Path, store: str):
    with pytest.raises(
        ConfigurationError, match=r"nowhere://here could not be used: .*log it again"
    ):
        log_to_mlflow(run, uri="nowhere://here")
