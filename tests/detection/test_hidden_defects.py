"""Suspicious normals are left out of the training, named, and kept in the calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chiasm.detection import hidden_defects, opening
from chiasm.detection.config import DetectionConfig
from chiasm.detection.hidden_defects import suspicion_note
from chiasm.detection.models import named as _registers_detectors  # noqa: F401
from chiasm.detection.opening import open_data
from chiasm.detection.scenes.maker import make_scenes
from chiasm.detection.training.contamination import Suspicion
from chiasm.errors import SplitError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    counts = {"train": 6, "validation": 3, "test_good": 0, "test_per_defect": 0}
    make_scenes(folder, products=("flange",), size=96, **counts)
    return folder / "flange"


@pytest.fixture
def votes(monkeypatch):
    """Let the memories suspect chosen parts; everything else is as in a run."""

    def suspect(*training, calibration=()):
        def vote(source, parts, *, others, **_):
            return [
                [Suspicion(p.source, 16 * (i in wanted), 16, 5.0 + i) for i, p in enumerate(shown)]
                for shown, wanted in ((parts, training), (others, calibration))
            ]

        monkeypatch.setattr(hidden_defects, "vote_on_parts", vote)

    return suspect


def opened(parts: Path, out: Path, **settings):
    given = {"image_size": 64, "rotate": False, "model": "pixel_gaussian", "contamination": 0.1}
    return open_data(DetectionConfig.make(data=parts, out=out, **given | settings))


def test_suspicious_normals_are_left_out_and_named(parts, tmp_path, votes, capsys):
    trusted = opened(parts, tmp_path / "trusted", contamination=0)
    votes(1, 4, calibration=(2,))
    data = opened(parts, tmp_path / "run")
    left = [part.source for part in trusted.parts]
    suspicious = [left[1], left[4]]
    assert [part.source for part in data.parts] == [s for s in left if s not in suspicious]
    assert len(data.split.train) == len(data.owners) == 4
    assert data.training_data != trusted.training_data
    assert len(data.calibration) == len(trusted.calibration) == 3
    record = json.loads((tmp_path / "run/suspicious.json").read_text())
    assert {row["source"] for row in record["left_out_of_training"]} == set(suspicious)
    [kept] = record["kept_in_calibration"]
    assert kept["source"] == data.calibration[2].source
    said = "".join(capsys.readouterr().out.split())
    for source in (*suspicious, kept["source"]):
        assert "".join(source.split()) in said
    note = suspicion_note(tmp_path / "run")
    assert note is not None
    assert all(source in note for source in (*suspicious, kept["source"]))
    assert suspicion_note(tmp_path / "trusted") is None


def test_a_run_without_the_option_looks_for_nothing(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "find_hidden_defects", None)
    assert len(opened(parts, tmp_path, contamination=0).parts) == 6


def test_normals_that_are_nearly_all_suspicious_are_refused(parts, tmp_path, votes):
    votes(0, 1, 2, 3, 4)
    with pytest.raises(SplitError, match="5 of 6 training normals look defective"):
        opened(parts, tmp_path)
