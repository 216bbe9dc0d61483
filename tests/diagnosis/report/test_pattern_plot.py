"""The picture of a pattern: of pulses or of an instrument, for light and dark pages."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from chiasm.diagnosis.prediction.pictures import PatternPictures, pattern_picture, picture_name
from chiasm.samples import Diagnosis, RecordingSample


class Model:
    """Calls pulses of the first half of a cycle 'early'."""

    polarity = "unipolar"
    modalities = ("image", "series")
    has_phase = True

    def classify(self, sample: RecordingSample) -> Diagnosis:
        early = 0.5
        if sample.series is not None:
            whole = sample.series[0].reshape(-1, sample.samples_per_cycle)
            early = 0.05 + 0.9 * float((whole[:, :64] > 50).any())
        return Diagnosis("a/b.csv", "early", {"early": early, "late": 1 - early})


def recording(sign: float = 1.0) -> RecordingSample:
    series = np.random.default_rng(0).standard_normal((1, 128 * 50)).astype(np.float32)
    series[0, 32::128] += 100 * sign
    return RecordingSample(None, series)


def drawn(sample: RecordingSample, model: Model, **options) -> np.ndarray:
    diagnosis = options.pop("diagnosis", None) or model.classify(sample)
    png = pattern_picture(model, sample, diagnosis, **options)
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape[:2] == (615, 960)
    return pixels[..., ::-1].astype(int)


@pytest.mark.parametrize(("theme", "paper"), [("light", 255), ("dark", 24)])
def test_the_phases_that_speak_are_marked_on_the_paper_of_the_page(theme: str, paper: int):
    pixels = drawn(recording(), Model(), theme=theme)
    assert abs(int(pixels[5, 5, 1]) - paper) < 2
    strip = pixels[int(615 * (1 - 0.1))]  # one row of the strip below the axis
    orange = (strip[:, 0] - strip[:, 2] > 90).nonzero()[0]
    left, width = 0.115 * 960, 0.74 * 960
    phases = (orange - left) / width * 360
    assert len(orange) > 40 and phases.min() > 88 and phases.max() < 122  # 32 / 128 is 90 degrees


def test_a_signal_without_a_mains_has_no_phases_and_a_picture_alone_is_shown():
    model = Model()
    model.has_phase = False
    pixels = drawn(recording(), model)
    strip = pixels[int(615 * (1 - 0.1))]
    assert not (strip[:, 0] - strip[:, 2] > 90).any()
    image = np.zeros((64, 64, 3), np.float32)
    image[..., 1] = 1
    green = drawn(RecordingSample(image, None), Model())
    assert (np.abs(green - [0, 255, 0]).sum(axis=2) < 60).mean() > 0.3


def test_without_matplotlib_it_is_said_once(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "chiasm.diagnosis.report.pattern_plot", None)
    pictures, model = PatternPictures(tmp_path / "patterns", Model()), Model()
    for _ in range(2):
        assert pictures.write(recording(), model.classify(recording())) is None
    assert " ".join(capsys.readouterr().out.split()).count("pip install matplotlib") == 1
    assert not (tmp_path / "patterns").exists()


def test_names_of_pictures_tell_equal_stems_apart():
    assert picture_name("a/1.csv").startswith("1-") and picture_name("a/1.csv").endswith(".png")
    assert picture_name("a/1.csv") != picture_name("b/1.csv")
