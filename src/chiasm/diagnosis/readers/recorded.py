"""What a file of a recorder holds, and what it does not say of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import pattern_of, pattern_picture, series_of
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.readers.instrument_tables import InstrumentTable
from chiasm.discharge import AppliedVoltage, MeasuringSystem, Pulses
from chiasm.errors import DataError
from chiasm.samples import FloatArray

Layout = Literal["", "rows", "channels", "pulses", "pattern", "waveform"]
LAYOUTS: tuple[Layout, ...] = ("rows", "channels", "pulses", "pattern", "waveform")
RECORDER_SUFFIXES = frozenset(
    {".csv", ".txt", ".tsv", ".asc", ".dat", ".npy", ".npz", ".mat", ".xml"}
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

# Words of column names, in the languages of instruments.
COLUMN_WORDS: Mapping[str, tuple[str, ...]] = {
    "voltage": (),  # at the test object: told from a voltage that is the signal by what is beside
    "phase": ("phase", "phi", "angle", "winkel", "fase", "grad", "deg", "°"),
    "time": ("time", "zeit", "tiempo", "temps", "tempo", "sec", "second", "t"),
    "count": ("count", "number", "quantity", "anzahl", "n"),
    "amplitude": (
        *("charge", "amplitude", "ampl", "magnitude", "voltage", "level", "signal", "value"),
        *("ladung", "spannung", "carga", "tension", "pc", "nc", "mv", "dbm", "volt"),
        *("ch", "channel", "kanal", "q", "a", "u", "v"),
    ),
}


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
    """

    series: FloatArray | None
    image: FloatArray | None
    frequency: float
    samples_per_cycle: int = CYCLE
    remarks: tuple[str, ...] = ()
    group: Mapping[str, str] = field(default_factory=dict)
    pulses: Pulses | None = None
    system: MeasuringSystem = field(default_factory=MeasuringSystem)


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
    return [word for word in re.split(r"[^a-zµμ]+", name.lower()) if word]


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
