"""Files of recorders that another reading would take for something else without a word."""

from __future__ import annotations

import io

import numpy as np
import pytest

from chiasm.diagnosis.preparation.pulses import pattern_picture
from chiasm.diagnosis.readers.opening import is_diagnosis_data, open_source
from chiasm.diagnosis.recorders.array_files import told_fact
from chiasm.diagnosis.recorders.bare_numbers import raw_numbers
from chiasm.diagnosis.recorders.recorded import Recorded
from chiasm.diagnosis.recorders.recorder_files import recorded_from_bytes
from chiasm.diagnosis.recorders.recorder_settings import settings_of
from chiasm.errors import DataError

RNG = np.random.default_rng(0)
RATE = 20_000
TIME = np.arange(2000) / RATE
SIGNAL = np.round(RNG.standard_normal(2000), 3)
SINE = np.round(10 * np.sin(2 * np.pi * 50 * TIME), 4)
PHASE = np.round(RNG.random(200) * 360, 2)
CHARGE = np.round(RNG.lognormal(3, 0.5, 200), 2)
TURNS = (np.arange(90) + 0.5) * 4  # degrees
LEVELS = (np.arange(40) + 0.5) * 0.1
COUNTS = RNG.poisson(
    20 * np.exp(-LEVELS[:, None]) * np.exp(-(((TURNS - 70) / 30) ** 2))
)  # the first row is the smallest
PICTURE = pattern_picture(COUNTS[::-1])


def read(content: bytes | str, name: str = "a.csv", **settings: object) -> Recorded:
    data = content.encode() if isinstance(content, str) else content
    return recorded_from_bytes(data, name, settings_of({"frequency": 50, **settings}, "given"))


def table(header: str, *columns: object, separator: str = ",", comma: bool = False) -> str:
    def cell(value: object) -> str:
        text = value if isinstance(value, str) else repr(float(value))  # type: ignore[arg-type]
        return text.replace(".", ",") if comma else text

    lines = [separator.join(map(cell, row)) for row in zip(*columns)]  # type: ignore[call-overload]
    return "\n".join([*([header] if header else []), *lines]) + "\n"


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def same_signal(recorded: Recorded, expected: np.ndarray = SIGNAL) -> None:
    assert recorded.samples_per_cycle == 400 and recorded.series is not None
    np.testing.assert_allclose(recorded.series, np.atleast_2d(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("header", "charset"),
    [
        ("Tiempo (µs);Tensión", "cp1252"),
        ("Tempo (µs);Tensão", "utf-8"),
        ("Время (мкс);Напряжение (мВ)", "utf-8"),
        ("Время, мкс;Сигнал, мВ", "cp1251"),
        ("时间（微秒）;幅值（毫伏）", "utf-8-sig"),
        ("时间(us);电压(mV)", "gb18030"),
        ("시간(us);전압(mV)", "cp949"),
        ("Čas (µs);Napětí", "utf-16-le"),
        ("Zeit (µs);Signal", "utf-16-be"),
    ],
)
def test_headers_of_many_languages(header, charset):
    content = table(header, TIME * 1e6, SIGNAL, separator=";", comma=True)
    same_signal(read(content.encode(charset)))


@pytest.mark.parametrize(
    "content",
    [
        table("", TIME, SIGNAL, separator=" ", comma=True),
        table('"Time","Signal"', *([f'"{v!r}"' for v in c.tolist()] for c in (TIME, SIGNAL))),
        table("Time,Signal", TIME, SIGNAL).replace("\n", "\r"),
        table("Time,Signal", TIME, SIGNAL).replace("-", "\u2212"),
        table("Time|Signal", TIME, SIGNAL, separator="|"),
        table("Time,Signal", TIME, SIGNAL) + "\x1a" + "\x00" * 16,
        table("CH1(V),t0 = -1e-01s, tInc = 5.0e-05s,", SIGNAL),
        "Points:,2000\nXInc:,5.0E-05\nTime:,10:15:21\nData:\n" + table("", SIGNAL),
        "#CHANNEL:CH1\n#CLOCK=50.0uS\n#SIZE=2000\n" + table("", SIGNAL),
        "Delta_X\t5.0E-5\nX_Value\tVoltage\n" + table("", [""] * 2000, SIGNAL, separator="\t"),
    ],
    ids=["blanks", "quotes", "cr", "minus", "stroke", "padded", "rigol", "xinc", "clock", "lvm"],
)
def test_notations_of_numbers_and_steps(content):
    same_signal(read(content))


def test_a_decimal_comma_is_none_between_channels():
    column = table("Signal", SIGNAL, comma=True)
    same_signal(read(column, sample_rate=RATE))
    same_signal(read(column.partition("\n")[2], sample_rate=RATE))
    content = table("Time,Signal", [f"{t:.6f}" for t in TIME], SIGNAL, comma=True)
    with pytest.raises(DataError, match=r"decimal commas.*semicolons"):
        read(content)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"pd": SIGNAL, "fs_khz": 20}, 20_000),
        ({"pd": SIGNAL, "dt_us": 50.0}, 20_000),
        ({"pd": SIGNAL, "fs": "20 kHz"}, 20_000),
        ({"x": SIGNAL, "t": TIME}, 20_000),
    ],
)
def test_rates_of_arrays(arrays, expected):
    variable = {"variable": "x"} if "x" in arrays else {}
    same_signal(read(npz(**arrays), "a.npz", **variable))
    assert told_fact("sample_rate_MHz", 0.02) == ("sample_rate", expected)


def test_a_time_in_the_first_row_is_no_channel():
    for array in (np.stack([TIME, SIGNAL]), np.rec.fromarrays([TIME, SIGNAL], names="time,pd")):
        stream = io.BytesIO()
        np.save(stream, array)
        same_signal(read(stream.getvalue(), "a.npy"))
    stream = io.BytesIO()
    np.save(stream, SIGNAL.reshape(20, 100))
    with pytest.raises(DataError, match="layout=rows"):
        read(stream.getvalue(), "a.npy")


def test_times_that_are_none_are_refused():
    with pytest.raises(DataError, match="values a second"):
        read(table("Timestamp,Signal", 1e15 + TIME * 1e6, SIGNAL))  # none counts by 50
    with pytest.raises(DataError, match=r"'t_b'.*differ"):
        read(table("t_a,A,t_b,B [V]", TIME, SIGNAL, 2 * TIME, SIGNAL))
    same_signal(read(table("sec,nsec,pd", 17e8 + 0 * TIME, TIME * 1e9, SIGNAL)))


def test_a_clock_of_uneven_steps_is_no_list_of_pulses():
    recorded = read(
        table("time [s],pd", np.round(TIME + RNG.uniform(-1e-5, 1e-5, 2000), 6), SIGNAL)
    )
    assert recorded.pulses is None and any("uneven" in remark for remark in recorded.remarks)
    same_signal(recorded)


@pytest.mark.parametrize("name", ["Vref [V]", "U [V]"])
def test_a_sine_of_the_mains_gives_frequency_and_phase(name):
    late = 10 * np.sin(2 * np.pi * 50 * (TIME - 0.002))
    recorded = read(table(f"time [s],PD,{name}", TIME, SIGNAL, late), frequency=60)
    assert recorded.frequency == 50 and any("sine of 50 Hz" in r for r in recorded.remarks)
    same_signal(recorded, SIGNAL[40:])
    same_signal(read(table("time [s],PD", TIME, SINE)), SINE)


def test_channels_are_said():
    recorded = read(table("time [s],UHF,HFCT", TIME, SIGNAL, SIGNAL[::-1]))
    assert recorded.series is not None and len(recorded.series) == 2
    assert any("'UHF', 'HFCT' are channels" in remark for remark in recorded.remarks)


@pytest.mark.parametrize(
    ("header", "scale", "settings"),
    [
        ("phase [ms],charge", 1 / 18, {}),
        ("phase (x pi rad),charge", 1 / 180, {}),
        ("phase [gon],charge", 1 / 0.9, {}),
        ("Ángulo,Carga", 1.0, {}),
        ("Фаза (град),Заряд (пКл)", 1.0, {}),
        ("相位(°),放电量(pC)", 1.0, {}),
        ("phase,charge", 1 / 1.40625, {"phase_unit": "256"}),
    ],
)
def test_units_of_phases(header, scale, settings):
    recorded = read(table(header, PHASE * scale, CHARGE), **settings)
    assert recorded.pulses is not None
    np.testing.assert_allclose(recorded.pulses.phase, PHASE, atol=1e-6)


BINS = np.r_[np.floor(PHASE / 360 * 256), 255.0]
OFTEN = np.r_[CHARGE, 1.0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (table("phase bin,charge", BINS, OFTEN), "phase_unit=256"),
        (table("phase,charge", BINS, OFTEN), "phase_unit=256"),
        (table("phase,charge,channel", BINS / 3, OFTEN, BINS % 2), "several channels"),
        (table("phase,phase no,charge", BINS / 3, BINS % 2, OFTEN), "several columns of phases"),
        (table("time,winkl,charge", np.sort(BINS) / 99, BINS, OFTEN), "'winkl' may be it"),
        (table("phase,charge,count", BINS * 1.3, OFTEN, 0 * BINS), "no pulse"),
    ],
)
def test_lists_that_can_be_two_things_are_refused(content, sentence):
    with pytest.raises(DataError, match=sentence):
        read(content)


def test_a_charge_in_coulomb_is_calibrated():
    assert read(table("phase,charge [C]", PHASE, CHARGE * 1e-12)).system.charge_pc == 1e12
    assert read(table("phase,Channel C", PHASE, CHARGE)).system.charge_pc is None


def axes(counts: np.ndarray, across: np.ndarray, down: np.ndarray, corner: str = "") -> str:
    lines = [",".join([corner, *(f"{x:.6g}" for x in across)])]
    lines += [",".join(f"{x:.6g}" for x in (a, *row)) for a, row in zip(down, counts)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        axes(np.roll(COUNTS, 45, 1), TURNS - 180, LEVELS),
        axes(np.roll(COUNTS, -10, 1), TURNS + 40, LEVELS),
        axes(np.roll(COUNTS, -10, 1), np.mod(TURNS + 40, 360), LEVELS),
        axes(COUNTS[:, ::-1], TURNS[::-1], LEVELS, "mV"),
        axes(np.roll(COUNTS, 45, 1).T, LEVELS, TURNS - 180),
        axes(COUNTS, np.radians(TURNS), LEVELS),
        axes(COUNTS.T, LEVELS, TURNS, "phase"),
        axes(COUNTS, TURNS, np.cumsum(LEVELS)),
    ],
    ids=["-180", "40", "wrapped", "falling", "turned", "radians", "named", "uneven"],
)
def test_axes_say_where_a_pattern_begins(content):
    np.testing.assert_allclose(read(content).image, PICTURE, atol=0.01)


def test_a_pattern_of_rates_and_of_arrays_with_axes():
    content = axes(COUNTS / 7, TURNS, LEVELS)
    np.testing.assert_allclose(read(content).image, pattern_picture(COUNTS[::-1] / 7), atol=0.02)
    content = npz(prpd=COUNTS, phase=TURNS, amplitude=LEVELS)
    np.testing.assert_allclose(read(content, "a.npz").image, PICTURE, atol=0.01)
    square = npz(prpd=COUNTS[:, :80:2], phase=np.arange(40) * 9.0, amplitude=LEVELS)
    assert read(square, "a.npz").pulses is None  # its axes are no list
    with pytest.raises(DataError, match="not one goes around"):
        read(axes(COUNTS, TURNS / 3.6, LEVELS))


WHOLE = np.round(SIGNAL * 200).astype(np.int64)


@pytest.mark.parametrize(
    ("values", "dtype", "wrong"),
    [
        (WHOLE, "<i2", "uint16"),
        (WHOLE, "<i2", "int32"),
        (WHOLE, "<i2", "int8"),
        (WHOLE // 200, "<i2", "uint8"),
        (WHOLE + 32768, "<u2", "int16"),
        (WHOLE // 10, "i1", "uint8"),
        (WHOLE // 10, "i1", "int16"),
        (WHOLE // 10 + 128, "u1", "int8"),
        (WHOLE, "<i4", "int16"),
        (WHOLE * 65536, "<i4", "int32be"),
        (SIGNAL, "<f4", "int16"),
        (SIGNAL, "<f4", "float64"),
        (SIGNAL, "<f8", "float32"),
        (SIGNAL, "<f8", "uint8"),
        (SIGNAL, ">f8", "float64"),
    ],
)
def test_bare_numbers_of_another_type_are_refused(values, dtype, wrong):
    body = np.asarray(values).astype(dtype).tobytes()
    right = {"<": "", ">": "be"}.get(dtype[0], "")
    name = {"i": "int", "u": "uint", "f": "float"}[dtype.strip("<>")[0]] + str(8 * int(dtype[-1]))
    held = raw_numbers(body, settings_of({"raw_type": name + right}, ""), "a.bin")
    np.testing.assert_allclose(held[0], values, atol=1e-6)
    with pytest.raises(DataError, match="raw_type"):
        raw_numbers(body, settings_of({"raw_type": wrong}, ""), "a.bin")


def test_channels_that_stand_by_turns():
    body = np.stack([WHOLE, np.round(SINE * 3000)], axis=1).astype("<i2").tobytes()
    with pytest.raises(DataError, match="raw_channels=2"):
        raw_numbers(body, settings_of({"raw_type": "int16"}, ""), "a.bin")
    held = raw_numbers(body, settings_of({"raw_type": "int16", "raw_channels": 2}, ""), "a.bin")
    np.testing.assert_array_equal(held[0], WHOLE)


def test_a_single_file_that_is_plainly_a_recording_is_known_as_one(tmp_path):
    list_of_pulses = tmp_path / "a.csv"
    list_of_pulses.write_text(table("Time [s],Phase [deg],Charge [pC]", PHASE, PHASE, CHARGE))
    assert is_diagnosis_data(list_of_pulses)
    (tmp_path / "b.csv").write_text("x,y,z\n" + "1.5,2.5,3.5\n" * 30)
    assert not is_diagnosis_data(tmp_path / "b.csv")


@pytest.mark.parametrize(
    "head", [b"\x1f\x8b\x08", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"#9 WAVEDESC"]
)
def test_a_packed_file_that_is_called_a_text_is_known(tmp_path, head):
    (tmp_path / "a.csv").write_bytes(head + bytes(range(200)))
    with pytest.raises(DataError, match="whatever it is called"):
        open_source(tmp_path / "a.csv")
    (tmp_path / "a.mf4").write_bytes(head)
    with pytest.raises(DataError, match="save it as one of these"):
        open_source(tmp_path / "a.mf4")
