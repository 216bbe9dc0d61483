"""What a file of a recorder holds, and what it does not say of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import (
    pattern_of,
    pattern_picture,
    phase_agreement,
    series_of,
)
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.readers.instrument_tables import InstrumentTable
from chiasm.discharge import AppliedVoltage, MeasuringSystem, Pulses
from chiasm.errors import DataError
from chiasm.samples import FloatArray

Layout = Literal["", "rows", "channels", "pulses", "pattern", "waveform"]
LAYOUTS: tuple[Layout, ...] = ("rows", "channels", "pulses", "pattern", "waveform")
RECORDER_SUFFIXES = frozenset(
    {".csv", ".txt", ".tsv", ".asc", ".dat", ".lvm", ".prn", ".npy", ".npz", ".mat", ".xml"}
    | {".wav", ".h5", ".hdf5"}
)
RAW_SUFFIXES = frozenset({".bin", ".raw", ".i16", ".f32"})
RAW_TYPES = {"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4"} | {
    "float32": "<f4",
    "float64": "<f8",
    "int16be": ">i2",
    "int32be": ">i4",
    "float32be": ">f4",
}

# pC in a unit of charge, and kV in one of voltage, as headers write them.
CHARGE_UNITS = {"pc": 1.0, "nc": 1e3, "uc": 1e6, "µc": 1e6, "μc": 1e6}
_SIGNAL_UNITS = ("v", "mv", "uv", "µv", "μv", "a", "ma", "ua", "dbm", "dbmv", "dbuv")
VOLTAGE_UNITS = {"v": 1e-3, "kv": 1.0, "volt": 1e-3, "volts": 1e-3}

# Seconds of a unit of time, as headers write it.
TIME_UNITS = {
    **{"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0},
    **{"sec": 1.0, "second": 1.0, "seconds": 1.0, "sekunden": 1.0, "msec": 1e-3, "usec": 1e-6},
    **{"millisecond": 1e-3, "milliseconds": 1e-3, "microsecond": 1e-6, "microseconds": 1e-6},
    **{"nanosecond": 1e-9, "nanoseconds": 1e-9, "min": 60.0, "minutes": 60.0, "h": 3600.0},
}
_NO_TIMES = frozenset({"sample", "samples", "points", "pts", "cycle", "cycles", "days", "dd", "hh"})
# Degrees of a unit of the phase.
PHASE_UNITS = {"degrees": 1.0, "radians": 180 / math.pi, "percent": 3.6, "cycles": 360.0}
_PHASE_WORDS = {
    **dict.fromkeys(("deg", "degree", "degrees", "grad", "grados", "°"), "degrees"),
    **dict.fromkeys(("rad", "radian", "radians"), "radians"),
    **dict.fromkeys(("percent", "pct", "prozent"), "percent"),
    **dict.fromkeys(("cycle", "cycles", "pu", "turn", "turns", "period", "periods"), "cycles"),
}
# Phases and times agree at one mains frequency, or do not.
_AGREES, _DISAGREES = 0.85, 0.5
_MAINS, _TIME_SCALES = (50.0, 60.0), {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DECIBELS = ("db", "dbm", "dbmv", "dbuv", "dbµv", "dbv")
# Amplitude grows with the rows of a pattern's matrix downwards, upwards, or with its columns.
DIRECTIONS = ("up", "down", "right", "left")

# Words of column names, in the languages of instruments.
COLUMN_WORDS: Mapping[str, tuple[str, ...]] = {
    "voltage": (),  # at the test object: told from a voltage that is the signal by what is beside
    "phase": (
        *("phase", "phi", "angle", "winkel", "fase", "grad", "deg", "degree", "degrees", "°"),
        *("theta", "rad", "φ", "ϕ", "θ"),
    ),
    "time": (
        *(
            "time",
            "zeit",
            "uhrzeit",
            "tiempo",
            "temps",
            "tempo",
            "t",
            "sec",
            "second",
            "seconds",
            "s",
        ),
        *("ms", "us", "µs", "μs", "ns", "msec", "usec"),
    ),
    "count": ("count", "number", "quantity", "anzahl", "n"),
    "amplitude": (
        *("charge", "amplitude", "ampl", "magnitude", "voltage", "level", "signal", "value"),
        *("height", "peak", "qiec", "qpeak", "vpeak", "vpp", "amp"),
        *("ladung", "spannung", "carga", "tension", "pc", "nc", "mv", "dbm", "volt"),
        *("ch", "channel", "kanal", "q", "a", "u", "v"),
    ),
}


# First words of columns that hold nothing of the discharges, whatever their unit is called.
_OTHER_QUANTITIES = ("temp", "humid", "press", "moist", "feucht", "druck", "load", "tap")
# What a number or a count in a column's name may be of, so that it is one of pulses.
_COUNTED = ("pulse", "pulses", "pd", "event", "events", "discharge", "discharges", "hit", "hits")


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """What a recorder's files do not say of themselves.

    Attributes:
        frequency: of the mains, Hz.
        samples_per_cycle: of a series without times; None is ``CYCLE``.
        sample_rate: values a second of a series without times.
        layout: what a table is, where its content does not tell: ``rows`` that follow each other
            in time, ``channels``, ``pulses``, ``pattern`` or ``waveform`` (time and value).
        columns: names of the columns of a table without them: time, phase, amplitude, count, or
            ``-`` for one that is not used.
        raw_type: of files of bare numbers, see ``RAW_TYPES``; ``header_bytes`` before them.
        variable: of a .mat or .npz file with several arrays.
        charge: calibration factor, the apparent charge of one unit of amplitude in pC.
        voltage_kv: effective value of the voltage at the test object, kV.
        dead_time: after the beginning of a pulse, in which no other begins, seconds.
        time_unit: of a list's times where no header says it: s, ms, us, ns.
        phase_unit: of a list's phases: degrees, radians, percent or cycles.
        amplitude_grows: of a matrix of counts: ``up`` (the first row is the largest), ``down``, or
            of one whose rows are phases: ``right`` or ``left``.
    """

    frequency: float = 60.0
    samples_per_cycle: int | None = None
    sample_rate: float | None = None
    layout: Layout = ""
    columns: tuple[str, ...] = ()
    raw_type: str = ""
    header_bytes: int = 0
    variable: str = ""
    charge: float | None = None
    voltage_kv: float | None = None
    dead_time: float | None = None
    time_unit: str = ""
    phase_unit: str = ""
    amplitude_grows: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that is none.

        Raises:
            DataError: of a layout, a column or a type.
        """
        if self.layout and self.layout not in LAYOUTS:
            raise DataError(f"The layout is '{self.layout}'; {', '.join(LAYOUTS)} were expected.")
        for name in self.columns:
            if name not in (*COLUMN_WORDS, "-"):
                raise DataError(
                    f"A column is called '{name}'; {', '.join(COLUMN_WORDS)} or - were expected."
                )
        if self.raw_type and self.raw_type not in RAW_TYPES:
            raise DataError(f"The type is '{self.raw_type}'; choose from {', '.join(RAW_TYPES)}.")
        for name, known in (
            ("time_unit", TIME_UNITS),
            ("phase_unit", PHASE_UNITS),
            ("amplitude_grows", DIRECTIONS),
        ):
            value = getattr(self, name)
            if value and value not in known:
                raise DataError(f"The {name} is '{value}'; {', '.join(known)} were expected.")

    @property
    def is_described(self) -> bool:
        """Whether somebody said how many values a series has to a second or a cycle."""
        return self.sample_rate is not None or self.samples_per_cycle is not None


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What one file holds.

    Attributes:
        series: ``(C, T)`` float32, or None.
        image: picture of the pattern ``(H, W, 3)``, or None.
        frequency, samples_per_cycle: of the series.
        remarks: sentences on what was assumed or changed.
        group: what the file says of its session.
        pulses: of a list or a pattern of pulses, each of them; else None.
        system: calibration and voltage, as the file or the settings tell them.
        assumed: whether nobody said how many values lie in a mains cycle.
    """

    series: FloatArray | None
    image: FloatArray | None
    frequency: float
    samples_per_cycle: int = CYCLE
    remarks: tuple[str, ...] = ()
    group: Mapping[str, str] = field(default_factory=dict)
    pulses: Pulses | None = None
    system: MeasuringSystem = field(default_factory=MeasuringSystem)
    assumed: bool = False


# First words of columns of a charge and of a voltage.
_CHARGE_WORDS = ("charge", "q", "ladung", "carga", "pc", "nc")
_VOLTAGE_WORDS = ("voltage", "u", "v", "kv", "spannung", "tension", "applied", "test", "hv", "volt")


def with_test_voltage(names: Sequence[str], roles: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the roles of columns, where a voltage beside a charge is that of the test object."""
    charges = [c for c in roles.get("amplitude", []) if _words(names[c])[0] in _CHARGE_WORDS]
    volts = [c for c in roles.get("amplitude", []) if _words(names[c])[0] in _VOLTAGE_WORDS]
    if not charges or len(volts) != 1:
        return dict(roles)
    rest = [c for c in roles["amplitude"] if c not in volts]
    return {**roles, "amplitude": rest, "voltage": volts}


def system_of_table(
    table: InstrumentTable,
    roles: Mapping[str, list[int]],
    settings: RecorderSettings,
    where: str,
    time: NDArray[np.float64] | None,
) -> tuple[MeasuringSystem, tuple[str, ...]]:
    """Return what a table and the settings tell of the measuring system, and remarks.

    A unit in the header of the amplitude calibrates it if it is one of charge, and if no factor is
    given. ``time`` are seconds of the rows.
    """
    system, said = system_of(settings), []
    words = _words(table.names[roles["amplitude"][0]]) if table.names else []
    unit = next((word for word in words[::-1] if word in (*CHARGE_UNITS, *_SIGNAL_UNITS)), "")
    if unit in CHARGE_UNITS and system.charge_pc is None:
        system = replace(system, charge_pc=CHARGE_UNITS[unit])
        said.append(f"{where}: charges are in {unit[0]}C by the header of their column.")
    elif unit:
        system = replace(system, unit=unit)
    if "voltage" not in roles or time is None:
        return system, tuple(said)
    column = roles["voltage"][0]
    values = table.values[:, column]
    if not np.isfinite(values).all():
        raise DataError(f"{where}: its column of the voltage has an empty cell or NaN.")
    named = _words(table.names[column]) if table.names and not settings.columns else []
    unit = next((word for word in named[::-1] if word in VOLTAGE_UNITS), "")
    read, sentence = _voltage(values * VOLTAGE_UNITS.get(unit, 1.0), time, settings.frequency)
    unit = unit or "kV, which no header says"
    said.append(f"{where}: {sentence} (unit: {unit}).")
    return replace(system, voltage=read or system.voltage), tuple(said)


def _voltage(
    kv: NDArray[np.float64], time: NDArray[np.float64], frequency: float
) -> tuple[AppliedVoltage | None, str]:
    """Return the effective value by time of a column's values, and a sentence on its reading."""
    order = np.argsort(time, kind="stable")
    time, kv = time[order] - time[order[0]], kv[order]
    cycle = np.floor(time * frequency + 1e-9).astype(np.int64)
    if kv.min() >= 0:
        first = np.unique(cycle, return_index=True)[1]
        mean = np.add.reduceat(kv, first) / np.diff(np.append(first, len(kv)))
        return AppliedVoltage(time[first], mean), "its voltage is taken as the effective value"
    counts = np.bincount(cycle)
    if counts.min() < 8:
        return None, (
            "its voltage is an instantaneous one, too seldom for an effective value, and was left "
            "out"
        )
    power = np.bincount(cycle, kv**2) / counts
    middle = np.asarray((np.arange(len(counts)) + 0.5) / frequency, np.float64)
    return AppliedVoltage(middle, np.sqrt(power)), (
        "the effective value of its voltage was computed in each mains cycle"
    )


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-zµμ°φϕθ]+", name.lower()) if word]


def role_of(name: str) -> str:
    """Return what a column's name says that it is: time, phase, amplitude, count, or "".

    Examples:
        >>> [role_of(name) for name in ("Phase (rad)", "second", "CH1 in V", "Apparent charge")]
        ['phase', 'time', 'amplitude', 'amplitude']
        >>> [role_of(name) for name in ("Gain", "Cycle number", "Temperature [deg C]")]
        ['', '', '']
    """
    words = _words(name)
    times = COLUMN_WORDS["time"]  # 'temps' is none of a temperature
    if words[:1] and words[0] not in times and words[0].startswith(_OTHER_QUANTITIES):
        return ""
    for role, known in COLUMN_WORDS.items():
        if any(
            word == k or (len(k) > 3 and word.startswith(k)) for word in words[:1] for k in known
        ):
            return role
    # A unit alone tells, too: 'Q [pC]'.
    for role, known in COLUMN_WORDS.items():
        # A number of something else numbers the rows: 'cycle number'.
        if any(word in known for word in words[1:]) and (role != "count" or words[0] in _COUNTED):
            return role
    return ""


def is_charge(name: str) -> bool:
    """Return whether a column's name is that of a charge."""
    words = _words(name)
    return bool(words) and (words[0] in _CHARGE_WORDS or any(w in CHARGE_UNITS for w in words))


def seconds_of(
    times: NDArray[np.float64], name: str, settings: RecorderSettings, where: str
) -> tuple[NDArray[np.float64], bool]:
    """Return times in seconds, and whether their unit was said.

    Raises:
        DataError: the header names what is no unit of time.
    """
    if settings.time_unit:
        return times * TIME_UNITS[settings.time_unit], True
    words = _words(name)
    # The last word first: 'Time per div [us]'. A lone 't' or 's' is the column itself.
    for word in [*words[:0:-1], *(w for w in words[:1] if len(w) > 1)]:
        if word in TIME_UNITS:
            return times * TIME_UNITS[word], True
    strange = [word for word in words[1:] if word in _NO_TIMES]
    if strange:
        raise DataError(
            f"{where}: its column '{name}' is in {strange[0]}, which is no unit of time: give "
            f"time_unit=s (or {', '.join(u for u in ('ms', 'us', 'ns'))}) if it is one, or leave "
            "the column out (columns=-,phase,amplitude, in their order).",
            see="columns",
        )
    return times, False


def agreeing_times(
    phase: NDArray[np.float64],
    time: NDArray[np.float64],
    settings: RecorderSettings,
    where: str,
    *,
    said: bool,
) -> tuple[NDArray[np.float64], RecorderSettings, tuple[str, ...]]:
    """Return times and settings with which the phases of a list agree, and remarks.

    Times in an unnamed unit, or a mains frequency that nobody gave, are told by the phases, which
    turn once a cycle.
    """
    taken = () if said else (f"{where}: its times are taken as seconds.",)
    held = phase_agreement(phase, time, frequency=settings.frequency)
    if held is not None and held >= _DISAGREES:
        return time, settings, taken
    best, unit, frequency = _AGREES, "", settings.frequency
    for word, scale in _TIME_SCALES.items() if not said else [("s", 1.0)]:
        for mains in dict.fromkeys((settings.frequency, *_MAINS)):
            agreement = phase_agreement(phase, time * scale, frequency=mains)
            if agreement is not None and agreement > best:
                best, unit, frequency = agreement, word, mains
    if not unit:
        return time, settings, taken
    remark = (
        f"{where}: its phases agree with its times at {frequency:g} Hz"
        f"{'' if said else f' in {unit}'}, and not at {settings.frequency:g} Hz"
        f"{'' if said or unit == 's' else ' in s'}: read so."
    )
    return time * _TIME_SCALES[unit], replace(settings, frequency=frequency), (remark,)


def degrees_of(
    phase: NDArray[np.float64], name: str, settings: RecorderSettings, where: str
) -> NDArray[np.float64]:
    """Return phases in degrees, 0 to 360.

    Raises:
        DataError: they can be in another unit, or are in none.
    """
    unit = settings.phase_unit
    if not unit:
        unit = next((_PHASE_WORDS[w] for w in _words(name)[::-1] if w in _PHASE_WORDS), "")
        unit = "percent" if "%" in name else unit
    low, high = (float(phase.min()), float(phase.max())) if len(phase) else (0.0, 0.0)
    if not unit and (other := _other_unit(low, high, len(phase))):
        raise DataError(
            f"{where}: its phases lie between {low:g} and {high:g}, and no header names their "
            f"unit: give phase_unit={other}, or phase_unit=degrees.",
            see="columns",
        )
    degrees = phase * PHASE_UNITS[unit or "degrees"]
    if len(degrees) and (degrees.min() < -180.5 or degrees.max() > 360.5):
        raise DataError(
            f"{where}: its phases lie between {low:g} and {high:g} {unit or 'degrees'}; one mains "
            f"cycle was expected. Give their unit, phase_unit={', '.join(PHASE_UNITS)}, or name "
            "the columns (columns=time,phase,amplitude).",
            see="columns",
        )
    return np.mod(degrees, 360.0)


def _other_unit(low: float, high: float, count: int) -> str:
    """Return in which other unit than degrees phases may be; "" where they must be in degrees."""
    size = max(-low, high)
    if size <= 1.0:
        return "cycles"
    if size <= 2 * math.pi + 0.01:
        return "radians"
    # Discharges of both half-cycles reach beyond 100 degrees.
    return "percent" if 0 <= low < 40 and 60 < high <= 100.5 and count >= _MANY else ""


_MANY = 20  # pulses, whose phases span what they can


def amplitudes_of(
    values: NDArray[np.float64], name: str, where: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return amplitudes of pulses, those in decibel as amplitudes, and remarks."""
    unit = next((w for w in re.split(r"[^a-zµ]+", name.lower())[::-1] if w in _DECIBELS), "")
    if unit:
        return 10 ** (values / 20), (f"{where}: amplitudes in {unit} were made linear.",)
    if len(values) >= _MANY and (values < 0).all():
        return values, (
            f"{where}: all amplitudes are negative and were taken as pulses downwards; levels in "
            "decibel need a header that says so, e.g. 'level [dBm]'.",
        )
    return values, ()


def numbers_of_pulses(
    values: NDArray[np.float64], name: str, where: str
) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Return how often pulses were seen; None where the column counts the rows.

    Raises:
        DataError: a number is negative.
    """
    if len(values) > 2 and (np.diff(values) == 1).all():
        return None, (f"{where}: the column '{name}' counts the rows; it was left out.",)
    if (values < 0).any():
        raise DataError(
            f"{where}: its column '{name}' of numbers of pulses has a negative one; leave it out, "
            "columns=phase,amplitude,- in the order of the columns.",
            see="columns",
        )
    return values, ()


_LARGEST = float(np.finfo(np.float32).max)


def of_pulses(pulses: Pulses, settings: RecorderSettings) -> Recorded:
    """Return a list or a pattern of pulses as series, if it has times, and picture."""
    series = None
    if pulses.time is not None and pulses.count is None:
        series = series_of(pulses, frequency=settings.frequency)
    picture = pattern_picture(pattern_of(pulses))
    return Recorded(series, picture, settings.frequency, pulses=pulses, system=system_of(settings))


def system_of(settings: RecorderSettings) -> MeasuringSystem:
    """Return what the settings tell of the measuring system."""
    voltage = None
    if settings.voltage_kv is not None:
        voltage = AppliedVoltage(np.zeros(1), np.array([settings.voltage_kv]))
    return MeasuringSystem(settings.charge, "", settings.dead_time, voltage)


def check_finite(values: NDArray[np.float64], where: str) -> None:
    """Refuse what is no finite float32; ``DataError`` names file and row of ``(R, C)`` values."""
    rows = np.atleast_2d(values)
    if (np.abs(rows) <= _LARGEST).all():  # of NaN that is false, too
        return
    row, column = np.argwhere(~(np.abs(rows) <= _LARGEST))[0]
    value = rows[row, column]
    held = "is empty or holds NaN" if np.isnan(value) else f"holds {value:g}"
    raise DataError(
        f"{where}, row {row + 1}, column {column + 1} {held}; a finite number was expected."
    )


def remarked(recorded: Recorded, remarks: tuple[str, ...]) -> Recorded:
    """Return what a file holds with further remarks."""
    return replace(recorded, remarks=(*recorded.remarks, *remarks))
