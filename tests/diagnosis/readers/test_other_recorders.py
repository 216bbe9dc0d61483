"""Tables of monitors and scopes with clocks, gaps, texts and axes of their own."""

from __future__ import annotations

import io

import numpy as np
import pytest

from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.recorders.clock_times import clock_seconds
from chiasm.diagnosis.recorders.column_names import role_of
from chiasm.diagnosis.recorders.recorder_files import recorded_from_bytes
from chiasm.diagnosis.recorders.recorder_settings import settings_of
from chiasm.errors import DataError

RNG = np.random.default_rng(0)
SIGNAL = np.round(RNG.standard_normal(2000), 4)
CLOCK = np.arange(2000) / 2e4
COUNTS = np.outer(np.arange(40, 0, -1), 1 + np.arange(64) % 7)  # the first row is the smallest


def read(content: bytes, name: str = "a.csv", **settings):
    return recorded_from_bytes(content, name, settings_of(settings, "given"))


def rows(header: str, *columns, separator: str = ",") -> bytes:
    lines = [separator.join(map(str, row)) for row in zip(*columns)]
    return "\n".join([header, *lines]).encode()


SAMPLED = read(rows("time [s],signal", CLOCK, SIGNAL)).series


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["10:00:00", "10:00:00,25"], [0.0, 0.25]),
        (["2024-02-29T23:59:59Z", "2024-03-01T00:00:01Z"], [0.0, 2.0]),
        (["31.12.2024 23:59:59.5", "01.01.2025 00:00:00.5"], [0.0, 1.0]),
        (["23:59:59", "00:00:01"], [0.0, 2.0]),
        (["05/01/2024 11:59:59.5 AM", "05/01/2024 12:00:00.5 PM"], [0.0, 1.0]),
        (["2024-05-01T10:00:00.5+02:00", "2024-05-01T10:00:01+02:00"], [0.0, 0.5]),
        (["10:00:00:250", "10:00:00:500"], [0.0, 0.25]),
        (["10:00:00", "noon"], None),
        (["32.13.2024 10:00:00"], None),
        ([], None),
    ],
)
def test_times_of_day(cells, seconds):
    found = clock_seconds(cells)
    if seconds is None:
        assert found is None
    else:
        np.testing.assert_allclose(found - found[0], seconds, atol=1e-9)


def test_a_clock_is_a_time_in_seconds_and_a_date_alone_a_text():
    stamps = [f"2024-05-01 10:00:{t:09.6f}" for t in CLOCK]
    content = rows("Timestamp;Spannung [mV];Note", stamps, SIGNAL, ["ok"] * 2000, separator=";")
    recorded = read(content)
    np.testing.assert_array_equal(recorded.series, SAMPLED)
    assert any("'Note' holds texts" in remark for remark in recorded.remarks)
    assert not any("taken as seconds" in remark for remark in recorded.remarks)


def test_columns_that_are_not_read_are_named():
    recorded = read(rows("time [s],signal,temperature", CLOCK, SIGNAL, [21.5] * 2000))
    np.testing.assert_array_equal(recorded.series, SAMPLED)
    assert any("nothing is read from the column 'temperature'" in r for r in recorded.remarks)
    assert not any("nothing is read" in r for r in read(rows("t [s],u", CLOCK, SIGNAL)).remarks)


def test_times_are_no_temperatures():
    assert [role_of(name) for name in ("Temps (ms)", "Tempo [s]", "temp [C]")] == ["time"] * 2 + [
        ""
    ]


def test_a_signal_with_a_gap_is_no_list_of_pulses():
    late = CLOCK + 0.3 * (CLOCK > 0.05)
    with pytest.raises(DataError, match=r"1 of 1999.*layout=pulses"):
        read(rows("time [s],signal", late, SIGNAL))
    assert read(rows("time [s],signal", late, np.abs(SIGNAL)), layout="pulses").pulses is not None


def test_a_signal_that_runs_backwards_is_turned():
    recorded = read(rows("time [s],signal", CLOCK[::-1], SIGNAL[::-1]))
    np.testing.assert_array_equal(recorded.series, SAMPLED)
    assert any("backwards" in remark for remark in recorded.remarks)


def test_the_axes_of_a_matrix_say_which_way_it_lies():
    """Rows by amplitude or by phase, rising or falling: one picture."""
    phases, heights = np.arange(64) * 360 / 64, np.arange(40) * 0.1

    def picture(counts, across, down):
        lines = [",".join(map(str, ["", *across]))]
        lines += [",".join(map(str, [a, *row])) for a, row in zip(down, counts)]
        return read("\n".join(lines).encode()).image

    expected = picture(COUNTS[::-1], phases, heights[::-1])
    for counts, across, down in (
        (COUNTS, phases, heights),
        (COUNTS.T, heights, phases),
        (COUNTS[::-1].T, heights[::-1], phases),
    ):
        np.testing.assert_array_equal(picture(counts, across, down), expected)


def test_a_matrix_without_axes_whose_first_rows_have_most_counts_is_asked_for():
    content = "\n".join(",".join(map(str, row)) for row in COUNTS).encode()
    with pytest.raises(DataError, match="amplitude_grows=down"):
        read(content, layout="pattern")
    read(content, layout="pattern", amplitude_grows="down")


def test_a_marker_of_the_range_is_refused_with_a_remedy():
    values = [*map(str, SIGNAL)]
    values[300] = "∞"
    with pytest.raises(DataError, match=r"row 302, column 2.*wider range"):
        read(rows("time [s],signal", CLOCK, values))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_wav(dtype):
    from scipy.io import wavfile

    scale, middle = (1.0, 0.0) if dtype == np.float32 else (20.0, 128.0 * (dtype == np.uint8))
    counts = (SIGNAL * scale + middle).astype(dtype)
    stream = io.BytesIO()
    wavfile.write(stream, 20_000, np.stack([counts, counts], axis=1))
    recorded = read(stream.getvalue(), "a.wav", frequency=50)
    expected = read(rows("time [s],signal", CLOCK, counts - middle), frequency=50)
    np.testing.assert_array_equal(recorded.series, np.repeat(expected.series, 2, axis=0))
    with pytest.raises(DataError, match="WAV"):
        read(stream.getvalue()[:30], "a.wav")


def test_hdf5_and_the_facts_among_its_attributes():
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["scan/ultra"] = np.stack([SIGNAL, -SIGNAL])
        file.attrs["sample_rate"] = 2e4
        file["scan"].attrs["mains_freq"] = 50.0
    recorded = read(stream.getvalue(), "a.h5")
    assert recorded.frequency == 50.0 and recorded.series.shape == (2, 2000)
    assert any("20000 values a second" in remark for remark in recorded.remarks)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:  # a small file of much nothing
        file.create_dataset("scan", (2, 10**9), "f8", chunks=(1, 10**6), compression="gzip")
    with pytest.raises(DataError, match="unpacks to more than"):
        read(stream.getvalue(), "a.h5")


@pytest.mark.parametrize("name", ["a.trc", "a.cfg", "a.tdms", "a.xlsx", "a.csv.gz"])
def test_formats_of_other_programs_are_refused_with_a_remedy(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x01")
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=r"(save|unpack) it|save the waveform|save its"):
            open_source(place)


def test_a_recording_as_parquet_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"time": 0.0, "signal": 1.0}\n')
    with pytest.raises(DataError, match="read from CSV"):
        open_source(tmp_path / "a.jsonl")


def test_a_folder_keeps_tables_with_texts(tmp_path):
    stamps = [f"10:00:{t:09.6f}" for t in CLOCK]
    (tmp_path / "a.csv").write_bytes(rows("time,signal,note", stamps, SIGNAL, ["x"] * 2000))
    (tmp_path / "b.csv").write_bytes(rows("time [s],signal", CLOCK, SIGNAL))
    assert len(open_source(tmp_path).refs) == 2
