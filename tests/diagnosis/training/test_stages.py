"""The second stage: it can fit, and its best epoch is chosen by each modality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import chiasm.diagnosis.models.named  # noqa: F401  # registers the models
from chiasm.diagnosis.classifier import MODALITIES
from chiasm.diagnosis.config import DiagnosisConfig
from chiasm.diagnosis.datamodule import open_data
from chiasm.diagnosis.preparation.scales import estimate_scale
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.training.classify import ClassTraining
from chiasm.diagnosis.training.dataset import Recordings, recording_loader
from chiasm.metrics.classification import macro_f1
from chiasm.samples import RecordingBatch
from chiasm.training.keep_best import KeepBest
from chiasm.training.trainer import Budget, fit

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


def test_learning_overfits_a_handful(store: RecordingStore, tmp_path: Path):
    config = DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY)
    data = open_data(config)
    network = data.network()
    few = [next(r for r in store.refs if r.label == label) for label in range(5)]
    form = replace(
        data.form, series=estimate_scale((store.counts(r) for r in few), standardised=True)
    )
    budget = Budget(None)
    module = ClassTraining(
        network, budget=budget, epochs=16, learning_rate=1e-3, modality_dropout=0.0
    )
    best = KeepBest(network, metric="validation_loss", mode="min")
    loader = recording_loader(
        Recordings(store, few, form, modalities=MODALITIES), batch=5, shuffle=False
    )
    fit(
        module,
        loader,
        loader,
        folder=tmp_path,
        name="few",
        epochs=16,
        budget=budget,
        gradient_clip=1.0,
        callbacks=[best],
        quiet=True,
    )
    assert best.value < 0.1


def test_the_best_epoch_is_chosen_by_what_may_be_absent(
    store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = DiagnosisConfig.make(data=store.path, out=tmp_path, **TINY)
    data = open_data(config)
    network = data.network().eval()
    (batch,) = next(iter(data.loader("classify_check")))

    def f1(shown: RecordingBatch) -> float:
        with torch.no_grad():
            return macro_f1(shown.label, network(shown).logits.argmax(dim=1), 5)

    whole = f1(batch)
    alone = f1(replace(batch, image=None)), f1(replace(batch, series=None))
    for dropout, expected in ((0.0, whole), (0.5, (whole + sum(alone)) / 3)):
        logged: dict[str, float] = {}
        module = ClassTraining(
            network, budget=Budget(None), epochs=1, learning_rate=1e-3, modality_dropout=dropout
        )
        monkeypatch.setattr(
            module, "log", lambda name, value, into=logged, **_: into.update({name: float(value)})
        )
        with torch.no_grad():
            module.validation_step((batch,), 0)
        module.on_validation_epoch_end()
        assert logged["validation_f1"] == pytest.approx(whole)
        assert logged["validation_score"] == pytest.approx(expected)
