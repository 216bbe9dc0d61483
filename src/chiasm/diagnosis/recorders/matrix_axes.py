"""The axes of a matrix of counts: which way it lies, and at which phase it begins."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chiasm.diagnosis.recorders.instrument_tables import InstrumentTable
from chiasm.diagnosis.recorders.text_tables import NUMBER, value_of

_LEAST_AXIS = 16  # rows and columns of a matrix with axes
_ROUND = 0.02  # share of a cycle by which an axis of phases may end before or after it
_INSIDE = re.compile(r"[^\d+-]*([+-]?\d+(?:\.\d+)?)[^\d]*")

Axis = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CountMatrix:
    """The counts of a matrix without its axes.

    Attributes:
        values: ``(R, C)``.
        by_amplitude: whether axes told their order: the largest amplitude is the first row, and
            columns are phases from 0 to 360 degrees.
        undecided: whether there are two axes, of which none or both go around a cycle.
        turned: phase of the first column in degrees, where columns were put in order; else 0.
    """

    values: NDArray[np.float64]
    by_amplitude: bool
    undecided: bool = False
    turned: float = 0.0


def without_axes(table: InstrumentTable) -> CountMatrix | None:
    """Return the counts of a matrix without its axes.

    The first row, or the line of names, and the first column are axes if they have equal steps.
    None where there is no axis along the columns, or something else than counts inside.
    """
    values = table.values
    if min(values.shape) < _LEAST_AXIS:
        return None
    across, rows = _across(table)
    if not _is_axis(across):
        return None
    down = rows[:, 0]
    if not _is_axis(down) and not _grows(down):
        # The axis of the phases may be alone, and then is as long as the rows.
        first = table.values[0, 0]
        alone = rows is not table.values and abs(2 * across[0] - across[1] - first) < 1e-6
        return _counts(rows if alone else rows[:, 1:], told=False)
    inner = rows[:, 1:]
    turns = [_cycle_of(axis) for axis in (across, down)]
    if turns[0] == turns[1]:
        counts = _counts(inner, told=True)
        return None if counts is None else replace(counts, by_amplitude=False, undecided=True)
    by_rows = turns[0] > turns[1]
    phases, amplitudes = (across, down) if by_rows else (down, across)
    inner = inner if by_rows else inner.T
    inner = inner if amplitudes[0] > amplitudes[-1] else inner[::-1]
    degrees = np.mod(phases * 360 / max(turns), 360.0)
    order = np.argsort(np.mod(degrees + 90 / len(phases), 360.0), kind="stable")
    turned = float(degrees[0]) if (np.diff(order) != 1).any() else 0.0
    return _counts(inner[:, order], told=True, turned=turned)


def _grows(values: Axis) -> bool:
    """Return whether values rise or fall all the way, as an axis of logarithmic steps does."""
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _counts(inner: NDArray[np.float64], *, told: bool, turned: float = 0.0) -> CountMatrix | None:
    # Rates and logarithms of counts are fractions; only axes tell them from a signal.
    whole = bool((inner == np.rint(inner)).all())
    return (
        CountMatrix(inner, told, turned=turned) if (inner >= 0).all() and (whole or told) else None
    )


def _across(table: InstrumentTable) -> tuple[Axis, NDArray[np.float64]]:
    """Return the axis along the columns, of their names or of the first row, and the other rows."""
    names = [cell for cell in table.names[1:] if NUMBER.fullmatch(cell)]
    if table.names and len(names) == len(table.names) - 1:
        return np.array([value_of(cell) for cell in names]), table.values
    matches = [_INSIDE.fullmatch(cell) for cell in table.names[1:]]
    if table.names and all(matches):  # 'q0.05', '10 deg'
        return np.array([float(m[1]) for m in matches if m]), table.values
    return table.values[0, 1:], table.values[1:]


def _is_axis(values: Axis) -> bool:
    """Return whether values have equal steps, also where phases begin anew after a cycle."""
    steps = np.diff(values)
    if not len(steps) or not np.isfinite(steps).all():
        return False
    usual = float(np.median(steps))
    odd = np.abs(steps - usual) > _ROUND * abs(usual)
    again = int(odd.sum()) == 1 and _cycle_of(np.unique(values)) > 0
    return usual != 0 and (not odd.any() or again)


def _cycle_of(axis: Axis) -> float:
    """Return the cycle around which an axis of phases goes: 360, 2 pi; 0 of another axis."""
    if not len(axis):
        return 0.0
    around = float(axis.max() - axis.min())
    for cycle in (360.0, 2 * math.pi):
        # With both ends, or without one of them.
        if min(abs(around - cycle), abs(around * len(axis) / (len(axis) - 1) - cycle)) < (
            _ROUND * cycle
        ):
            return cycle
    return 0.0


def is_phase_axis(phases: Axis) -> bool:
    """Return whether a column holds each phase of a cycle once, as the rows of a matrix do."""
    return len(phases) >= _LEAST_AXIS and _is_axis(phases) and _cycle_of(phases) > 0
