"""The trend from files to tables, page and exit status."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from chiasm import api
from chiasm.cli.main import app
from chiasm.diagnosis.decision import predict_each
from chiasm.diagnosis.monitoring.alarms import AlarmRule
from chiasm.diagnosis.quantities.assessment import recording_quantities
from chiasm.diagnosis.simulator.sessions import draw_latents
from chiasm.diagnosis.simulator.simulator import simulate_recording
from chiasm.diagnosis.trend import trend
from chiasm.errors import ConfigurationError, DataError
from chiasm.samples import Diagnosis, RecordingSample


class Loudest:
    """A classifier by the largest value."""

    wing = "classifier"
    kinds = ("quiet", "loud")

    def predict(self, sample: RecordingSample) -> Diagnosis:
        assert sample.series is not None
        kind = "loud" if sample.series.max() > 150 else "quiet"
        said = Diagnosis(sample.source, kind, {kind: 0.9})
        return replace(said, quantities=recording_quantities(sample))

    def predict_all(self, samples: Any) -> Any:
        return predict_each(self.predict, samples)


def make_asset(folder: Path, gains: list[float], *, seed: int) -> None:
    """Write a second of a simulated session for each gain, one a week."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    latents = replace(draw_latents("void", rng), pedestal=10.0, gain=0.3)
    for week, gain in enumerate(gains):
        now = replace(latents, gain=latents.gain * gain)
        counts, _ = simulate_recording("void", latents=now, rng=rng)
        day = np.datetime64("2024-01-01") + 7 * week
        np.save(folder / f"r_{day}.npy", counts[:60].reshape(1, -1))


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    make_asset(root / "grows", [1.15 ** max(0, n - 7) for n in range(18)], seed=1)
    make_asset(root / "T <steady>", [1.0] * 10, seed=2)
    (root / "T <steady>" / "r_2024-12-01.npy").write_bytes(b"torn")
    return root


def test_a_growing_asset_alarms_and_a_steady_one_does_not(assets: Path, tmp_path: Path):
    report = trend(Loudest(), assets, out=tmp_path)
    assert [asset.asset for asset in report.alarming] == ["grows"]
    written = json.loads((tmp_path / "trend.json").read_text())
    first, second = written["assets"]
    assert first["alarming"] and {"charge"} <= {alarm["subject"] for alarm in first["alarms"]}
    slopes = {one["name"]: one["slope"] for one in first["quantities"]}
    assert slopes["charge_repeated"]["low"] > 0
    assert len(second["observations"]) == 10 and len(second["failed"]) == 1
    with (tmp_path / "trend.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18 + 11
    marked = {row["time"] for row in rows if row["alarms"]}
    assert marked == {alarm["raised"] for alarm in first["alarms"]}


def test_the_page_stands_alone(assets: Path, tmp_path: Path):
    trend(Loudest(), assets, out=tmp_path)
    page = (tmp_path / "trend.html").read_text()
    assert (
        page.count('<svg class="trend"') == 2
        and "<script" not in page
        and "http:" not in page
        and "https:" not in page
    )
    assert "T &lt;steady&gt;" in page and "<steady>" not in page
    assert "prefers-color-scheme:dark" in page and "The charge grew" in page


def test_earlier_alarms_do_not_count(assets: Path, tmp_path: Path):
    late = trend(Loudest(), assets, out=tmp_path, since=4e9)
    assert not late.alarming and any(asset.alarms for asset in late.assets)


def test_the_exit_status_says_whether_an_asset_alarms(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("chiasm.api.prediction.identity", lambda folder: ("classifier", ()))
    monkeypatch.setattr("chiasm.api.prediction.load", lambda folder, device: Loudest())
    options = ["trend", "--model", "m", "--out", str(tmp_path)]
    run = CliRunner().invoke(app, [*options, str(assets)])
    assert run.exit_code == 4, run.output
    assert CliRunner().invoke(app, [*options, str(assets / "T <steady>")]).exit_code == 0
    with pytest.raises(ConfigurationError, match="2024-05-31"):
        api.trend("m", assets, since="soon")


def test_inputs_without_a_recording_that_can_be_judged(tmp_path: Path):
    folder = tmp_path / "T1"
    folder.mkdir()
    for day in (1, 2):
        (folder / f"r_2024-01-0{day}.npy").write_bytes(b"torn")
    with pytest.raises(DataError, match="None of the 2 recordings"):
        trend(Loudest(), folder, out=tmp_path / "out", rule=AlarmRule())
