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
from chiasm.diagnosis.recorders.column_names import (
    CHARGE_UNITS,
    CHARGE_WORDS,
    COLUMN_WORDS,
    NO_TIMES,
    PARTS,
    PHASE_UNITS,
    SIGNAL_UNITS,
    TIME_UNITS,
    VOLTAGE_UNITS,
    VOLTAGE_WORDS,
    phase_scale,
    unit_of_charge,
    words_of,
)
from chiasm.diagnosis.recorders.instrument_tables import InstrumentTable
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
RAW_TYPES = {
    **{"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2"},
    **{"int32": "<i4", "uint32": "<u4", "float32": "<f4", "float64": "<f8"},
    **{"int16be": ">i2", "uint16be": ">u2", "int32be": ">i4", "uint32be": ">u4"},
    **{"float32be": ">f4", "float64be": ">f8"},
}

# Phases and times agree at one mains frequency, or do not.
_AGREES, _DISAGREES = 0.85, 0.5
_MAINS, _TIME_SCALES = (50.0, 60.0), {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_DECIBELS = ("db", "dbm", "dbmv", "dbuv", "dbµv", "dbv")
# Amplitude grows with the rows of a pattern's matrix downwards, upwards, or with its columns.
DIRECTIONS = ("up", "down", "right", "left")


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
        raw_type: of files of bare numbers, see ``RAW_TYPES``; ``header_bytes`` before them, and
            ``raw_channels`` whose numbers stand there by turns.
        variable: of a .mat or .npz file with several arrays.
        charge: calibration factor, the apparent charge of one unit of amplitude in pC.
        voltage_kv: effective value of the voltage at the test object, kV.
        dead_time: after the beginning of a pulse, in which no other begins, seconds.
        time_unit: of a list's times where no header says it: s, ms, us, ns.
        phase_unit: of a list's phases: degrees, radians, percent or cycles, or the number of parts
            of a cycle that they count, such as 256.
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
    raw_channels: int = 1
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
            if name == "phase_unit" and _parts(value):
                continue
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


def with_test_voltage(names: Sequence[str], roles: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return the roles of columns, where a voltage beside a charge is that of the test object."""
    charges = [c for c in roles.get("amplitude", []) if words_of(names[c])[0] in CHARGE_WORDS]
    volts = [c for c in roles.get("amplitude", []) if words_of(names[c])[0] in VOLTAGE_WORDS]
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
    words = words_of(table.names[roles["amplitude"][0]]) if table.names else []
    unit = next((word for word in words[::-1] if word in SIGNAL_UNITS), "")
    charge = unit_of_charge(words)
    if charge and system.charge_pc is None:
        system = replace(system, charge_pc=CHARGE_UNITS.get(charge, 1e12))
        prefix = "" if charge == "c" else charge[0]
        said.append(f"{where}: charges are in {prefix}C by the header of their column.")
    elif unit:
        system = replace(system, unit=unit)
    if "voltage" not in roles or time is None:
        return system, tuple(said)
    column = roles["voltage"][0]
    values = table.values[:, column]
    if not np.isfinite(values).all():
        raise DataError(f"{where}: its column of the voltage has an empty cell or NaN.")
    named = words_of(table.names[column]) if table.names and not settings.columns else []
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


def seconds_of(
    times: NDArray[np.float64], name: str, settings: RecorderSettings, where: str
) -> tuple[NDArray[np.float64], bool]:
    """Return times in seconds, and whether their unit was said.

    Raises:
        DataError: the header names what is no unit of time.
    """
    if settings.time_unit:
        return times * TIME_UNITS[settings.time_unit], True
    words = words_of(name)
    # The last word first: 'Time per div [us]'. A lone 't' or 's' is the column itself.
    for word in [*words[:0:-1], *(w for w in words[:1] if len(w) > 1)]:
        if word in TIME_UNITS:
            return times * TIME_UNITS[word], True
    strange = [word for word in words[1:] if word in NO_TIMES]
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
    """Return phases in degrees, 0 to 360; those in a unit of time by the mains frequency.

    Raises:
        DataError: they can be in another unit, or are in none.
    """
    low, high = (float(phase.min()), float(phase.max())) if len(phase) else (0.0, 0.0)
    words = words_of(name)
    of_time = next((TIME_UNITS[w] for w in words[:0:-1] if w in TIME_UNITS), None)
    unit, scale = "degrees", phase_scale(name)
    if settings.phase_unit:
        parts = _parts(settings.phase_unit)
        unit = f"parts of {parts:g}" if parts else settings.phase_unit
        scale = 360 / parts if parts else PHASE_UNITS[unit]
    elif of_time is not None:
        unit, scale = f"'{name}' at {settings.frequency:g} Hz", of_time * settings.frequency * 360
    elif PARTS & set(words):
        raise DataError(
            f"{where}: its column '{name}' counts parts of the cycle, of {low:g} to {high:g}: give "
            "their number, e.g. phase_unit=256.",
            see="columns",
        )
    elif scale is None and (other := _other_unit(phase, low, high)):
        raise DataError(
            f"{where}: its phases lie between {low:g} and {high:g}, and no header names their "
            f"unit: give phase_unit={other}, or phase_unit=degrees.",
            see="columns",
        )
    degrees = phase * (1.0 if scale is None else scale)
    if len(degrees) and (degrees.min() < -180.5 or degrees.max() > 360.5):
        raise DataError(
            f"{where}: its phases lie between {low:g} and {high:g} {unit}; one mains "
            f"cycle was expected. Give their unit, phase_unit={', '.join(PHASE_UNITS)} or a number "
            "of parts such as 256, or name the columns (columns=time,phase,amplitude).",
            see="columns",
        )
    return np.mod(degrees, 360.0)


def _parts(unit: str) -> float:
    """Return the parts of a cycle of a unit that is a number above 2; else 0."""
    try:
        return number if 2 < (number := float(unit)) < float("inf") else 0.0
    except ValueError:
        return 0.0


def _other_unit(phase: NDArray[np.float64], low: float, high: float) -> str:
    """Return in which other unit than degrees phases may be; "" where they must be in degrees."""
    size = max(-low, high)
    if size <= 1.0:
        return "cycles"
    if size <= 2 * math.pi + 0.01:
        return "radians"
    # Discharges of both half-cycles reach beyond 100 degrees.
    if 0 <= low < 40 and 60 < high <= 100.5 and len(phase) >= _MANY:
        return "percent"
    # Instruments divide the cycle into powers of 2.
    counted = high in (31, 63, 127, 255) and low >= 0 and not np.mod(phase, 1).any()
    return f"{high + 1:g}" if counted and len(phase) >= _MANY else ""


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
    if not values.any():
        raise DataError(f"{where}: its column '{name}' is 0 in all rows: there is no pulse.")
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
