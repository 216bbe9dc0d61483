"""A recording as callers have it: images, arrays, tensors and paths; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.readers.checked_sample import sample_from_arrays
from chiasm.errors import DataError
from chiasm.files.images import write_rgb

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
SERIES = np.arange(256, dtype=np.int16)[None]


def test_images_of_any_kind_give_the_same_sample(tmp_path: Path):
    write_rgb(tmp_path / "prpd.png", IMAGE / 255.0)
    expected = IMAGE / np.float32(255)
    for image in (IMAGE, expected, tmp_path / "prpd.png", IMAGE.transpose(2, 0, 1)):
        sample = sample_from_arrays(image, None, channels=1)
        np.testing.assert_allclose(sample.image, expected, atol=1e-7)


def test_series_of_any_kind_give_the_same_sample(tmp_path: Path):
    torch = pytest.importorskip("torch")
    np.save(tmp_path / "pulses.npy", SERIES.T)
    (tmp_path / "pulses.csv").write_text("\n".join(map(str, SERIES[0])) + "\n")
    kinds = [SERIES, SERIES[0], torch.from_numpy(SERIES), SERIES.astype(float)]
    for series in (*kinds, tmp_path / "pulses.npy", str(tmp_path / "pulses.csv")):
        sample = sample_from_arrays(None, series, channels=1)
        np.testing.assert_array_equal(sample.series, SERIES.astype(np.float32))
        assert sample.series.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": IMAGE[:4], "series": None}, "24 x 4 pixels; at least 8 a side"),
        ({"image": IMAGE.astype(float), "series": None}, r"outside \[0, 1\]"),
        ({"image": None, "series": SERIES[0], "channels": 2}, "real numbers"),
        ({"image": None, "series": SERIES[None]}, "real numbers"),
        ({"image": None, "series": ["a"]}, "holds no numbers"),
        ({"image": None, "series": SERIES, "frequency": 0.05}, "0.05 Hz is none"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(arguments: dict, message: str):
    with pytest.raises(DataError, match=message):
        sample_from_arrays(**{"channels": 1, **arguments})
