"""Columns beside a signal: a reference voltage, which gives frequency and phase, and several times.

A sine of the mains is no discharge. Where it stands beside a signal, its cycles are those by which
pulses are folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.preparation.reference_voltage import Reference, mains_reference
from chiasm.diagnosis.recorders.column_names import words_of
from chiasm.diagnosis.recorders.instrument_tables import InstrumentTable
from chiasm.diagnosis.recorders.recorded import RecorderSettings, seconds_of
from chiasm.errors import DataError

_NOMINAL = (50.0, 60.0, 50 / 3)  # Hz
_CLOSE = 0.01  # share by which a mains frequency differs from a nominal one
_DRIFT = 0.02  # cycles by which a nominal frequency may be wrong at the end
_APART = 0.5  # steps by which two columns of times may differ

Values = NDArray[np.float64]


def referred(
    signals: Values,
    names: Sequence[str],
    others: Sequence[tuple[str, Values]],
    rate: float,
    settings: RecorderSettings,
    where: str,
) -> tuple[Values, list[str], RecorderSettings, tuple[str, ...]]:
    """Take a reference voltage out of signals, and begin them with one of its cycles.

    Args:
        signals: ``(C, T)``, with their ``names``.
        others: names and values of columns that are no signals.
        rate: values a second.
        settings: of the recorder.
        where: the file.

    Returns:
        Signals and names without the reference, settings with its frequency, and remarks.
    """
    found = [mains_reference(signal, rate=rate) for signal in signals]
    kept = [k for k, reference in enumerate(found) if reference is None]
    if not kept:  # a sine alone is what was recorded
        return signals, list(names), settings, ()
    sines = [(names[k], r) for k, r in enumerate(found) if r is not None]
    for name, values in others:
        reference = mains_reference(values, rate=rate) if np.isfinite(values).all() else None
        sines += [(name, reference)] if reference is not None else []
    if not sines:
        return signals, list(names), settings, ()
    name, reference = sines[0]
    frequency = _frequency(reference, signals.shape[1] / rate)
    first = round(reference.begins * rate)
    if signals.shape[1] - first < rate / frequency:
        first = 0
    begins = f", and the series begins {1000 * first / rate:.3g} ms later, at its zero" * bool(
        first
    )
    said = [
        f"{where}: the column '{name}' is a sine of {frequency:.6g} Hz, the mains, and no "
        f"signal of discharges: phases are by it{begins}. If it is one, name the columns, "
        "columns=time,amplitude,amplitude in their order."
    ]
    if len(sines) > 1:
        rest = ", ".join(f"'{other}'" for other, _ in sines[1:])
        said.append(f"{where}: {rest} are sines of the mains, too, and were left out.")
    told = replace(settings, frequency=frequency)
    return signals[kept][:, first:], [names[k] for k in kept], told, tuple(said)


def _frequency(reference: Reference, seconds: float) -> float:
    """Return the nominal frequency of a sine where it is good enough, else its own."""
    near = min(_NOMINAL, key=lambda nominal: abs(nominal - reference.frequency))
    wrong = abs(near - reference.frequency)
    return near if wrong < _CLOSE * near and wrong * seconds < _DRIFT else reference.frequency


def times_of(
    table: InstrumentTable, columns: Sequence[int], settings: RecorderSettings, where: str
) -> tuple[Values, bool, tuple[str, ...]]:
    """Return the times of a table in seconds, whether their unit was said, and remarks.

    Several columns of times are equal, or whole seconds and the rest of them.

    Raises:
        DataError: they differ, or are in no unit of time.
    """
    names = [table.names[c] if table.names else "" for c in columns]
    times = [seconds_of(table.values[:, c], n, settings, where) for c, n in zip(columns, names)]
    first, said = times[0]
    for (other, _), name in zip(times[1:], names[1:]):
        step = float(np.abs(np.diff(first)).max(initial=0.0))
        if np.abs((other - other[0]) - (first - first[0])).max() <= _APART * step:
            continue
        rest = other.min() >= 0 and other.max() < 1 and not np.mod(first, 1).any()
        if len(times) == 2 and rest and words_of(names[0]) != words_of(name):
            remark = f"{where}: its times are '{names[0]}' and '{name}' together."
            return (first - first[0]) + other, True, (remark,)
        raise DataError(
            f"{where}: its columns '{names[0]}' and '{name}' are both called as times are, and "
            "differ. Name the columns in their order, with - for one that is not used, e.g. "
            "columns=time,amplitude,-,-.",
            see="columns",
        )
    return first, said, ()
