"""Commands that take exported folders as they take runs, and exports that overwrite nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from chiasm import api
from chiasm.cli.main import app
from chiasm.deploy.export import export
from chiasm.deploy.whole_folder import check_free
from chiasm.diagnosis.predictor import DiagnosisPredictor
from chiasm.diagnosis.readers.opening import open_store
from chiasm.diagnosis.scoring import score_recordings
from chiasm.diagnosis.simulator.simulator import make_recordings
from chiasm.errors import ArtifactError, ConfigurationError
from chiasm.metrics.classification import macro_f1


def rows(folder: Path, name: str = "verdicts") -> list[dict]:
    return json.loads((folder / f"{name}.json").read_text())


def test_an_exported_detector_predicts_and_is_evaluated_as_its_run(
    detector: Path, detector_run: Path, parts: Path, tmp_path: Path
):
    copy, said = shutil.copytree(detector, tmp_path / "gland"), {}
    for name, model in (("exported", copy), ("run", detector_run)):
        words = ["predict", str(model), str(parts), "--out", str(tmp_path / name)]
        ended = CliRunner().invoke(app, [*words, "--maps", "npy", "--masks", "--coco"])
        assert ended.exit_code == 0, ended.output
        # Parts of the training are at no distance from themselves but rounding.
        said[name] = [row for row in rows(tmp_path / name) if "train" not in row["source"]]
    assert len(said["run"]) == len(said["exported"]) > 5
    for one, other in zip(said["exported"], said["run"], strict=True):
        for name in ("score", "threshold", "p_value"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)
        assert one["defective"] == other["defective"]
        maps = [np.load(tmp_path / n / row["map"]) for n, row in zip(said, (one, other))]
        np.testing.assert_allclose(*maps, rtol=1e-2, atol=1e-3)
    pictures = [row["picture"] for row in rows(tmp_path / "exported")]
    assert len({*pictures}) == len(pictures) == len([*(tmp_path / "exported").glob("*.png")])
    tested = [row for row in said["exported"] if "/test/" in row["source"]]
    metrics = api.evaluate(copy, data=parts)
    labels = ["/good/" not in row["source"] for row in tested]
    expected = roc_auc_score(labels, [row["score"] for row in tested])
    assert metrics["image"]["auroc"]["value"] == pytest.approx(expected)
    assert (tmp_path / "gland_report/report.html").is_file()
    assert sorted(p.name for p in copy.iterdir()) == sorted(p.name for p in detector.iterdir())


def test_an_exported_classifier_diagnoses_a_folder_as_its_run(
    classifier: Path, classifier_run: Path, store, tmp_path: Path
):
    for name, model in (("exported", classifier), ("run", classifier_run)):
        api.predict(model, store.path, out=tmp_path / name, pictures=False)
    said, expected = (rows(tmp_path / name, "diagnoses") for name in ("exported", "run"))
    # Where evidence is just enough for a class, the threshold of an export may differ by rounding.
    columns = [name for name in expected[0] if name.startswith("p_")]
    for one, other in zip(said, expected, strict=True):
        assert [one[c] for c in columns] == pytest.approx([other[c] for c in columns], abs=1e-4)
    new = tmp_path / "new"
    new.mkdir()
    make_recordings(new, count=10, sessions=5, seed=8, workers=1)
    metrics = api.evaluate(classifier, data=new, out=tmp_path / "report", most_corrupted=0)
    unseen = open_store(new, cache=tmp_path / "cache")
    scored = score_recordings(DiagnosisPredictor.load(classifier_run), unseen, unseen.refs)
    decided = scored.logits.argmax(axis=1)
    trained = macro_f1(scored.labels, decided, len(scored.kinds))
    assert metrics["recording"]["macro_f1"]["value"] == pytest.approx(trained, abs=1e-4)
    with pytest.raises(ConfigurationError, match="cannot be trained again"):
        api.evaluate(classifier, data=new, splits=("random",))


def test_an_export_overwrites_nothing_in_silence(detector_run: Path, detector: Path, tmp_path):
    before = (detector / "deployment.json").read_bytes()
    with pytest.raises(ArtifactError, match=r"holds an exported model already.*--force"):
        export(detector_run, detector)
    assert (detector / "deployment.json").read_bytes() == before
    copy = shutil.copytree(detector, tmp_path / "copy")
    check_free(copy, force=True)
    check_free(tmp_path / "new", force=False)
    (copy / "deployment.json").unlink()
    with pytest.raises(ArtifactError, match="holds no exported model"):
        check_free(copy, force=True)
    with pytest.raises(ArtifactError, match="is a file"):
        check_free(copy / "MODEL_CARD.md", force=True)
    ended = CliRunner().invoke(app, ["export", str(detector_run), "--out", str(detector)])
    assert isinstance(ended.exception, ArtifactError)


def test_the_exit_status_says_whether_all_were_judged(detector: Path, parts: Path, tmp_path: Path):
    folder = tmp_path / "parts"
    for role in ("rgb", "xyz"):
        shutil.copytree(parts / f"test/good/{role}", folder / role)
    words = ["predict", str(detector), str(folder), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    (next((folder / "rgb").iterdir())).write_bytes(b"no picture")
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 3, ended.output
    failed = [row for row in rows(tmp_path / "out") if row["error"]]
    assert len(failed) == 1 and "cannot be decoded" in failed[0]["error"]
