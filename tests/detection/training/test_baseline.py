"""Training of baselines: features stay on disk, and each stage shows how far it has come."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F

from chiasm.detection.detector import Baseline, FitStep
from chiasm.detection.preparation.batch import to_batch
from chiasm.detection.training import baseline as training
from chiasm.detection.training.baseline import BaselineFeatures, train_in_steps
from chiasm.detection.training.feature_store import FEATURES
from chiasm.files.rows import RowFile
from chiasm.training.progress import Progress

MANY = 6  # times the parts, so that there are several batches


class Pooled(Baseline):
    """Means of colour and of number, in several types and with the channels last."""

    modalities = ("rgb",)
    steps = (FitStep("first"), FitStep("second"))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.zeros(0))
        self.alive: set[int] = set()
        self.most = 0

    def extract_features(self, batch):
        small = F.avg_pool2d(batch.rgb, 4)
        self.alive.add(id(small))
        weakref.finalize(small, self.alive.discard, id(small))
        self.most = max(self.most, len(self.alive))
        return {
            "small": small,
            "last": small.contiguous(memory_format=torch.channels_last),
            "inside": small[:, 0] > 0.1,
            "half": small.half(),
            "number": batch.index,
        }

    def partial_fit(self, step, features, index):
        assert torch.equal(features["number"], index)
        self.numbers = torch.cat([self.numbers, index.float()])

    def finish_fit(self, step):
        pass


@pytest.fixture
def many(parts):
    return parts * MANY


@pytest.fixture
def shown(monkeypatch):
    """Stages that were shown, with their counts and totals."""
    stages = []

    class Recorded(Progress):
        def close(self, *, summary=False):
            stages.append((self.stage, self.count, self.total))
            super().close(summary=summary)

    monkeypatch.setattr(training, "Progress", Recorded)
    return stages


def test_features_on_disk_are_those_that_were_extracted(many, scale, tmp_path):
    built = Pooled()
    features = BaselineFeatures.build(
        built, many, scale=scale, path=tmp_path / "rows.bin", owners=range(len(many))
    )
    batch = to_batch(many, scale, modalities=("rgb",), indices=range(len(many)))
    expected = built.extract_features(batch)
    positions = [7, 0, len(many) - 1]
    stored = features.collate(positions)
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        assert stored[name].dtype == value.dtype
        assert torch.equal(stored[name], value[positions])


def test_features_of_a_batch_alone_are_in_memory(many, scale, tmp_path):
    built = Pooled()
    train_in_steps(built, many, scale=scale, folder=tmp_path)
    assert built.most <= 2  # the last one and the next, of several batches
    assert built.numbers.tolist() == list(range(len(many))) * 2


def test_every_pass_over_the_parts_is_shown(many, scale, tmp_path, shown):
    train_in_steps(Pooled(), many, scale=scale, folder=tmp_path)
    stages = ("Extracting features", "Fitting (first)", "Fitting (second)")
    assert shown == [(stage, len(many), len(many)) for stage in stages]


def test_features_are_removed_at_the_end(many, scale, tmp_path, monkeypatch):
    paths = []
    append = RowFile.append

    def noted(rows, values):
        append(rows, values)
        paths.append(rows.path)
        assert rows.path.exists()

    monkeypatch.setattr(RowFile, "append", noted)
    train_in_steps(Pooled(), many, scale=scale, folder=tmp_path)
    assert len(set(paths)) == 1
    assert tmp_path / FEATURES in paths[0].parents
    assert not list((tmp_path / FEATURES).iterdir())
