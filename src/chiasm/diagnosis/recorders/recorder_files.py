"""What a file of any recorder holds: a sampled series, a list of pulses, or a pattern of counts.

The content decides, not the suffix: a table whose first column is a time with equal steps is a
sampled series; columns that are called phase and charge are a list of pulses; a table of whole
numbers that are mostly 0 is a pattern. What is assumed is said. What can be two things is refused,
with the option that says which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.count_matrices import LEAST_PATTERN, like_pattern
from chiasm.diagnosis.recorders.array_files import (
    HDF5_SUFFIXES,
    array_content,
    wave_content,
    with_fact,
)
from chiasm.diagnosis.recorders.bare_numbers import raw_numbers
from chiasm.diagnosis.recorders.column_names import is_charge, is_of_whom, role_of
from chiasm.diagnosis.recorders.instrument_tables import InstrumentTable, read_instrument_table
from chiasm.diagnosis.recorders.instruments import (
    instrument_xml,
    lone_monitor_file,
    monitor_files,
    read_monitor,
)
from chiasm.diagnosis.recorders.matrices import MOST_CHANNELS, of_matrix, pattern
from chiasm.diagnosis.recorders.matrix_axes import is_phase_axis, without_axes
from chiasm.diagnosis.recorders.recorded import (
    RAW_SUFFIXES,
    Recorded,
    RecorderSettings,
    agreeing_times,
    amplitudes_of,
    check_finite,
    degrees_of,
    numbers_of_pulses,
    of_pulses,
    remarked,
    system_of_table,
    with_test_voltage,
)
from chiasm.diagnosis.recorders.reference_columns import referred, times_of
from chiasm.diagnosis.recorders.sampling import (
    at_rate,
    gaps_of,
    has_equal_steps,
    is_uneven_clock,
    sampled,
    step_of,
)
from chiasm.discharge import Pulses
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of
from chiasm.files.foreign_formats import how_to_save

_MANY_COLUMNS = 16  # amplitudes beside a phase that make a matrix
_MOST_SOURCES = 16  # channels whose pulses one list may mix
_WIDE = 90.0  # degrees that a column of phases spans


def read_recorder_file(path: Path | str, settings: RecorderSettings) -> Recorded:
    """Read one recording of a recorder; its other files, if it writes several, are found by name.

    Raises:
        DataError: the file is damaged, of no known kind, or can be two kinds; it names the file
            and the remedy.
    """
    path = Path(path)
    if path.suffix.lower() == ".dat" and (setup := path.with_suffix(".cfg")).is_file():
        raise DataError(f"{path} and {how_to_save(setup)}")
    companions = monitor_files(path)
    if companions:
        return read_monitor(companions, settings)
    return recorded_from_bytes(bytes_of(path), str(path), settings)


def recorded_from_bytes(content: bytes, where: str, settings: RecorderSettings) -> Recorded:
    """Decode the content of one file as ``read_recorder_file`` does; ``where`` is its name."""
    suffix = Path(where).suffix.lower()
    if settings.raw_type or suffix in RAW_SUFFIXES:
        return sampled(raw_numbers(content, settings, where), settings, where)
    if content.lstrip()[:1] == b"<":
        return instrument_xml(content, settings, where)
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        series, settings, said = wave_content(content, where, settings)
        return remarked(sampled(series, settings, where), said)
    if content[:6] == b"\x93NUMPY" or suffix in (".npy", ".npz", ".mat", *HDF5_SUFFIXES):
        held, settings, said = array_content(content, where, settings)
        if isinstance(held, InstrumentTable):
            return remarked(_of_table(held, settings, where), said)
        return remarked(_of_array(held, settings, where), said)
    table = read_instrument_table(content, where)
    settings, said = _told_by_header(table, settings, where)
    recorded = remarked(_of_table(table, settings, where), said)
    alone = lone_monitor_file(Path(where).name)
    return remarked(recorded, (alone,)) if alone else recorded


def _told_by_header(
    table: InstrumentTable, settings: RecorderSettings, where: str
) -> tuple[RecorderSettings, tuple[str, ...]]:
    """Return the settings with the rate and the mains frequency that lines of a header name."""
    said: list[str] = []
    for name, number in table.facts:
        settings, more = with_fact(settings, name, number, where, "its header")
        said += more
    return settings, tuple(said)


def _of_array(values: NDArray[Any], settings: RecorderSettings, where: str) -> Recorded:
    if values.dtype.kind not in "iufb" or values.ndim not in (1, 2) or not values.size:
        raise DataError(
            f"{where} holds {values.dtype} values of shape {values.shape}, no array of real "
            "numbers; (values,) or (channels, values) was expected."
        )
    numbers = values.astype(np.float64)
    if numbers.ndim == 1:
        return sampled(numbers[None], settings, where)
    check_finite(numbers, where)
    plain = settings.layout in ("", "waveform", "pulses")
    if plain and 1 < len(numbers) <= MOST_CHANNELS and has_equal_steps(numbers[0]):
        return _of_table(InstrumentTable((), numbers.T), settings, where)  # times in the first row
    counts = not settings.columns and like_pattern(numbers, whole=True)
    if numbers.shape[0] > numbers.shape[1] and plain and not counts:
        # Columns, as tables have them: known by their names, or by a time with equal steps.
        if settings.columns or has_equal_steps(numbers[:, 0]):
            return _of_table(InstrumentTable((), numbers), settings, where)
        raise DataError(
            f"{where} has shape {numbers.shape}, more channels than values; a series is (channels, "
            "values): transpose it, or say what its columns are, e.g. columns=time,amplitude."
        )
    return of_matrix(numbers, settings, where, default="channels")


def _of_table(table: InstrumentTable, settings: RecorderSettings, where: str) -> Recorded:
    values = table.values
    given = bool(settings.columns)
    roles = _roles(settings.columns or table.names, values.shape[1], where, given=given)
    if table.texts:
        held = {role: [c for c in some if c not in table.texts] for role, some in roles.items()}
        said = (*_text_columns(table, where), *_unused(table, roles, where))
        return remarked(
            _of_columns(table, {r: c for r, c in held.items() if c}, settings, where), said
        )
    if not given and list(roles) == ["amplitude"] and len(roles["amplitude"]) < values.shape[1]:
        # A number of the row beside named channels.
        rest = [c for c in range(values.shape[1]) if c not in roles["amplitude"]]
        if len(values) > 2 and all((np.diff(values[:, c]) == 1).all() for c in rest):
            kept = InstrumentTable(
                tuple(table.names[c] for c in roles["amplitude"]), values[:, roles["amplitude"]]
            )
            names = ", ".join(f"'{table.names[c]}'" for c in rest)
            remark = f"{where}: the column {names} counts the values; it was left out."
            return remarked(_of_table(kept, settings, where), (remark,))
    read = _of_columns(table, roles, settings, where)
    return read if given else remarked(read, _unused(table, roles, where))


def _unused(table: InstrumentTable, roles: Mapping[str, list[int]], where: str) -> tuple[str, ...]:
    """Return a sentence on named columns of numbers that are nothing of a recording."""
    names = [f"'{name}'" for _, name in _unread(table, roles)]
    if not names or not roles or len(names) > len(table.names) - len(roles):
        return ()
    return (f"{where}: nothing is read from the column {', '.join(names[:5])}.",)


def _text_columns(table: InstrumentTable, where: str) -> tuple[str, ...]:
    names = ", ".join(f"'{_name(table, c)}'" if table.names else str(c + 1) for c in table.texts)
    return (f"{where}: the column {names} holds texts and was left out.",)


def _of_columns(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    values = table.values
    if settings.layout not in ("rows", "channels", "pattern"):
        wide = len(roles.get("amplitude", ())) >= _MANY_COLUMNS and roles.get("phase") == [0]
        if wide and is_phase_axis(values[:, 0]):
            counts = _counts_with_axes(table, settings, where)
            return counts or of_matrix(values, settings, where, default="rows")
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
        if not roles and 2 <= values.shape[1] <= 8 and len(values) >= LEAST_PATTERN:
            return _unnamed(table, settings, where)
    if table.texts:
        raise DataError(
            f"{where} has columns of texts, and its other columns do not say what they are: name "
            "all in their order, e.g. columns=-,phase,amplitude.",
            see="columns",
        )
    # Before empty cells are refused: the corner between two axes may be one.
    if settings.layout in ("", "pattern") and (read := _counts_with_axes(table, settings, where)):
        return read
    check_finite(values, where)
    if values.shape[1] == 1 or values.shape[0] == 1:
        return sampled(values.reshape(1, -1), settings, where)
    if "amplitude" in roles and len(roles["amplitude"]) == values.shape[1] <= MOST_CHANNELS:
        names = [_name(table, column) for column in roles["amplitude"]]
        return remarked(sampled(values.T, settings, where), _channels(names, where))
    if roles and not settings.layout:
        raise DataError(
            f"{where} has the columns {', '.join(table.names[:9])}, of which not all say what they "
            "are; name them in their order, e.g. columns=time,amplitude,- (phase, time, amplitude, "
            "count, voltage, or - for one that is not used).",
            see="columns",
        )
    return of_matrix(values, settings, where, default="rows")


def _counts_with_axes(
    table: InstrumentTable, settings: RecorderSettings, where: str
) -> Recorded | None:
    counts = without_axes(table)
    if counts is None:
        return None
    said = f"{where}: a row or a column of axes was left out of the counts."
    if counts.undecided and not settings.amplitude_grows:
        raise DataError(
            f"{where}: a matrix with two axes, of which not one goes around 360 degrees. Say where "
            "its amplitudes grow to: amplitude_grows=down (the first row is the smallest), up, or "
            "right or left where rows are phases.",
            see="columns",
        )
    if counts.by_amplitude:
        said = f"{where}: its axes say which counts are of which amplitude and phase"
        turned = f", which begin with {counts.turned:.4g} degrees and were put in order from 0"
        said += f"{turned if counts.turned else ''}."
        settings = replace(settings, amplitude_grows="up")
    return remarked(pattern(counts.values, settings, where), (said,))


def _channels(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return a sentence on several signals of a recording."""
    if len(names) < 2:
        return ()
    listed = ", ".join(f"'{name}'" if name else str(k + 1) for k, name in enumerate(names))
    return (f"{where}: its columns {listed} are channels of one recording, in this order.",)


def _unnamed(table: InstrumentTable, settings: RecorderSettings, where: str) -> Recorded:
    """Read two to eight columns without names."""
    first = table.values[:, 0]
    # One value a cycle is no signal: pulses may follow each other so.
    if has_equal_steps(first) and step_of(first) < 0.5 / settings.frequency:
        roles = {"time": [0], "amplitude": [*range(1, table.values.shape[1])]}
        return _timed(table, roles, settings, where)
    raise DataError(
        f"{where} has {table.values.shape[1]} columns without names, and {len(first)} rows: it can "
        "be a list of pulses, or channels. Say what they are, in order, e.g. "
        "columns=time,phase,amplitude, or columns=amplitude,amplitude for channels; or layout=rows "
        "if the rows follow each other in time.",
        see="columns",
    )


def _timed(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    """Read a time and one or more signals: sampled if the time has equal steps, else pulses."""
    column = roles["time"][0]
    time, said, remarks = times_of(table, roles["time"], settings, where)
    signals = table.values[:, roles["amplitude"]].T
    check_finite(np.vstack([time, signals]).T, where)
    if len(time) < 2:
        raise DataError(f"{where} has one row of numbers, which is no series.")
    if settings.layout != "pulses" and (has_equal_steps(time) or is_uneven_clock(time, settings)):
        step = step_of(time)
        steps = np.diff(table.values[:, column])
        if not said and (steps == 1).all():
            remark = f"{where}: the first column counts the values; it was left out."
            read = sampled(signals, settings, where)
            return remarked(read, (remark,))
        rate = 1 / step
        uneven = "" if has_equal_steps(time) else ", whose steps are uneven: their mean is taken"
        names = [_name(table, c) for c in roles["amplitude"]]
        first_said: tuple[str, ...] = ()
        if not settings.columns and settings.layout != "waveform":
            others = [(n, table.values[:, c]) for c, n in _unread(table, roles)]
            signals, names, settings, first_said = referred(
                signals, names, others, rate, settings, where
            )
        system, said_of_system = system_of_table(table, roles, settings, where, time)
        remark = (
            f"{where}: {len(time)} values at {rate:.6g} a second by its column of time"
            f"{'' if said else ' (taken as seconds)'}{uneven}, {settings.frequency:g} Hz."
        )
        read = replace(at_rate(signals, rate, settings, where), system=system)
        more = (*_channels(names, where), *said_of_system)
        return remarked(read, (remark, *remarks, *first_said, *more))
    if settings.layout != "pulses" and has_equal_steps(time[::-1]):
        turned = replace(table, values=table.values[::-1])
        remark = f"{where}: its times run backwards; its rows are read from the last to the first."
        return remarked(_timed(turned, roles, settings, where), (remark,))
    gaps = gaps_of(time) if settings.layout != "pulses" else 0
    if gaps:
        raise DataError(
            f"{where}: its column of time has equal steps but for {gaps} of {len(time) - 1}, as a "
            "sampled signal with gaps has. Save what lies between the gaps as recordings of their "
            "own, or give layout=pulses if each row is a pulse.",
            see="columns",
        )
    if len(signals) > 1 or settings.layout == "waveform":
        raise DataError(
            f"{where}: its column of time has no equal steps, so that it is no sampled series. "
            "Name the columns of a list of pulses: columns=time,phase,amplitude."
        )
    if unread := _like_phases(table, roles):
        raise DataError(
            f"{where} has no column that is called a phase; '{unread}' may be it. Name the columns "
            "in their order, e.g. columns=time,phase,amplitude, with - for one that is not used.",
            see="columns",
        )
    phase = np.mod((time - time[0]) * settings.frequency, 1.0) * 360.0
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    remark = (
        f"{where}: pulses without a phase; it was counted from the first time at "
        f"{settings.frequency:g} Hz, so that only phases to each other mean something."
    )
    amplitudes, linear = amplitudes_of(signals[0], _name(table, roles["amplitude"][0]), where)
    read = of_pulses(Pulses(phase, amplitudes, time - time.min()), settings)
    more = (*remarks, *linear, *said_of_system)
    return remarked(replace(read, system=system), (remark, *more))


def _unread(table: InstrumentTable, roles: Mapping[str, list[int]]) -> list[tuple[int, str]]:
    """Return the columns of numbers that are nothing of a recording, with their names."""
    used = {*table.texts, *(c for columns in roles.values() for c in columns)}
    return [(c, name) for c, name in enumerate(table.names) if c not in used]


def _like_phases(table: InstrumentTable, roles: Mapping[str, list[int]]) -> str:
    """Return the name of a column that may hold phases though it is not called so; "" of none."""
    for column, name in _unread(table, roles):
        values = table.values[:, column]
        if not np.isfinite(values).all() or values.min() < -180.5 or values.max() > 360.5:
            continue
        if np.ptp(values) > _WIDE and (np.diff(values) < 0).any():
            return name or str(column + 1)
    return ""


def _pulse_list(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    values, remarks = table.values, [f"{where}: a list of {len(table.values)} pulses."]
    roles = {**roles, "amplitude": _of_one_source(table, roles["amplitude"], where)}
    if len(roles["phase"]) > 1:
        names = ", ".join(f"'{_name(table, c)}'" for c in roles["phase"])
        raise DataError(
            f"{where} has several columns of phases, {names}: name the columns in their order, "
            "e.g. columns=time,phase,amplitude, with - for one that is not used.",
            see="columns",
        )
    if len(roles["amplitude"]) > 1:
        # A charge is what is diagnosed and judged, wherever it stands.
        chosen = next((c for c in roles["amplitude"] if is_charge(_name(table, c))), None)
        chosen = roles["amplitude"][0] if chosen is None else chosen
        roles = {**roles, "amplitude": [chosen]}
        remarks.append(f"{where}: of its amplitudes '{_name(table, chosen)}' is read.")
    check_finite(values[:, [c for columns in roles.values() for c in columns]], where)
    column = roles["phase"][0]
    phase = degrees_of(values[:, column], _name(table, column), settings, where)
    name = _name(table, roles["amplitude"][0])
    amplitudes, linear = amplitudes_of(values[:, roles["amplitude"][0]], name, where)
    remarks += linear
    count, time = None, None
    if "count" in roles:
        column = roles["count"][0]
        count, counted = numbers_of_pulses(values[:, column], _name(table, column), where)
        remarks += counted
    if "time" in roles:
        time, said, more = times_of(table, roles["time"], settings, where)
        remarks += more
        time, settings, agreed = agreeing_times(phase, time, settings, where, said=said)
        remarks += agreed
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    start = None if time is None else time - time.min()
    read = replace(of_pulses(Pulses(phase, amplitudes, start, count), settings), system=system)
    return remarked(read, (*remarks, *said_of_system))


def _of_one_source(table: InstrumentTable, columns: list[int], where: str) -> list[int]:
    """Return the amplitudes of a list without a column that says of which channel a pulse is.

    Raises:
        DataError: the list holds pulses of several channels.
    """
    numbers = [c for c in columns if is_of_whom(_name(table, c))]
    if len(numbers) == len(columns):
        return columns
    for column in numbers:
        sources = np.unique(table.values[:, column])
        if 1 < len(sources) <= _MOST_SOURCES and (sources == np.rint(sources)).all():
            listed = ", ".join(f"{source:g}" for source in sources)
            raise DataError(
                f"{where} holds pulses of several channels ({listed} in its column "
                f"'{_name(table, column)}'), which are not one recording: save those of each "
                "channel as a file of their own."
            )
    return [c for c in columns if c not in numbers]


def _name(table: InstrumentTable, column: int) -> str:
    return table.names[column] if table.names else ""


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
