"""Batches of recordings: complete, repeatable and cached."""

from __future__ import annotations

import pytest
import torch

from chiasm.diagnosis.augmentation.views import ViewSettings
from chiasm.diagnosis.classifier import MODALITIES
from chiasm.diagnosis.preparation.network_inputs import RecordingForm
from chiasm.diagnosis.preparation.scales import SeriesScale
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.training.dataset import Recordings, recording_loader


def test_batches_are_the_same_for_the_same_epoch_and_hold_everything_once(store: RecordingStore):
    form = RecordingForm(32, 1, 128, 256, SeriesScale(full=100.0), seconds=0.5)
    dataset = Recordings(
        store, store.refs, form, modalities=MODALITIES, views=ViewSettings(), count=2, seed=5
    )
    loader = recording_loader(dataset, batch=6, shuffle=True)

    def epoch(number: int):
        loader.sampler.set_epoch(number)
        return [(view.label, view.image, view.series) for views in loader for view in views]

    first, again, other = epoch(0), epoch(0), epoch(1)
    assert len(first) == 2 * len(loader)
    for one, same in zip(first, again):
        assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert sum(len(labels) for labels, _, _ in first) == 2 * len(store.refs)
    assert not torch.equal(first[0][2], first[1][2])  # two views of one recording
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other))


@pytest.mark.parametrize("views", [ViewSettings(), None], ids=["views", "plain"])
def test_what_is_kept_between_epochs_changes_nothing(
    store: RecordingStore, monkeypatch: pytest.MonkeyPatch, views: ViewSettings | None
):
    form = RecordingForm(32, 1, 128, 60, SeriesScale(full=100.0))
    kept = Recordings(store, store.refs, form, modalities=MODALITIES, views=views)
    monkeypatch.setattr("chiasm.diagnosis.training.dataset.CACHE_BYTES", 0)
    fresh = Recordings(store, store.refs, form, modalities=MODALITIES, views=views)
    for epoch in (0, 0, 1):
        (one,), (other,) = kept[epoch, range(6)], fresh[epoch, range(6)]
        assert torch.equal(one.image, other.image) and torch.equal(one.series, other.series)
    decoded = []
    monkeypatch.setattr(type(store), "image", lambda self, ref: decoded.append(ref))
    kept[1, range(6)]
    assert not decoded
    fresh[1, range(6)]
    assert len(decoded) == 6
