"""Files of other recorders: each is read as it is meant, or refused with a remedy that works."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.io import savemat

from chiasm.diagnosis.preparation.pulses import pattern_picture, phase_agreement
from chiasm.diagnosis.recorders.array_files import told_fact
from chiasm.diagnosis.recorders.recorded import Recorded
from chiasm.diagnosis.recorders.recorder_files import read_recorder_file, recorded_from_bytes
from chiasm.diagnosis.recorders.recorder_settings import settings_of
from chiasm.errors import DataError

RNG = np.random.default_rng(0)
COUNT = 400
PHASE = RNG.normal(np.where(RNG.random(COUNT) < 0.5, 60.0, 240.0), 15.0) % 360
TIME = np.sort((np.arange(COUNT) // 2 + PHASE / 360) / 50)  # seconds of a mains of 50 Hz
PHASE = TIME * 50 % 1 * 360
CHARGE = RNG.normal(50.0, 10.0, COUNT)
SIGNAL = np.round(RNG.standard_normal(2000), 4)
CLOCK = np.arange(2000) / 2e4


def table(columns, header="", separator=",", decimal=".", form="%.9g") -> bytes:
    rows = [separator.join((form % v).replace(".", decimal) for v in row) for row in zip(*columns)]
    return "\n".join([*([header] if header else []), *rows, ""]).encode()


def read(content: bytes, name: str = "a.csv", **settings) -> Recorded:
    return recorded_from_bytes(content, name, settings_of(settings, "given"))


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def mat(arrays) -> bytes:
    stream = io.BytesIO()
    savemat(stream, arrays)
    return stream.getvalue()


LISTS = {
    "degrees, s": (table((TIME, PHASE, CHARGE), "Time [s],Phase [deg],Charge [pC]"), {}),
    "other order": (table((CHARGE, TIME, PHASE), "Q (pC),t (s),phi (deg)"), {}),
    "signed": (
        table((TIME, PHASE - 360 * (PHASE > 180), CHARGE), "t [s],phase [deg],charge [pC]"),
        {},
    ),
    "radians, ms": (
        table((1e3 * TIME, np.radians(PHASE), 1e-3 * CHARGE), "time_ms,phase_rad,charge_nC"),
        {},
    ),
    "percent, us": (
        table((1e6 * TIME, PHASE / 3.6, CHARGE), "t/us;Phase (%);Q [pC]", ";", ","),
        {},
    ),
    "times without a unit": (table((1e3 * TIME, PHASE, CHARGE), "time,phase,Q [pC]"), {}),
    "numbers of rows": (
        table((np.arange(COUNT), TIME, PHASE, CHARGE), "n,t [s],phase [deg],q [pC]"),
        {},
    ),
    "two amplitudes": (
        table((TIME, PHASE, 3 * CHARGE, CHARGE), "t [s],phase,U [mV],Charge [pC]"),
        {},
    ),
    "units given": (
        table((1e3 * TIME, PHASE / 360, CHARGE), "time,phase,Q [pC]"),
        {"time_unit": "ms", "phase_unit": "cycles"},
    ),
    "arrays": (npz(time=TIME, phase=PHASE, charge_pC=CHARGE), {"charge": "1 pC"}),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_pulses_says_the_same_in_all_its_units(name: str):
    content, settings = LISTS[name]
    found = read(content, "a.npz" if name == "arrays" else "a.csv", **settings)
    assert found.pulses is not None and found.pulses.time is not None
    assert found.pulses.count is None
    np.testing.assert_allclose(found.pulses.phase, PHASE, atol=1e-3)
    np.testing.assert_allclose(found.pulses.time, TIME - TIME[0], atol=1e-6)
    assert found.system.charge_pc is not None
    np.testing.assert_allclose(found.pulses.amplitude * found.system.charge_pc, CHARGE, rtol=1e-6)
    assert found.frequency == 50.0  # told by the phases, which turn once a cycle


def test_levels_in_decibel_are_no_negative_charges():
    found = read(table((PHASE, -60 + CHARGE / 5), "phase [deg],level [dBm]"))
    np.testing.assert_allclose(20 * np.log10(found.pulses.amplitude), -60 + CHARGE / 5, rtol=1e-6)
    said = read(table((PHASE, -CHARGE), "phase [deg],level")).remarks
    assert any("pulses downwards" in remark for remark in said)


@pytest.mark.parametrize(
    ("columns", "header", "remedy"),
    [
        ((np.radians(PHASE), CHARGE), "phase,charge", {"phase_unit": "radians"}),
        ((PHASE / 360, CHARGE), "phase,charge", {"phase_unit": "cycles"}),
        ((PHASE / 3.6, CHARGE), "phase,charge", {"phase_unit": "percent"}),
        ((PHASE, CHARGE), "phase,foo", {"columns": "phase,amplitude"}),
        ((PHASE, CHARGE), "", {"columns": "phase,amplitude"}),
    ],
)
def test_what_can_be_two_things_is_refused_and_the_remedy_works(columns, header, remedy):
    content = table(columns, header)
    with pytest.raises(DataError) as refused:
        read(content)
    (name,) = remedy
    assert f"{name}=" in str(refused.value)
    np.testing.assert_allclose(read(content, **remedy).pulses.phase, PHASE, atol=1e-3)


TDS = b"".join(
    f"{name},{fact},,{t:.5f},{v:.4f},\n".encode()
    for t, v, name, fact in zip(
        CLOCK,
        SIGNAL,
        ["Record Length", "Sample Interval", *[""] * 1998],
        [2000, 5e-5, *[""] * 1998],
    )
)
RIGOL = b"X,CH1,Start,Increment,\nSequence,Volt,-6.0e-03,5e-05\n" + b"".join(
    f"{n},{v:.4f},,\n".encode() for n, v in enumerate(SIGNAL)
)
SCOPES = {
    "names over units": table((CLOCK, SIGNAL), "x-axis,1\nsecond,Volt"),
    "units in brackets": table((1e3 * CLOCK, SIGNAL), "Time,Channel A\n(ms),(mV)\n"),
    "unit in words": table((CLOCK, SIGNAL), "in s,CH1 in V"),
    "few digits": table((CLOCK, SIGNAL), "time,ch1", form="%.4f"),
    "facts beside numbers": TDS,
    "numbered rows": RIGOL,
    "a rate alone": table((SIGNAL,), "Sampling rate [Hz]: 20000\nMains frequency: 50 Hz"),
    "a rate with a prefix": table((SIGNAL,), "Sample Rate;20 kS/s"),
    "a rate in the unit of its name": table((SIGNAL,), "Sampling rate [kHz]: 20"),
    "a step with its unit behind it": table((SIGNAL,), "Sample Interval;50;us"),
    "small letters": table((SIGNAL,), "Sampling frequency: 0.02 mhz"),
    "temperatures beside it": table(
        (CLOCK, SIGNAL, 20 + SIGNAL), "time [s],voltage [V],temp [deg C]"
    ),
    "a number called fs": npz(data=SIGNAL, fs=20000.0),
    "a structure": mat({"rec": {"signal": SIGNAL, "Tinterval": 5e-5}}),
    "big-endian": SIGNAL.astype(">f4").tobytes(),
}


@pytest.mark.parametrize("name", SCOPES)
def test_a_scope_s_file_is_a_series_at_its_rate(name: str):
    more = {"raw_type": "float32be", "sample_rate": 20000} if name == "big-endian" else {}
    suffix = {"a structure": "mat", "a number called fs": "npz", "big-endian": "bin"}.get(name)
    found = read(SCOPES[name], f"a.{suffix or 'csv'}", frequency=50, **more)
    assert (found.samples_per_cycle, found.frequency) == (400, 50.0)
    np.testing.assert_allclose(found.series, SIGNAL[None], atol=2e-4)


@pytest.mark.parametrize(
    ("stored", "given", "right"),
    [
        (">i2", "int16", "int16be"),
        ("<i2", "int16be", "int16"),
        (">i4", "int32", "int32be"),
        (">f4", "float32", "float32be"),
        ("<f4", "int32", "float32"),
    ],
)
def test_bytes_that_make_no_signal_are_refused(stored: str, given: str, right: str):
    content = np.round(20 * SIGNAL + 0.5, 1).astype(stored).tobytes()
    with pytest.raises(DataError, match=f"raw_type={right}\\."):
        read(content, "a.bin", raw_type=given)
    assert read(content, "a.bin", raw_type=right).series.shape == (1, 2000)
    with pytest.raises(DataError, match="header_bytes"):
        read(b"RECORDER 7, GAIN 40, 2024-05-01, UNIT MV" + content, "a.bin", raw_type=right)


def test_bytes_of_a_signal_that_only_looks_odd_are_taken():
    pulses = np.where(np.arange(2000) % 40 == 0, np.abs(SIGNAL), 0).astype("<f4")
    found = read(pulses.tobytes(), "a.bin", raw_type="float32")
    np.testing.assert_array_equal(found.series, pulses[None])
    upper = (256 * np.clip(np.rint(20 * SIGNAL), -127, 127)).astype("<i2")  # of 8 bits
    found = read(upper.tobytes(), "a.bin", raw_type="int16")
    np.testing.assert_array_equal(found.series, upper[None])


GRID = np.array([(phase, charge) for phase in range(0, 360, 2) for charge in range(10)]).T


@pytest.mark.parametrize(
    ("content", "name", "remedy"),
    [
        (table(GRID), "a.csv", "columns="),  # phases in order are no times
        (table((SIGNAL,), "fs: 20"), "a.csv", "sample_rate="),  # in kHz
        (npz(signal=SIGNAL, dt=0.05), "a.npz", "sample_rate="),  # in ms
        (table((CLOCK * 1e3, SIGNAL), "time,ch1"), "a.csv", "time_unit=ms"),
        (npz(phase=PHASE, charge=CHARGE[:9]), "a.npz", "variable="),
    ],
)
def test_a_rate_that_no_signal_has_is_refused(content: bytes, name: str, remedy: str):
    with pytest.raises(DataError, match=remedy):
        read(content, name)


def test_pulses_that_come_with_the_mains_are_no_sampled_signal():
    time = np.round(np.arange(COUNT) / 100 + RNG.uniform(-1e-3, 1e-3, COUNT), 4)
    found = read(table((np.sort(time), CHARGE), "time [s],charge [pC]"))
    assert found.pulses is not None and len(found.pulses.phase) == COUNT


def test_numbers_of_cycles_are_no_numbers_of_pulses():
    content = table((np.arange(COUNT) // 2, PHASE, CHARGE), "cycle number,phase [deg],q [pC]")
    assert read(content).pulses.count is None
    content = table((np.arange(COUNT) % 3, PHASE, CHARGE), "number of pulses,phase [deg],q [pC]")
    assert read(content).pulses.count is not None


def test_a_rate_that_is_given_holds_and_the_other_one_is_told():
    found = read(npz(signal=SIGNAL, fs=20000.0), "a.npz", sample_rate=10000)
    assert any("says 20000" in remark for remark in found.remarks)
    assert told_fact("Mains", 230.0)[0] == "" and told_fact("Mains", 50.0)[0] == "frequency"


def test_the_corner_between_two_axes_may_be_empty():
    counts = np.pad(RNG.poisson(0.4, (20, 40)), ((20, 0), (0, 0)))
    counts[:20] = 0
    rows = [",".join(map(str, [40 - i, *row])) for i, row in enumerate(counts)]
    content = "\n".join([",".join(["", *map(str, range(0, 360, 9))]), *rows]).encode()
    np.testing.assert_array_equal(read(content).image, pattern_picture(counts))


def test_a_matrix_of_counts_lies_as_it_is_said_to_lie():
    counts = np.zeros((60, 90), int)
    rows = np.clip(59 - RNG.exponential(10, 5000).astype(int), 0, 59)
    np.add.at(counts, (rows, RNG.normal(30, 9, 5000).astype(int) % 90), 1)
    expected = pattern_picture(counts)
    turned = {"up": counts, "down": counts[::-1], "left": counts.T, "right": counts[::-1].T}
    for grows, matrix in turned.items():
        content = table(matrix.T, form="%d")
        found = read(content, amplitude_grows=grows)
        np.testing.assert_array_equal(found.image, expected)
        if grows == "up":
            np.testing.assert_array_equal(read(content).image, expected)
            continue
        with pytest.raises(DataError, match=f"amplitude_grows={grows},"):
            read(content)
    dense = counts + RNG.poisson(3, counts.shape)
    with pytest.raises(DataError, match="layout=pattern"):
        read(table(dense.T, form="%d"))
    assert read(table(dense.T, form="%d"), layout="pattern").image is not None


XML = "<x>{rate}<times>{times}</times><sample>1 2 3</sample><quantity>1 1 2</quantity></x>"
RATE = "<sweep_rate>50</sweep_rate>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (XML.format(rate="<sweep_rate>off</sweep_rate>", times="0 5 10"), "no mains frequency"),
        (XML.format(rate=RATE, times="0 0.005 0.01"), "time_unit="),
        (XML.format(rate=RATE, times="0 5000 10000"), "time_unit="),
        (XML.format(rate=RATE, times="0 5 10").replace("1 1 2", "1 -1 2"), "negative number"),
        (XML.format(rate=RATE, times="0 5 10</times><times>1 2 3"), "several lists"),
        ("<x><foo>1 2 3</foo><bar>1 2 3</bar></x>", "lists called foo, bar"),
    ],
)
def test_an_xml_that_says_something_else_is_refused(text: str, sentence: str):
    with pytest.raises(DataError, match=sentence):
        read(text.encode(), "a.xml")


def test_an_xml_is_read_by_what_its_lists_are_called():
    plain = read(XML.format(rate=RATE, times="0 5 10").encode(), "a.xml")
    spaced = XML.format(rate=RATE, times="0 5 10").replace("<x>", '<m:x xmlns:m="u">')
    for tag in ("times", "sample", "quantity"):
        spaced = spaced.replace(f"<{tag}>", f"<m:{tag.title()}>").replace(
            f"</{tag}>", f"</m:{tag.title()}>"
        )
    named = "<x><phase>0 90 180</phase><charge>1 2 3</charge><count>1 1 2</count></x>"
    in_us = XML.format(rate=RATE, times="0 5000 10000")
    for found in (
        read(spaced.replace("</x>", "</m:x>").encode(), "a.xml"),
        read(named.encode(), "a.xml", frequency=50),
        read(in_us.encode(), "a.xml", time_unit="us"),
    ):
        assert found.frequency == plain.frequency == 50.0
        np.testing.assert_allclose(found.pulses.phase, plain.pulses.phase)
        np.testing.assert_array_equal(found.image, plain.image)


def test_phases_agree_with_times_at_their_own_frequency_alone():
    assert phase_agreement(PHASE, TIME, frequency=50.0) == pytest.approx(1.0)
    assert phase_agreement(PHASE, TIME, frequency=60.0) < 0.5
    assert abs(phase_agreement(PHASE, 1e3 * TIME, frequency=50.0)) < 0.5
    assert phase_agreement(PHASE, 1e5 * TIME, frequency=50.0) is None  # nothing within a second
    assert told_fact("gain", 3.0)[0] == ""


def test_a_monitor_without_its_settings_is_read_at_the_frequency_of_its_phases(tmp_path):
    for role, values in (("A", CHARGE), ("P", PHASE), ("Ti", TIME)):
        np.savetxt(tmp_path / f"x-{role}.txt", values)
    found = read_recorder_file(tmp_path / "x-A.txt", settings_of({}, ""))
    assert found.frequency == 50.0 and found.pulses is not None
    assert any("agree with its times at 50 Hz" in remark for remark in found.remarks)
