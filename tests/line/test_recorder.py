"""A watch reads what a recorder's files do not say, as every other command does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chiasm.diagnosis.prediction.job import RecordingJob
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file
from chiasm.discharge import Quantities
from chiasm.errors import ConfigurationError, DataError
from chiasm.line.judging import Judge
from chiasm.line.watch import Watch
from chiasm.samples import Diagnosis

PULSES = np.random.default_rng(0).random((300, 3)) * (1, 360, 50)


class Kept:
    """A classifier that keeps what it is called with."""

    wing = "classifier"
    modalities = ("image", "series")
    model_hash = "a" * 64

    def __init__(self, folder: Path) -> None:
        self.called: dict[str, Any] = {}

    def __call__(
        self,
        image: Any = None,
        series: Any = None,
        *,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        source: str = "",
        **measured: Any,
    ) -> Diagnosis:
        self.called = {"image": image, "series": series, "frequency": frequency, **measured}
        quantities = Quantities("pC", 9, 1.0, charge_repeated=50.0, rate_per_s=9.0)
        return Diagnosis(source, "void", {"void": 1.0}, {}, 0.1, 0.0, quantities=quantities)


class Colours(Kept):
    wing, modalities = "detector", ("rgb",)


def judged(root: Path, *, given: tuple[str, ...] = (), written: str = "") -> tuple[Kept, Any]:
    folder = root / "in"
    (root / "out").mkdir()
    folder.mkdir()
    np.savetxt(folder / "a.csv", PULSES, delimiter=",")
    if written:
        (folder / "recorder.yaml").write_text(written)
        (folder / "severity.yaml").write_text("rate_per_s: {medium: 1, high: 2}\n")
    judge = Judge(root, Kept, options={"recorder": given or None})
    sent: list[Any] = []
    now = iter(range(1000))
    watch = Watch(folder, root / "out", judge, send=sent.append, clock=lambda: float(next(now)))
    for _ in range(50):
        if watch.look():
            break
    assert isinstance(judge.model, Kept)
    return judge.model, sent


@pytest.mark.parametrize("by_file", [True, False])
def test_what_the_recorder_does_not_say_is_read(tmp_path: Path, by_file: bool) -> None:
    columns = "time,phase,amplitude"
    model, sent = judged(
        tmp_path,
        given=() if by_file else ("frequency=50", f"columns={columns}", "charge=2"),
        written=f"frequency: 50\ncharge: 2\ncolumns: {columns}\n" if by_file else "",
    )
    settings = RecorderSettings(frequency=50.0, columns=("time", "phase", "amplitude"))
    (path,) = (tmp_path).rglob("a.csv")
    expected = read_recorder_file(path, settings)
    assert model.called["frequency"] == 50.0
    np.testing.assert_array_equal(model.called["series"], expected.series)
    np.testing.assert_array_equal(model.called["image"], expected.image)
    assert "list of 300 pulses" in str(sent)
    # The calibration and the pulses reach the model, the levels of the folder the record.
    assert model.called["system"].charge_pc == 2.0
    assert len(model.called["pulses"].phase) == len(PULSES)
    assert sent[0]["severity"] == ("high" if by_file else None)
    assert (sent[0]["charge"], sent[0]["charge_unit"], sent[0]["pulse_rate"]) == (50.0, "pC", 9.0)


def test_settings_that_are_none_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no setting 'mains'"):
        Judge(tmp_path, Kept, options={"recorder": ("mains=50",)})
    with pytest.raises(ConfigurationError, match="--recorder frequency=50"):
        Judge(tmp_path, Kept, options={"recorder": ("layout=rows",), "frequency": 50.0})
    with pytest.raises(ConfigurationError, match="takes no --recorder"):
        Judge(tmp_path, Colours, options={"recorder": ("frequency=50",)})


def test_shards_read_the_recorder_too_and_are_resumed_with_it_alone(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", PULSES, delimiter=",")
    given = ("columns=time,phase,amplitude", "frequency=50")
    job = RecordingJob(tmp_path, (), tmp_path, lambda *_: None, recorder=given)
    listing = job.listing(None)
    assert listing.reader is not None
    sample = listing.reader.load(listing.refs[0])
    assert sample.frequency == 50.0 and sample.image is not None
    assert job.options == {"recorder": sorted(given)}
    assert RecordingJob(tmp_path, (), tmp_path, lambda *_: None).options == {}
