"""Both stages in two processes have the loss curves of one, and shares that count for nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import chiasm.diagnosis.models.named  # noqa: F401  # registers them
from chiasm import api
from chiasm.cli.main import app
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import open_data
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.train import train
from chiasm.diagnosis.training.dataset import UNCOUNTED, BatchOrder, Key, RankOrder
from chiasm.errors import ConfigurationError
from chiasm.training.ranks import Rank
from stub_training import StubCrew

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TINY = {
    "image_size": 32,
    "seconds": 0.5,
    "windows": 2,
    "shares": (0.5, 0.5, 0.0),
    "pretrain_epochs": 2,
    "epochs": 2,
    "batch": 5,
    "precision": "32",
    "flow_weight": 0.01,
    "modality_dropout": 0.3,
}


def curves(out: Path) -> list[float]:
    """All logged figures of both stages, in order."""
    figures = []
    for stage in ("contrast", "classify"):
        with (out / "logs" / stage / "metrics.csv").open() as lines:
            for row in csv.DictReader(lines):
                names = sorted(name for name in row if not name.endswith("entropy"))
                figures += [float(row[name]) for name in names if row[name]]
    return figures


@pytest.mark.timeout(300)
def test_two_workers_have_the_loss_curves_of_one_process(store: RecordingStore, tmp_path: Path):
    given = {"data": store.path, "model": "mad_small", **TINY}
    one = train(DiagnosisConfig.make(out=tmp_path / "one", **given))
    random = torch.rand(2)
    crew = StubCrew(2)
    two = train(DiagnosisConfig.make(out=tmp_path / "two", **given), crew=crew)
    assert crew.rested
    assert torch.equal(torch.rand(2), random)
    expected = curves(tmp_path / "one")
    assert len(expected) > 10
    assert curves(tmp_path / "two") == pytest.approx(expected, rel=1e-4)
    assert two.validation_f1 == one.validation_f1


def test_ranks_divide_the_recordings_of_every_batch(store: RecordingStore, tmp_path: Path):
    config = DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY)
    order = open_data(config).loader("classify").sampler
    assert isinstance(order, BatchOrder)
    for count in (2, 3, 7):
        parts = [order.of_rank(Rank(number, count)) for number in range(count)]
        for part in parts:
            part.set_epoch(3)
        assert {len(part) for part in parts} == {len(order)}
        assert {part.has_empty_shares for part in parts} == {count > order.smallest}
        for whole, *keys in zip(order, *parts):
            assert [key.epoch for key in keys] == [3] * count
            assert [i for key in keys if key.counts for i in key.indices] == list(whole.indices)
            # A rank without recordings computes one all the same, so that all exchange as often.
            assert all(key.indices for key in keys)


def test_a_recording_that_only_keeps_a_rank_in_step_has_no_label(
    store: RecordingStore, tmp_path: Path
):
    data = open_data(DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY)).loader("classify")
    (view,) = data.dataset[Key(0, [1, 2], counts=False)]
    (labelled,) = data.dataset[0, [1, 2]]
    assert view.label.tolist() == [UNCOUNTED] * 2
    assert torch.equal(view.image, labelled.image) and min(labelled.label) >= 0
    assert isinstance(RankOrder(data.sampler, rank=Rank(0, 2)), RankOrder)


def test_a_fitted_classifier_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"fitted in one call.*mad_small"):
        api.train(data=tmp_path, out=tmp_path / "run", model="histogram_lightgbm", workers=2)
    command = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    answer = CliRunner().invoke(app, [*command, "--model", "histogram_lightgbm", "--workers", "2"])
    assert answer.exit_code != 0
    assert not any((tmp_path / "run").iterdir())
