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

from chiasm.diagnosis.preparation.count_matrices import (
    LEAST_PATTERN,
    like_pattern,
    likely_direction,
    rising_rows,
)
from chiasm.diagnosis.preparation.pulses import in_bins, pattern_picture
from chiasm.diagnosis.preparation.recorders import CYCLE
from chiasm.diagnosis.preparation.table_times import equal_steps, gaps_in, step_of
from chiasm.diagnosis.readers.array_files import (
    HDF5_SUFFIXES,
    array_content,
    raw_numbers,
    wave_content,
    with_fact,
)
from chiasm.diagnosis.readers.instrument_tables import (
    InstrumentTable,
    read_instrument_table,
    without_axes,
)
from chiasm.diagnosis.readers.instruments import (
    instrument_xml,
    lone_monitor_file,
    monitor_files,
    read_monitor,
)
from chiasm.diagnosis.readers.recorded import (
    RAW_SUFFIXES,
    Layout,
    Recorded,
    RecorderSettings,
    agreeing_times,
    amplitudes_of,
    check_finite,
    degrees_of,
    is_charge,
    numbers_of_pulses,
    of_pulses,
    remarked,
    role_of,
    seconds_of,
    system_of,
    system_of_table,
    with_test_voltage,
)
from chiasm.discharge import Pulses
from chiasm.errors import DataError
from chiasm.files.decoding import bytes_of

_LEAST_A_CYCLE = 2.0  # values of a signal of which the mains cycle can be told
_MOST_CHANNELS = 8  # rows that may as well be channels


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
        return _sampled(raw_numbers(content, settings, where), settings, where)
    if content.lstrip()[:1] == b"<":
        return instrument_xml(content, settings, where)
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        series, settings, said = wave_content(content, where, settings)
        return remarked(_sampled(series, settings, where), said)
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
        return _sampled(numbers[None], settings, where)
    check_finite(numbers, where)
    if numbers.shape[0] > numbers.shape[1] and settings.layout in ("", "waveform", "pulses"):
        # Columns, as tables have them: known by their names, or by a time with equal steps.
        if settings.columns or equal_steps(numbers[:, 0]):
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
    used = {*table.texts, *(c for columns in roles.values() for c in columns)}
    names = [f"'{name}'" for c, name in enumerate(table.names) if c not in used]
    if not names or not roles:
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
    if settings.layout in ("", "pattern") and (counts := without_axes(table)) is not None:
        axes = f"{where}: a row or a column of axes was left out of the counts."
        if counts.by_amplitude:
            axes = f"{where}: its axes say which counts are of which amplitude and phase."
            settings = replace(settings, amplitude_grows="up")
        return remarked(_pattern(counts.values, settings, where), (axes,))
    check_finite(values, where)
    if values.shape[1] == 1 or values.shape[0] == 1:
        return _sampled(values.reshape(1, -1), settings, where)
    if "amplitude" in roles and len(roles["amplitude"]) == values.shape[1] <= 8:
        return _sampled(values.T, settings, where)  # named channels
    if roles and not settings.layout:
        raise DataError(
            f"{where} has the columns {', '.join(table.names[:9])}, of which not all say what they "
            "are; name them in their order, e.g. columns=time,amplitude,- (phase, time, amplitude, "
            "count, voltage, or - for one that is not used).",
            see="columns",
        )
    return _of_matrix(values, settings, where, default="rows")


def _unnamed(table: InstrumentTable, settings: RecorderSettings, where: str) -> Recorded:
    """Read two to eight columns without names."""
    first = table.values[:, 0]
    # One value a cycle is no signal: pulses may follow each other so.
    if equal_steps(first) and step_of(first) < 0.5 / settings.frequency:
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
    name = table.names[column] if table.names else ""
    time, said = seconds_of(table.values[:, column], name, settings, where)
    signals = table.values[:, roles["amplitude"]].T
    check_finite(np.vstack([time, signals]).T, where)
    if len(time) < 2:
        raise DataError(f"{where} has one row of numbers, which is no series.")
    if settings.layout != "pulses" and equal_steps(time):
        step = step_of(time)
        counted = table.values[:, column]
        if not said and float(np.diff(counted).mean()) >= 0.5 and not np.mod(counted, 1).any():
            remark = f"{where}: the first column counts the values; it was left out."
            read = _sampled(signals, settings, where)
            return remarked(read, (remark,))
        rate = 1 / step
        system, said_of_system = system_of_table(table, roles, settings, where, time)
        remark = (
            f"{where}: {len(time)} values at {rate:.6g} a second by its column of time"
            f"{'' if said else ' (taken as seconds)'}, {settings.frequency:g} Hz."
        )
        read = replace(_at_rate(signals, rate, settings, where), system=system)
        return remarked(read, (remark, *said_of_system))
    if settings.layout != "pulses" and equal_steps(time[::-1]):
        turned = replace(table, values=table.values[::-1])
        remark = f"{where}: its times run backwards; its rows are read from the last to the first."
        return remarked(_timed(turned, roles, settings, where), (remark,))
    gaps = gaps_in(time) if settings.layout != "pulses" else 0
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
    phase = np.mod((time - time[0]) * settings.frequency, 1.0) * 360.0
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    remark = (
        f"{where}: pulses without a phase; it was counted from the first time at "
        f"{settings.frequency:g} Hz, so that only phases to each other mean something."
    )
    amplitudes, linear = amplitudes_of(signals[0], _name(table, roles["amplitude"][0]), where)
    read = of_pulses(Pulses(phase, amplitudes, time - time.min()), settings)
    return remarked(replace(read, system=system), (remark, *linear, *said_of_system))


def _pulse_list(
    table: InstrumentTable, roles: Mapping[str, list[int]], settings: RecorderSettings, where: str
) -> Recorded:
    values, remarks = table.values, [f"{where}: a list of {len(table.values)} pulses."]
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
        column = roles["time"][0]
        time, said = seconds_of(values[:, column], _name(table, column), settings, where)
        time, settings, agreed = agreeing_times(phase, time, settings, where, said=said)
        remarks += agreed
    system, said_of_system = system_of_table(table, roles, settings, where, time)
    start = None if time is None else time - time.min()
    read = replace(of_pulses(Pulses(phase, amplitudes, start, count), settings), system=system)
    return remarked(read, (*remarks, *said_of_system))


def _name(table: InstrumentTable, column: int) -> str:
    return table.names[column] if table.names else ""


def _of_matrix(
    values: NDArray[np.float64], settings: RecorderSettings, where: str, *, default: Layout
) -> Recorded:
    layout = settings.layout
    per_cycle = settings.samples_per_cycle or CYCLE
    if not layout and like_pattern(values, whole=default == "channels"):
        if values.shape[1] % per_cycle == 0 and default == "rows":
            raise DataError(_either(values, where, "mostly 0"))
        layout = "pattern"
    if not layout and default == "rows" and rising_rows(values):
        raise DataError(_either(values, where, "whose rows go from few to many"))
    odd = default == "rows" and values.shape[1] % per_cycle and not settings.is_described
    if not layout and odd and len(values) >= LEAST_PATTERN and values.shape[1] <= 4096:
        raise DataError(
            f"{where} holds {values.shape[0]} x {values.shape[1]} numbers without names, which are "
            f"no cycles of {CYCLE} values: say what they are, layout=pattern (counts by amplitude "
            "and phase), layout=channels (a channel in each row), or layout=rows with "
            f"samples_per_cycle={values.shape[1]} or sample_rate=...",
            see="columns",
        )
    if layout == "pattern":
        return _pattern(values, settings, where)
    if (layout or default) == "channels":
        if values.shape[0] > values.shape[1]:
            raise DataError(
                f"{where} has shape {values.shape}, more channels than values; a series is "
                "(channels, values): transpose it."
            )
        return _sampled(values, settings, where)
    read = _sampled(values.reshape(1, -1), settings, where)
    if layout or len(values) > _MOST_CHANNELS:
        return read
    remark = (
        f"{where}: its {len(values)} rows follow each other in time; layout=channels if each is a "
        "channel."
    )
    return remarked(read, (remark,))


def _either(values: NDArray[np.float64], where: str, how: str) -> str:
    return (
        f"{where} holds {values.shape[0]} x {values.shape[1]} numbers, {how}: counts of a pattern "
        "(layout=pattern), or mains cycles that follow each other (layout=rows). Say which."
    )


def _pattern(values: NDArray[np.float64], settings: RecorderSettings, where: str) -> Recorded:
    """Return a matrix of counts as a picture, whichever way its amplitudes grow."""
    if (values < 0).any() or np.isnan(values).any():
        raise DataError(f"{where} has negative or missing counts, which a pattern has not.")
    if not values.any():
        raise DataError(f"{where} has no count above 0, which is no pattern; leave it out.")
    grows = settings.amplitude_grows or "up"
    turned = values.T if grows in ("right", "left") else values
    # The picture has the largest amplitude in its first row.
    turned = turned if grows in ("up", "left") else turned[::-1]
    words = {
        "up": "rows by amplitude with the largest first, columns by phase",
        "down": "rows by amplitude with the smallest first, columns by phase",
        "right": "columns by amplitude with the smallest first, rows by phase",
        "left": "columns by amplitude with the largest first, rows by phase",
    }
    said = (
        f"{where}: {values.shape[0]} x {values.shape[1]} counts were taken as a pattern, "
        f"{words[grows]} from 0 to 360 degrees."
    )
    if not settings.amplitude_grows and (likely := likely_direction(values)) != "up":
        # Small pulses are commoner than large ones, and the phases of pulses go around.
        side = {"down": "first rows", "right": "first columns", "left": "last columns"}[likely]
        raise DataError(
            f"{where}: most of its counts lie in the {side}, as if amplitudes grew from there: if "
            f"so, give amplitude_grows={likely}, else amplitude_grows=up (or right or left, where "
            "rows are phases).",
            see="columns",
        )
    return Recorded(None, pattern_picture(turned), settings.frequency, remarks=(said,))


def _sampled(values: NDArray[np.float64], settings: RecorderSettings, where: str) -> Recorded:
    check_finite(values, where)
    if settings.sample_rate is not None:
        return _at_rate(values, settings.sample_rate, settings, where)
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = settings.samples_per_cycle or CYCLE
    return Recorded(
        series,
        None,
        settings.frequency,
        per_cycle,
        system=system_of(settings),
        assumed=not settings.is_described,
    )


def _at_rate(
    values: NDArray[np.float64], rate: float, settings: RecorderSettings, where: str
) -> Recorded:
    series = np.ascontiguousarray(values, np.float32)
    per_cycle = rate / settings.frequency
    if per_cycle < _LEAST_A_CYCLE:
        raise DataError(
            f"{where} would have {rate:.4g} values a second, {per_cycle:.3g} to a cycle of "
            f"{settings.frequency:g} Hz, which are none of a sampled signal. Give the right rate "
            "(sample_rate=... values a second) or unit of its times (time_unit=ms, us or ns), or "
            "layout=pulses if each row is a pulse.",
            see="columns",
        )
    if per_cycle >= 2 and abs(per_cycle - round(per_cycle)) < 1e-6 * per_cycle:
        whole = round(per_cycle)
        return Recorded(series, None, settings.frequency, whole, system=system_of(settings))
    held = in_bins(series, rate=rate, frequency=settings.frequency)
    return Recorded(held, None, settings.frequency, system=system_of(settings))


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
