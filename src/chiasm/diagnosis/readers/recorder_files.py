"""What a file of any recorder holds: a sampled series, a list of pulses, or a pattern of counts.

The content decides, not the suffix: a table whose first column is a time with equal steps is a
sampled series; columns that are called phase and charge are a list of pulses; a table of whole
numbers that are mostly 0 is a pattern. What is assumed is said. What can be two things is refused,
with the option that says which one it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.pulses import in_bins, pattern_picture
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.readers.instrument_tables import (
    InstrumentTable,
    read_instrument_table,
    sample_interval,
    without_axes,
)
from chiasm.diagnosis.readers.instruments import (
    instrument_xml,
    lone_monitor_file,
    monitor_files,
    read_monitor,
)
from chiasm.diagnosis.readers.pulse_phases import phases_in_degrees, seconds_by_phase
from chiasm.diagnosis.readers.recorded import (
    COLUMN_WORDS,
    RAW_SUFFIXES,
    RAW_TYPES,
    Layout,
    Recorded,
    RecorderSettings,
    check_finite,
    of_pulses,
    remarked,
    system_of,
    system_of_table,
    with_test_voltage,
)
from chiasm.discharge import Pulses
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of

_TIME_UNITS = {"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
_TIME_UNITS |= {"sec": 1.0, "second": 1.0, "seconds": 1.0, "msec": 1e-3, "usec": 1e-6}
_UNIFORM = 0.02  # share of a step by which steps of a sampled time may differ
# A pattern has at least so many rows and columns, and so large a share of empty cells.
_LEAST_PATTERN, _EMPTY = 16, 0.5


def read_recorder_file(path: Path | str, settings: RecorderSettings) -> Recorded:
    """Read one recording of a recorder; its other files, if it writes several, are found by name.

    Raises:
        DataError: the file is damaged, of no known kind, or can be two kinds; it names the file
            and the remedy.
    """
    path = Path(path)
    companions = monitor_files(path)
    if companions:
        return read_monitor(companions, settings)
    return recorded_from_bytes(bytes_of(path), str(path), settings)


def recorded_from_bytes(content: bytes, where: str, settings: RecorderSettings) -> Recorded:
    """Decode the content of one file as ``read_recorder_file`` does; ``where`` is its name."""
    suffix = Path(where).suffix.lower()
    if settings.raw_type or suffix in RAW_SUFFIXES:
        return _sampled(_raw(content, settings, where), settings, where)
    if content.lstrip()[:1] == b"<":
        return instrument_xml(content, settings, where)
    if content[:6] == b"\x93NUMPY" or suffix in (".npy", ".npz", ".mat"):
        return _of_array(_array(content, where, settings), settings, where)
    recorded = _of_table(read_instrument_table(content, where), settings, where)
    alone = lone_monitor_file(Path(where).name)
    return remarked(recorded, (alone,)) if alone else recorded


def _of_array(values: NDArray[Any], settings: RecorderSettings, where: str) -> Recorded:
    if values.dtype.kind not in "iufb" or values.ndim not in (1, 2) or not values.size:
        raise DataError(
            f"{where} holds {values.dtype} values of shape {values.shape}, no array of real "
            "numbers; (values,) or (channels, values) was expected."
        )
    numbers = values.astype(np.float64)
    if numbers.ndim == 1:
        return _sampled(numbers[None], settings, where)
    check_finite(numbers, where)
    if numbers.shape[0] > numbers.shape[1] and settings.layout in ("", "waveform", "pulses"):
        # Columns, as tables have them: known by their names, or by a time with equal steps.
        if settings.columns or _equal_steps(numbers[:, 0]):
            return _of_table(InstrumentTable((), numbers), settings, where)
        raise DataError(
            f"{where} has shape {numbers.shape}, more channels than values; a series is (channels, "
            "values): transpose it, or say what its columns are, e.g. columns=time,amplitude."
        )
    return _of_matrix(numbers, settings, where, default="channels")


def _of_table(table: InstrumentTable, settings: RecorderSettings, where: str) -> Recorded:
    values = table.values
    given = bool(settings.columns)
    roles = _roles(settings.columns or table.names, values.shape[1], where, given=given)
    if settings.layout not in ("rows", "channels", "pattern"):
        if "phase" in roles and "amplitude" in roles:
            return _pulse_list(table, roles, settings, where)
        if "time" in roles and "amplitude" in roles:
            return _timed(table, roles, settings, where)
        if settings.layout == "pulses" or (settings.layout == "waveform" and values.shape[1] > 1):
            if not roles and settings.layout == "waveform":
                columns = {"time": [0], "amplitude": [*range(1, values.shape[1])]}
                return _timed(table, columns, settings, where)
            raise DataError(
                f"{where} does not name its columns; say what they are, in order, e.g. "
                "columns=time,phase,amplitude.",
                see="columns",
            )
        few = 2 <= values.shape[1] <= 8 and len(values) >= _LEAST_PATTERN
        if few and (not roles or _is_time_beside(table, roles)):
            return _unnamed(table, settings, where)
        if few and table.names and not given and len(roles.get("amplitude", ())) < values.shape[1]:
            raise DataError(
                f"{where} has the columns {', '.join(table.names)}, which are not all known. Say "
                "what they are, in order, e.g. columns=time,amplitude, or - for one that is not "
                "used.",
                see="columns",
            )
    check_finite(values, where)
    if settings.layout in ("", "pattern") and (inner := without_axes(table)) is not None:
        axes = f"{where}: the first row and column are axes, and were left out of the counts."
        pattern = replace(settings, layout="pattern")
        return remarked(_of_matrix(inner, pattern, where, default="rows"), (axes,))
    if values.shape[1] == 1 or values.shape[0] == 1:
        return _sampled(values.reshape(1, -1), settings, where)
    if "amplitude" in roles and len(roles["amplitude"]) == values.shape[1] <= 8:
        return _sampled(values.T, settings, where)  # named channels
    return _of_matrix(values, settings, where, default="rows")


def _unnamed(table: InstrumentTable, settings: RecorderSettings, where: str) -> Recorded:
    """Read two to eight columns without names, or with names that say nothing of time."""
    first = table.values[:, 0]
    if _equal_steps(first):
        roles = {"time": [0], "amplitude": [*range(1, table.values.shape[1])]}
        return _timed(table, roles, settings, where)
    raise DataError(
        f"{where} has {table.values.shape[1]} columns without names, and {len(first)} rows: it can "
        "be a list of pulses, or channels. Say what they are, in order, e.g. "
        "columns=time,phase,amplitude, or columns=amplitude,amplitude for channels; or layout=rows "
        "if the rows follow each other in time.",
        see="columns",
    )


def _is_time_beside(table: InstrumentTable, roles: Mapping[str, list[int]]) -> bool:
    """Return whether a first column without a role has the equal steps of a time."""
    others = set(range(1, table.values.shape[1]))
    known = {"amplitude", "voltage"}
    return (
        set(roles) <= known
        and set().union(*roles.values()) <= others
        and _equal_steps(table.values[:, 0])
    )


def _timed(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    """Read a time and one or more signals: sampled if the time has equal steps, else pulses."""
    column = roles["time"][0]
    unit, said = _time_unit(table.names[column] if table.names else "")
    time = table.values[:, column] * unit
    signals = table.values[:, roles["amplitude"]].T
    check_finite(np.vstack([time, signals]).T, where)
    if len(time) < 2:
        raise DataError(f"{where} has one row of numbers, which is no series.")
    steps = np.diff(time)
    if _equal_steps(time):
        whole = bool(np.all(table.values[:, column] == np.rint(table.values[:, column])))
        if whole and steps.mean() >= 0.5 * unit and not said:
            remark = f"{where}: the first column counts the values; it was left out."
            interval = sample_interval(table.header)
            if interval is not None and settings.sample_rate is None:
                settings = replace(settings, sample_rate=1 / interval)
                remark += f" Its head names steps of {interval:g} s."
            read = _sampled(signals, settings, where)
            return remarked(read, (remark,))
        rate = 1 / float(steps.mean())
        system, said_of_system = system_of_table(table, roles, settings, where, time)
        remark = (
            f"{where}: {len(time)} values at {rate:.6g} a second by its column of time"
            f"{'' if said else ' (taken as seconds)'}, {settings.frequency:g} Hz."
        )
        read = replace(_at_rate(signals, rate, settings), system=system)
        return remarked(read, (remark, *said_of_system))
    if len(signals) > 1 or settings.layout == "waveform":
        raise DataError(
            f"{where}: its column of time has no equal steps, so that it is no sampled series. "
            "Name the columns of a list of pulses: columns=time,phase,amplitude."
        )
    phase = np.mod((time - time[0]) * settings.frequency, 1.0) * 360.0
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    remark = (
        f"{where}: pulses without a phase; it was counted from the first time at "
        f"{settings.frequency:g} Hz, so that only phases to each other mean something."
    )
    read = of_pulses(Pulses(phase, signals[0], time - time.min()), settings)
    return remarked(replace(read, system=system), (remark, *said_of_system))


def _pulse_list(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    values = table.values
    check_finite(values[:, [c for columns in roles.values() for c in columns]], where)
    name = table.names[roles["phase"][0]].lower() if table.names else ""
    phase, said_of_phase = phases_in_degrees(values[:, roles["phase"][0]], name, where)
    if phase.min() < -180.5 or phase.max() > 360.5:
        raise DataError(
            f"{where}: its phases lie between {phase.min():g} and {phase.max():g}; degrees between "
            "0 and 360 were expected."
        )
    count = values[:, roles["count"][0]] if "count" in roles else None
    time, remarks = None, [f"{where}: a list of {len(values)} pulses.", *said_of_phase]
    if "time" in roles:
        unit, said = _time_unit(table.names[roles["time"][0]] if table.names else "")
        time = values[:, roles["time"][0]] * unit
        seconds, fit = seconds_by_phase(time, phase, settings.frequency, said=said)
        time = time * seconds
        if fit:
            remarks.append(f"{where}: {fit}.")
        elif not said:
            remarks.append(f"{where}: its times are taken as seconds.")
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    start = None if time is None else time - time.min()
    pulses = Pulses(np.mod(phase, 360.0), values[:, roles["amplitude"][0]], start, count)
    read = replace(of_pulses(pulses, settings), system=system)
    return remarked(read, (*remarks, *said_of_system))


def _of_matrix(
    values: NDArray[np.float64], settings: RecorderSettings, where: str, *, default: Layout
) -> Recorded:
    layout = settings.layout
    if not layout and _like_pattern(values):
        per_cycle = settings.samples_per_cycle or CYCLE
        if values.shape[1] % per_cycle == 0 and default == "rows":
            raise DataError(
                f"{where} holds {values.shape[0]} x {values.shape[1]} whole numbers, mostly 0: "
                "counts of a pattern (layout=pattern), or mains cycles that follow each other "
                "(layout=rows). Say which."
            )
        layout = "pattern"
    if layout == "pattern":
        if (values < 0).any() or np.isnan(values).any():
            raise DataError(f"{where} has negative or missing counts, which a pattern has not.")
        remark = (
            f"{where}: {values.shape[0]} x {values.shape[1]} counts were taken as a pattern, rows "
            "by amplitude with the largest first, columns by phase from 0 to 360 degrees."
        )
        return Recorded(None, pattern_picture(values), settings.frequency, remarks=(remark,))
    if (layout or default) == "channels":
        if values.shape[0] > values.shape[1]:
            raise DataError(
                f"{where} has shape {values.shape}, more channels than values; a series is "
                "(channels, values): transpose it."
            )
        return _sampled(values, settings, where)
    return _sampled(values.reshape(1, -1), settings, where)


def _like_pattern(values: NDArray[np.float64]) -> bool:
    return (
        min(values.shape) >= _LEAST_PATTERN
        and max(values.shape) <= 4096
        and bool((values >= 0).all())
        and float((values == 0).mean()) >= _EMPTY
        and bool((values == np.rint(values)).all())
    )


def _sampled(values: NDArray[np.float64], settings: RecorderSettings, where: str) -> Recorded:
    check_finite(values, where)
    if settings.sample_rate is not None:
        return _at_rate(values, settings.sample_rate, settings)
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = settings.samples_per_cycle or CYCLE
    return Recorded(series, None, settings.frequency, per_cycle, system=system_of(settings))


def _at_rate(values: NDArray[np.float64], rate: float, settings: RecorderSettings) -> Recorded:
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = rate / settings.frequency
    if per_cycle >= 2 and abs(per_cycle - round(per_cycle)) < 1e-6 * per_cycle:
        whole = round(per_cycle)
        return Recorded(series, None, settings.frequency, whole, system=system_of(settings))
    held = in_bins(series, rate=rate, frequency=settings.frequency)
    return Recorded(held, None, settings.frequency, system=system_of(settings))


def _raw(content: bytes, settings: RecorderSettings, where: str) -> NDArray[np.float64]:
    if not settings.raw_type:
        raise DataError(
            f"{where} holds bare numbers; say of which type, e.g. raw_type=int16 "
            f"({', '.join(RAW_TYPES)}), and header_bytes=... if something stands before them.",
            see="columns",
        )
    dtype = np.dtype(RAW_TYPES[settings.raw_type])
    body = content[settings.header_bytes :]
    if not body or len(body) % dtype.itemsize:
        raise DataError(
            f"{where} has {len(body)} bytes of numbers, which is no multiple of {dtype.itemsize} "
            f"({settings.raw_type}); check raw_type and header_bytes."
        )
    return np.frombuffer(body, dtype).astype(np.float64)[None]


def _array(content: bytes, where: str, settings: RecorderSettings) -> NDArray[Any]:
    """Return the array of a .npy, .npz or .mat file."""
    stream = BytesIO(content)
    try:
        if content[:6] == b"\x93NUMPY" or content[:2] == b"PK":
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            arrays = dict(loaded)
        else:
            from scipy.io import loadmat

            arrays = {k: v for k, v in loadmat(stream).items() if not k.startswith("__")}
    except NotImplementedError as cause:
        raise DataError(
            f"{where} is a MATLAB file of version 7.3; save it with '-v7', or as .npz."
        ) from cause
    except Exception as cause:  # damaged files make readers raise nearly anything
        raise DataError(f"{where} cannot be read as a numpy array ({cause}).") from cause
    numeric = {k: np.squeeze(v) for k, v in arrays.items() if np.asarray(v).dtype.kind in "iuf"}
    if settings.variable:
        if settings.variable not in numeric:
            raise DataError(
                f"{where} has no array '{settings.variable}'; it has {', '.join(sorted(numeric))}."
            )
        return numeric[settings.variable]
    large = {k: v for k, v in numeric.items() if v.ndim in (1, 2) and v.size >= _LEAST_PATTERN}
    if len(large) != 1:
        raise DataError(
            f"{where} holds {len(large)} arrays of numbers ({', '.join(sorted(large)) or 'none'}); "
            "say which one is the series: variable=NAME."
        )
    return next(iter(large.values()))


def _roles(names: Sequence[str], width: int, where: str, *, given: bool) -> dict[str, list[int]]:
    """Return the columns by what they are; nothing where they have no names.

    ``given`` names are those of the settings, others those that a file writes.
    """
    if not names:
        return {}
    if len(names) != width:
        raise DataError(f"{where} has {width} columns, and {len(names)} were named.")
    roles: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        role = name.strip("-") if given else role_of(name)
        if role:
            roles.setdefault(role, []).append(column)
    return roles if given else with_test_voltage(names, roles)


def role_of(name: str) -> str:
    """Return what a column's name says that it is: time, phase, amplitude, count, or ""."""
    words = [word for word in re.split(r"[^a-zµμ°]+", name.lower()) if word]
    for role, known in COLUMN_WORDS.items():
        if any(
            word == k or (len(k) > 3 and word.startswith(k)) for word in words[:1] for k in known
        ):
            return role
    # A unit alone tells, too: 'Q [pC]'.
    for role, known in COLUMN_WORDS.items():
        if any(word in known for word in words[1:]):
            return role
    return ""


def _equal_steps(time: NDArray[np.float64]) -> bool:
    steps = np.diff(time)
    return bool(
        len(steps) and (steps > 0).all() and np.ptp(steps) <= _UNIFORM * float(steps.mean())
    )


def _time_unit(name: str) -> tuple[float, bool]:
    """Return the seconds of a unit in a column's name, and whether there is one."""
    words = re.split(r"[^a-zµμ]+", name.lower())
    # A name that is a word for seconds is a unit, too; 's' and 't' are names.
    for word in (words[1:] or [""]) + [w for w in words[:1] if w.startswith("second")]:
        if word in _TIME_UNITS:
            return _TIME_UNITS[word], True
    return 1.0, False
