"""Inputs from a list in Python: every form of a part or recording, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import chiasm
from chiasm.detection.decision import AlarmRule, predict_each
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.diagnosis.decision import predict_each as diagnose_each
from chiasm.diagnosis.readers.checked_sample import sample_from_arrays as recording_from_arrays
from chiasm.errors import ConfigurationError, DataError
from chiasm.files.images import write_rgb, write_xyz
from chiasm.samples import AnomalyMap, Diagnosis, RecordingSample, RGBDSample, Verdict


class Brightness:
    """A stub detector: a part's score is the brightest pixel."""

    wing = "detector"
    acquisition = None
    alarm_rule = AlarmRule([0.1, 0.2, 0.3], 0.25, None)
    products = ()

    @property
    def promise(self) -> str:
        return self.alarm_rule.promise

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        return self.alarm_rule

    def predict(self, sample: RGBDSample) -> Verdict:
        scores = sample.rgb.max(axis=2)
        score = float(scores.max())
        found = AnomalyMap(scores, np.ones(scores.shape, bool), score, sample.source)
        return Verdict(sample.source, score, 0.25, score > 0.3, found, threshold=0.3)

    def predict_all(self, samples: Iterable[Any]) -> Iterator[Verdict]:
        return predict_each(self.predict, samples)


class Loudness:
    """A stub classifier: a recording's kind says which modalities it has."""

    wing = "classifier"
    kinds = ("both", "image", "series")

    def __call__(self, image: Any = None, series: Any = None, **options: Any) -> Diagnosis:
        return self.predict(recording_from_arrays(image, series, channels=1, **options))

    def predict(self, sample: RecordingSample) -> Diagnosis:
        absent = [sample.image is None, sample.series is None]
        kind = ("both", "series", "image")[1 * absent[0] + 2 * absent[1]]
        return Diagnosis(sample.source, kind, {name: float(name == kind) for name in self.kinds})

    def predict_all(self, samples: Iterable[Any]) -> Iterator[Diagnosis]:
        return diagnose_each(self.predict, samples)


RGB = np.full((20, 30, 3), 0.5, np.float32)
XYZ = np.full((20, 30, 3), 0.4, np.float32)


@pytest.fixture
def files(tmp_path):
    write_rgb(tmp_path / "a.png", RGB)
    write_xyz(tmp_path / "a.tiff", XYZ)
    return str(tmp_path / "a.png"), tmp_path / "a.tiff"


def test_every_form_of_a_part_is_judged_in_order(files):
    rgb, xyz = files
    sample = sample_from_arrays(RGB, XYZ, source="mine")
    parts = [rgb, (rgb, xyz), RGB, (RGB, XYZ), {"rgb": RGB, "source": "named"}, sample]
    verdicts = chiasm.predict(Brightness(), parts)
    assert [v.source for v in verdicts] == [rgb, rgb, "part 3", "part 4", "named", "mine"]
    assert [v.score for v in verdicts] == pytest.approx([0.5] * 6, abs=0.01)
    assert all(v.anomaly_map is not None for v in verdicts)
    slim = chiasm.predict(Brightness(), iter(parts), keep_maps=False)
    assert [v.score for v in slim] == [v.score for v in verdicts]
    assert all(v.anomaly_map is None for v in slim)


def test_a_part_that_cannot_be_read_does_not_end_the_others(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    verdicts = chiasm.predict(Brightness(), ["absent.png", (RGB, XYZ, 3), files[0]])
    assert [bool(v.error) for v in verdicts] == [True, True, False]
    assert "absent.png" in verdicts[0].error and "a sequence of 3" in verdicts[1].error
    assert set(tmp_path.iterdir()) == before  # nothing is written without out


def test_a_list_is_written_as_a_folder_is(files, tmp_path, capsys):
    out = tmp_path / "out"
    chiasm.predict(Brightness(), [files[0], RGB * 0.1, "absent.png"], out=out, maps="npy")
    rows = json.loads((out / "verdicts.json").read_text())
    assert [row["defective"] for row in rows] == [True, False, None]
    assert np.load(out / rows[0]["map"]).shape == (20, 30) and (out / rows[0]["picture"]).is_file()
    assert "3 parts: 1 defective, 1 not judged" in capsys.readouterr().out
    (out / "maps/mine.npy").write_bytes(b"a user's")
    chiasm.predict(Brightness(), [RGB * 0.1], out=out)
    assert not (out / rows[0]["map"]).exists() and (out / "maps/mine.npy").exists()
    with pytest.raises(DataError, match="None of the 1 parts"):
        chiasm.predict(Brightness(), ["absent.png"], out=out)


def test_a_part_that_is_given_twice_has_files_of_its_own_each_time(tmp_path):
    part = {"rgb": RGB, "source": "same"}
    chiasm.predict(Brightness(), [part, part], out=tmp_path, maps="tiff", masks=True)
    rows = json.loads((tmp_path / "verdicts.json").read_text())
    for column in ("picture", "map", "mask"):
        assert len({row[column] for row in rows}) == 2


def test_every_form_of_a_recording_is_diagnosed(tmp_path):
    image, series = np.full((16, 16, 3), 0.5), np.ones((1, 256))
    np.save(tmp_path / "a.npy", series)
    sample = recording_from_arrays(image, series, channels=1, source="mine")
    recordings = [
        image,
        (image, series),
        (None, tmp_path / "a.npy"),
        {"series": series, "frequency": 50.0, "source": "named"},
        sample,
        "absent.png",
    ]
    said = chiasm.predict(Loudness(), recordings, out=tmp_path / "out")
    assert [d.kind for d in said] == ["image", "both", "series", "series", "both", None]
    names = ["recording 1", "recording 2", str(tmp_path / "a.npy"), "named", "mine", "absent.png"]
    assert [d.source for d in said] == names
    rows = json.loads((tmp_path / "out/diagnoses.json").read_text())
    assert [row["kind"] for row in rows] == [d.kind for d in said]


@pytest.mark.parametrize(
    ("model", "inputs", "options", "words"),
    [
        (Brightness(), RGB, {}, "inputs is one part"),
        (Brightness(), {"rgb": RGB}, {}, "inputs is one part"),
        (Brightness(), [RGB], {"xyz": "a.tiff"}, "takes no xyz"),
        (Brightness(), [RGB], {"masks": True}, "no folder for masks; give out=FOLDER"),
        (Brightness(), [RGB], {"lamp": 1, "series": "a"}, "takes no lamp and no series"),
        (Brightness(), [{"rbg": RGB}], {}, "an argument that there is not"),
        (Loudness(), [RGB], {"coco": True, "out": "x"}, "coco are for models of the other kind"),
        (Loudness(), [{"img": RGB}], {}, "an argument that there is not"),
    ],
)
def test_what_does_not_fit_is_refused(model, inputs, options, words):
    with pytest.raises(ConfigurationError, match=words):
        chiasm.predict(model, inputs, **options)
