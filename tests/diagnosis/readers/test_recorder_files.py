"""A recorder's file is read as what it holds, whatever its suffix, or refused with a remedy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from chiasm.diagnosis.preparation.pulses import in_bins, pattern_of, series_of
from chiasm.diagnosis.readers.opening import is_diagnosis_data, open_source
from chiasm.diagnosis.readers.store import convert
from chiasm.diagnosis.recorders.recorded import Recorded, RecorderSettings
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file, recorded_from_bytes
from chiasm.discharge import Pulses
from chiasm.errors import DataError

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("CHIASM_DATA", "absent")) / "discharge_real"
SIGNAL = np.round(RNG.standard_normal(3000), 3)  # values at 10 kHz
TIME = np.arange(3000) / 1e4
PULSES = {
    "time": np.sort(RNG.random(300)),
    "phase": RNG.random(300) * 360,
    "charge": RNG.normal(0, 50, 300),
}


def read(text: str, name: str = "a.csv", **settings) -> Recorded:
    return recorded_from_bytes(text.encode(), name, RecorderSettings(**settings))


def lines(*columns, separator=",", header="", decimal="."):
    rows = [separator.join(f"{v:.6f}".replace(".", decimal) for v in row) for row in zip(*columns)]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        lines(TIME, SIGNAL),
        lines(TIME, SIGNAL, header="Time [s],Voltage [V]"),
        lines(1e3 * TIME, SIGNAL, separator=";", decimal=",", header="t [ms];U [V]"),
        "Model;X200\nRate;10k\n" + lines(TIME, SIGNAL, separator=";", header="Zeit;Spannung"),
        lines(TIME, SIGNAL, separator="\t", header="# time\tch1"),
        lines(TIME, SIGNAL, separator=" "),
    ],
)
def test_a_time_with_equal_steps_is_no_signal(text):
    recorded = read(text, frequency=50.0)
    assert recorded.samples_per_cycle == 200
    np.testing.assert_allclose(recorded.series, SIGNAL[None], atol=1e-6)
    assert "10000 a second" in " ".join(recorded.remarks)


def test_a_rate_that_is_no_multiple_of_the_mains_is_put_into_bins_by_its_times():
    recorded = read(lines(TIME, SIGNAL), frequency=60.0)
    assert recorded.samples_per_cycle == 128
    assert recorded.series.shape == (1, 18 * 128)  # of 0.3 s
    # Independently: the value that is farthest from the median, by the phase of its time.
    place = np.floor(TIME * 60 * 128 + 1e-9).astype(int)
    far = np.abs(SIGNAL - np.median(SIGNAL))
    for number in (0, 5, 700, 2300):
        inside = np.flatnonzero(place == number)
        if inside.size:
            expected = SIGNAL[inside[far[inside].argmax()]]
            assert recorded.series[0, number] == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        lines(*PULSES.values(), header="Time [s],Phase [deg],Charge [pC]"),
        lines(*PULSES.values(), separator=";", decimal=",", header="Time [s];Phase [deg];Q [pC]"),
        lines(*(PULSES[n] for n in ("charge", "phase", "time")), header="q (pC),phi,t"),
    ],
)
def test_a_list_of_pulses_becomes_series_and_pattern(text):
    recorded = read(text, frequency=50.0)
    assert recorded.image.shape == (256, 256, 3)
    expected = series_of(Pulses(PULSES["phase"], PULSES["charge"], PULSES["time"]), frequency=50)
    np.testing.assert_allclose(recorded.series, expected, atol=1e-4)


def test_columns_without_names_are_asked_for():
    text = lines(*PULSES.values())
    with pytest.raises(DataError, match="columns=time,phase,amplitude"):
        read(text)
    recorded = read(text, columns=("time", "phase", "amplitude"), frequency=50.0)
    assert recorded.image is not None and recorded.series is not None


def test_each_pulse_lies_at_its_phase_and_the_largest_of_a_bin_stays():
    pulses = Pulses(np.array([90.0, 90.5, 359.9]), np.array([3.0, -7.0, 2.0]), np.zeros(3))
    series = series_of(pulses, frequency=50.0)
    where = np.flatnonzero(series[0])
    assert (series[0, where] == [2.0, -7.0]).all() or (series[0, where] == [-7.0, 2.0]).all()
    assert set(where % 128) == {32, 127}
    counts = pattern_of(Pulses(np.array([90.0, 90.0]), np.array([1.0, 10.0])))
    assert counts.sum() == 2 and counts[0, 32] == 1 and np.argwhere(counts)[-1, 0] > 100


def test_a_matrix_of_counts_is_a_pattern():
    counts = RNG.poisson(0.2, (100, 360))
    text = "\n".join(",".join(map(str, row)) + "," for row in counts) + "\n\n"
    recorded = read(text)
    assert recorded.series is None and recorded.image.shape == (256, 256, 3)
    assert "pattern" in recorded.remarks[0]
    # As many columns as values to a cycle: it can be either.
    with pytest.raises(DataError, match=r"layout=pattern.*layout=rows"):
        read("\n".join(",".join(map(str, row)) for row in RNG.poisson(0.2, (60, 128))))


def test_arrays_and_bare_numbers(tmp_path):
    counts = RNG.integers(-99, 99, 5120).astype(np.int16)
    (tmp_path / "a.bin").write_bytes(b"head" + counts.tobytes())
    with pytest.raises(DataError, match="raw_type=int16"):
        read_recorder_file(tmp_path / "a.bin", RecorderSettings())
    settings = RecorderSettings(raw_type="int16", header_bytes=4)
    np.testing.assert_array_equal(
        read_recorder_file(tmp_path / "a.bin", settings).series, counts[None]
    )
    np.savez(tmp_path / "a.npz", pulses=counts, other=np.arange(40))
    with pytest.raises(DataError, match=r"variable=NAME"):
        read_recorder_file(tmp_path / "a.npz", RecorderSettings())
    recorded = read_recorder_file(tmp_path / "a.npz", RecorderSettings(variable="pulses"))
    np.testing.assert_array_equal(recorded.series, counts[None])
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"data": counts})
    np.testing.assert_array_equal(
        read_recorder_file(tmp_path / "a.mat", RecorderSettings()).series, counts[None]
    )
    np.save(tmp_path / "tall.npy", counts.reshape(-1, 2))
    with pytest.raises(DataError, match="transpose"):
        read_recorder_file(tmp_path / "tall.npy", RecorderSettings())


XML = """<time version="1"><sweep_rate>50</sweep_rate><folder>A</folder><date>2024-09-25</date>
<times>0.00 5.00 10.00</times><sample>100 300 300</sample><quantity>1 2 20</quantity></time>"""


def test_files_whose_lines_are_long_are_not_passed_over(tmp_path):
    many = 30_000
    text = XML.replace("0.00 5.00 10.00", " ".join(["1.25"] * many))
    text = text.replace("100 300 300", " ".join(["300"] * many))
    text = text.replace("1 2 20", " ".join(["2"] * many))
    row = ",".join(["17"] * 2 * many) + "\n"
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "long.xml").write_text(text)
    (tmp_path / "row").mkdir()
    (tmp_path / "row" / "long.csv").write_text("recorder 7\n" + 2 * row)
    for folder in ("xml", "row"):
        source = open_source(tmp_path / folder)
        assert len(source.refs) == 1
        assert source.load(source.refs[0]) is not None


def test_a_detector_s_xml_is_a_pattern_with_its_session(tmp_path):
    for number, kind in enumerate(("corona", "void", "void")):
        (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / kind / f"{number}.xml").write_text(XML)
    source = open_source(tmp_path / "data")
    assert [ref.kind for ref in source.refs] == ["corona", "void", "void"]
    assert {ref.group["session"] for ref in source.refs} == {"A 2024-09-25"}
    sample = source.load(source.refs[0])
    assert sample.frequency == 50 and sample.series is None and sample.image is not None
    damaged = XML.replace("20</quantity>", "</quantity>")
    with pytest.raises(DataError, match="equal numbers"):
        read(damaged, "a.xml")
    with pytest.raises(DataError, match="no complete XML"):
        read(XML[:60], "a.xml")
    with pytest.raises(DataError, match="document type"):
        read('<!DOCTYPE a [<!ENTITY b "c">]>' + XML, "a.xml")


def test_what_no_file_says_stands_beside_them_and_is_kept_by_a_store(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text(lines(SIGNAL + number))
    assert is_diagnosis_data(folder)
    assumed = open_source(folder)
    assert any("60 Hz and 128" in str(problem) for problem in assumed.problems)
    (folder / "recorder.yaml").write_text("frequency: 50\nsample_rate: 10000\n")
    source = open_source(folder)
    assert not any("are assumed" in str(problem) for problem in source.problems)
    store = convert(source, tmp_path / "store")
    assert [(r.frequency, r.samples_per_cycle) for r in store.refs] == [(50.0, 200)] * 2
    np.testing.assert_allclose(store.load(store.refs[1]).series, SIGNAL[None] + 1, atol=1e-5)
    # Other settings are another content, and the same ones are not read again.
    before = (tmp_path / "store" / "recordings-00000.bin").stat().st_size
    convert(open_source(folder), tmp_path / "store")
    assert (tmp_path / "store" / "recordings-00000.bin").stat().st_size == before
    (folder / "recorder.yaml").write_text("frequency: 50\nsample_rate: 20000\n")
    store = convert(open_source(folder), tmp_path / "store")
    assert {ref.samples_per_cycle for ref in store.refs} == {400}
    (folder / "recorder.yaml").write_text("frequenzy: 50\n")
    with pytest.raises(DataError, match=r"recorder\.yaml: there is no setting 'frequenzy'"):
        open_source(folder)


def test_a_text_for_people_is_no_recording(tmp_path):
    (tmp_path / "notes.txt").write_text("Recorded on Monday\nby 2 people\n")
    assert not is_diagnosis_data(tmp_path)


def test_a_series_shorter_than_a_cycle_is_refused():
    with pytest.raises(DataError, match="less than a cycle"):
        in_bins(np.zeros((1, 100), np.float32), rate=1e6, frequency=50.0)


@pytest.mark.skipif(not REAL.is_dir(), reason="real recordings are not here (CHIASM_DATA)")
def test_real_files_are_read():
    gis = open_source(REAL / "gis_series")
    assert gis.load(gis.refs[0]).series.shape == (1, 10_000)
    xml = open_source(REAL / "megger_xml")
    assert set(xml.kinds) == {"corona", "floating", "surface", "void"}
    monitor = open_source(REAL / "pulse_list")
    assert len(monitor.refs) == 2
    sample = monitor.load(monitor.refs[0])
    assert sample.frequency == 60 and sample.series is not None and sample.image is not None
    counts = open_source(REAL / "prpd_counts")
    assert all(counts.load(ref).image is not None for ref in counts.refs)


@pytest.mark.parametrize("axes", ["names", "rows", "upside down"])
def test_axes_of_a_matrix_are_no_counts(axes: str):
    counts = np.zeros((20, 36), int)
    counts[4, 8] = 5
    phases, amplitudes = np.arange(36) * 10, np.arange(20)[::-1] * 0.5
    inner = counts[::-1] if axes == "upside down" else counts
    labels = amplitudes[::-1] if axes == "upside down" else amplitudes
    corner = "0" if axes == "rows" else "q"
    rows = [f"{q:.1f}," + ",".join(map(str, row)) for q, row in zip(labels, inner)]
    text = "\n".join([f"{corner}," + ",".join(map(str, phases)), *rows])
    plain = read("\n".join(",".join(map(str, row)) for row in counts), amplitude_grows="up")
    np.testing.assert_array_equal(read(text).image, plain.image)


def test_utf_16_and_bare_numbers_are_read_as_one_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(
        lines(*PULSES.values(), header="time,phase,charge").replace(",", "\t").encode("utf-16")
    )
    found = open_source(path, recorder=("frequency=50",))
    assert len(found.load(found.refs[0]).pulses.phase) == 300
    path = tmp_path / "a.bin"
    path.write_bytes(np.tile(np.abs(SIGNAL[:400]) * 100, 3).astype("<i2").tobytes())
    found = open_source(path, recorder=("raw_type=int16", "samples_per_cycle=160"))
    assert found.load(found.refs[0]).series.shape == (1, 1200)
