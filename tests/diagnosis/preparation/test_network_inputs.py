"""The arrays of a recording are the same for training, diagnosis and the exported graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.batch import to_batch
from chiasm.diagnosis.preparation.network_inputs import RecordingForm, recording_arrays
from chiasm.diagnosis.preparation.scales import PictureScale, SeriesScale
from chiasm.diagnosis.readers.store import RecordingStore
from chiasm.diagnosis.training.dataset import Recordings

BOTH = ("image", "series")
SCALE = SeriesScale(full=90.0, spread=0.1, relative=True, cycle=128)
FORM = RecordingForm(32, 1, 128, 256, SCALE, PictureScale(spread=0.2, relative=True), seconds=0.5)


@pytest.mark.parametrize("modalities", [BOTH, ("image",), ("series",)])
def test_a_plain_batch_is_the_arrays_of_its_recordings(store: RecordingStore, modalities):
    refs = store.refs[:3]
    dataset = Recordings(store, refs, replace(FORM, windows=4), modalities=modalities)
    (batch,) = dataset[0, range(3)]
    for row, ref in enumerate(refs):
        # A validation batch holds the middle window, as a diagnosis by one window does.
        arrays = recording_arrays(store.load(ref), replace(FORM, windows=1), modalities)
        assert tuple(arrays) == modalities
        for name, array in arrays.items():
            np.testing.assert_array_equal(getattr(batch, name)[row].numpy(), array[0])
    assert [name for name in BOTH if getattr(batch, name) is None] == [
        name for name in BOTH if name not in modalities
    ]
    assert batch.label.tolist() == [ref.label for ref in refs]


@pytest.mark.parametrize("frequency", [50.0, 60.0])
def test_a_window_is_so_many_seconds_in_whole_tokens(frequency: float):
    total = 20 * 60 * 128
    assert replace(FORM, seconds=None).window_length(total, frequency=frequency) == total
    for seconds in (0.1, 0.5, 2.0, 3.3):
        length = replace(FORM, seconds=seconds).window_length(total, frequency=frequency)
        wanted = seconds * frequency * 128
        assert length % 256 == 0 and wanted - 256 < length <= wanted + 0.5


def test_one_picture_goes_with_every_window():
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, 8, 8), np.float32)
    batch = to_batch(image, rng.random((5, 1, 256), np.float32))
    assert batch.image.shape == (5, 3, 8, 8) and batch.label is None
    np.testing.assert_array_equal(batch.image[4].numpy(), image[0])
