"""Calibration and voltage come from columns, settings and tables, and reach the quantities."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.quantities.assessment import recording_quantities
from chiasm.diagnosis.readers.checked_sample import sample_from_arrays
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import recorded_from_bytes
from chiasm.errors import DataError

TIME = np.arange(2.0, 18.0, 0.05)
PHASE = np.full(len(TIME), 90.0)
CHARGE = np.full(len(TIME), 0.2)
RAMP = np.where(TIME < 10, TIME, 20 - TIME)  # kV: up to 10 kV and down again


def table(*columns: np.ndarray, header: str = "") -> bytes:
    rows = [";".join(f"{value:.6f}" for value in row) for row in zip(*columns)]
    return "\n".join([*([header] if header else []), *rows, ""]).encode()


def read(content: bytes, **settings):
    return recorded_from_bytes(content, "a.csv", RecorderSettings(**settings))


@pytest.mark.parametrize(
    ("unit", "factor"), [("pC", 1.0), ("nC", 1000.0), ("µC", 1e6), ("mV", None), ("", None)]
)
def test_a_column_is_calibrated_by_its_unit_alone(unit: str, factor: float | None):
    header = f"time [s];phase;charge [{unit}]" if unit else "time [s];phase;charge"
    recorded = read(table(TIME, PHASE, CHARGE, header=header))
    assert recorded.system.charge_pc == factor
    assert any("C by the header" in remark for remark in recorded.remarks) == (factor is not None)
    given = read(table(TIME, PHASE, CHARGE, header=header), charge=2.5)
    assert given.system.charge_pc == 2.5


@pytest.mark.parametrize(
    ("header", "columns", "scale"),
    [
        ("t [s];phase [deg];Q [nC];U [kV]", (), 1.0),
        ("t [s];phase [deg];charge [nC];voltage [V]", (), 1000.0),
        ("", ("time", "phase", "amplitude", "voltage"), 1.0),
    ],
)
def test_a_voltage_beside_a_charge_is_that_of_the_test_object(header, columns, scale):
    content = table(TIME, PHASE, CHARGE, scale * RAMP, header=header)
    recorded = read(content, columns=columns, frequency=50.0)
    assert len(recorded.series) == 1
    middle = recorded.system.voltage.at(np.array([8.0]))  # seconds from the first pulse
    assert middle == pytest.approx(10.0, abs=0.1)
    assert any("effective value" in remark for remark in recorded.remarks)


def test_an_instantaneous_voltage_becomes_its_effective_value():
    rate, total = 5000, 10_000
    time = np.arange(total) / rate
    amplitude = 5 + 5 * time  # kV, effective
    volts = np.sqrt(2) * amplitude * np.sin(2 * np.pi * 50 * time)
    charge = np.random.default_rng(0).normal(0, 1, total)
    content = table(time, charge, volts, header="time [s];charge [pC];voltage [kV]")
    recorded = read(content, frequency=50.0)
    assert recorded.series.shape == (1, total) and recorded.samples_per_cycle == 100
    at = np.array([0.1, 1.0, 1.9])
    assert recorded.system.voltage.at(at) == pytest.approx(5 + 5 * at, rel=0.01)
    seldom = table(TIME, PHASE, CHARGE, RAMP - 5, header="time;phase;charge;voltage")
    left_out = read(seldom)
    assert left_out.system.voltage is None
    assert any("left out" in remark for remark in left_out.remarks)


def test_two_voltages_without_a_charge_remain_channels():
    recorded = read(table(TIME / 100, CHARGE, RAMP, header="time [s];voltage 1;voltage 2"))
    assert len(recorded.series) == 2 and recorded.system.voltage is None


def test_a_voltage_beside_several_charges_is_no_channel():
    recorded = read(
        table(TIME, CHARGE, CHARGE, RAMP, header="time [s];Q 1;Q 2;U [kV]"), frequency=10
    )
    assert len(recorded.series) == 2 and recorded.system.voltage is not None


def test_an_empty_cell_of_the_voltage_is_refused():
    content = table(TIME, RAMP, PHASE, CHARGE, header="t;U;phase;Q")
    with pytest.raises(DataError, match="is empty"):
        read(content.replace(b";3.000000;", b";;", 1))


def test_a_ramp_in_a_file_gives_inception_and_extinction(tmp_path: Path):
    (tmp_path / "ramp.csv").write_bytes(
        table(TIME, PHASE, CHARGE, RAMP, header="t [s];phase [deg];Q [nC];U [kV]")
    )
    (tmp_path / "recorder.yaml").write_text("frequency: 50\n")
    source = open_source(tmp_path)
    found = recording_quantities(source.load(source.refs[0]))
    assert found.unit == "pC" and found.charge_largest == pytest.approx(200)
    assert found.rate_per_s == pytest.approx(20, rel=0.01)
    # All pulses are seen from the beginning, at 2 kV of 10.
    assert found.inception_kv is None and "Inception" in " ".join(found.remarks)
    assert found.power_kv_per_s > 0


def test_settings_and_tables_say_factor_voltage_and_dead_time(tmp_path: Path):
    series = np.zeros((1, 1280), np.float32)
    series[0, 32::128] = 10
    np.save(tmp_path / "a.npy", series)
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["series", "frequency", "samples_per_cycle", "charge", "voltage_kv"])
        writer.writerow(["a.npy", 50, 128, "0.5 nC", 6])
    for source in (
        open_source(tmp_path / "list.csv"),
        open_source(tmp_path / "a.npy", recorder=("charge=500", "voltage_kv=6", "frequency=50")),
    ):
        found = recording_quantities(source.load(source.refs[0]))
        assert found.charge_largest == 5000 and found.rate_per_cycle == 1
        # A pulse a cycle, nearly at the peak of the voltage.
        assert found.power_kv_per_s == pytest.approx(np.sqrt(2) * 6 * 5000 * 50, rel=0.01)
    called = recording_quantities(sample_from_arrays(None, series, channels=1, charge=500.0))
    assert called.charge_largest == 5000
    with pytest.raises(DataError, match="calibration factor"):
        sample_from_arrays(None, series, channels=1, charge=-1.0)
    with pytest.raises(DataError, match="charge"):
        open_source(tmp_path / "a.npy", recorder=("charge=much",))
