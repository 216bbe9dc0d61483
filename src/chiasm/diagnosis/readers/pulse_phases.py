"""In which unit the phases and times of a list of pulses are, as far as they tell it themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DEGREES, _RADIANS, _CYCLES = 1.0, 180.0 / np.pi, 360.0
_LEAST = 20  # pulses that tell something
_NEIGHBOURS_S = 0.5  # between pulses that are compared: the mains frequency drifts
_LAGS = (1, 2, 3, 5, 8, 13)
_FIT, _NO_FIT = 0.9, 0.5  # concentration of what phases and times leave over
_FREQUENCIES = (50.0, 60.0)
_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def phases_in_degrees(
    values: NDArray[np.float64], name: str, where: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return phases in degrees, and a remark where their unit was told by their range.

    Args:
        values: ``(N,)`` as the file has them.
        name: of their column, lower case; "" without one.
        where: names the file.
    """
    if "rad" in name and "grad" not in name:
        return values * _RADIANS, ()
    named = any(word in name for word in ("deg", "°", "grad"))
    least, most = float(values.min()), float(values.max())
    if named or len(values) < _LEAST or least < -np.pi - 0.01 or most > 2 * np.pi + 0.01:
        return values, ()
    # No fault discharges within six degrees of a cycle alone.
    unit, scale = ("shares of a cycle", _CYCLES) if most <= 1 else ("radians", _RADIANS)
    remark = (
        f"{where}: its phases lie between {least:.3g} and {most:.3g} and were taken for {unit}. "
        "Name the column 'phase [deg]' or 'phase [rad]' if that is wrong."
    )
    return values * scale, (remark,)


def seconds_by_phase(
    time: NDArray[np.float64], phase: NDArray[np.float64], frequency: float, *, said: bool
) -> tuple[float, str]:
    """Return the seconds of one unit of time, and a sentence where phases and times do not fit.

    The phase grows with time by 360 degrees in each mains cycle. What is left over is equal for
    neighbours in time if frequency and unit are right, and anything else where they are not.

    Args:
        time: ``(N,)`` in the unit that is assumed.
        phase: ``(N,)`` degrees.
        frequency: of the mains, Hz.
        said: whether the file names the unit of time.
    """
    if len(time) < _LEAST:
        return 1.0, ""
    units = {"s": 1.0} if said else _TIMES
    fits = {
        (unit, hertz): _concentration(time * seconds, phase, hertz)
        for unit, seconds in units.items()
        for hertz in dict.fromkeys((frequency, *_FREQUENCIES))
    }
    if fits["s", frequency] >= _NO_FIT:
        return 1.0, ""
    (unit, hertz), best = max(fits.items(), key=lambda item: item[1])
    if best < _FIT:
        return 1.0, ""
    if hertz == frequency:
        return units[unit], f"its times are in {unit}, by which they fit its phases"
    times = "" if said else f" with times in {unit}"
    return (
        units[unit],
        f"its phases and times fit mains of {hertz:g} Hz{times}, and were read at {frequency:g} "
        f"Hz: frequency={hertz:g} says so",
    )


def _concentration(
    time: NDArray[np.float64], phase: NDArray[np.float64], frequency: float
) -> float:
    """Return how equal the steps of phase and time are, from 0 to 1; 0 if too few tell."""
    order = np.argsort(time, kind="stable")
    time, phase = time[order], phase[order]
    left = []
    # Pulses that follow each other in each cycle tell nothing of its length by equal steps.
    for lag in _LAGS:
        step = time[lag:] - time[:-lag]
        # Within a cycle any frequency fits.
        near = (step < _NEIGHBOURS_S) & (step > 1 / max(_FREQUENCIES))
        left.append((phase[lag:] - phase[:-lag])[near] - 360 * frequency * step[near])
    angles = np.radians(np.concatenate(left))
    return float(np.abs(np.exp(1j * angles).mean())) if angles.size >= _LEAST else 0.0
