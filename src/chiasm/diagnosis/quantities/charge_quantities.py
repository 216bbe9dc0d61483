"""Quantities of partial discharge from single pulses, by the names of IEC 60270.

Edition 3 (2000) was followed by edition 4 (2025), which was not compared: no clause is cited. A
certificate needs an instrument and a procedure of the edition that is in force.
"""

from __future__ import annotations

import math

import numpy as np

from chiasm.discharge import (
    UNCALIBRATED,
    AppliedVoltage,
    Array,
    MeasuringSystem,
    Pulses,
    Quantities,
)

# Pulses a second, and least and largest reading in percent of that at 100 a second, as makers of
# instruments state them; compare them with the edition of the standard that you work by. A peak
# detector that forgets with this time constant, averaged, stays between them.
PULSE_TRAIN_RESPONSE = ((1, 35, 45), (2, 55, 65), (5, 76, 86), (10, 85, 95), (50, 94, 104))
TIME_CONSTANT_S = 0.44
# The reading is the largest mean over so long a time; shorter recordings are averaged as a whole.
AVERAGING_S = 1.0
# A second convention, of monitors of rotating machines.
OFTEN_PER_S = 10.0
# Discharges are repetitive, for inception and extinction, where so many follow each other within
# the time: ten a second.
_RUN, _RUN_S = 5, 0.5
# A voltage is a ramp if it varies by this share of its largest value.
_RAMP = 0.1


def quantities_of(
    pulses: Pulses,
    *,
    duration_s: float | None,
    frequency: float,
    system: MeasuringSystem | None = None,
    floor: float | None = None,
    remarks: tuple[str, ...] = (),
) -> Quantities:
    """Return the quantities of a recording's pulses.

    Args:
        pulses: in the recorder's unit.
        duration_s: of the recording; None where nothing tells it.
        frequency: of the mains, Hz.
        system: calibration and voltage; None knows neither.
        floor: robust standard deviation of the noise, in the recorder's unit.
        remarks: that precede those of this function.
    """
    system = system or MeasuringSystem()
    factor = system.charge_pc or 1.0
    charge = np.abs(pulses.amplitude) * factor
    weight = np.ones(len(charge)) if pulses.count is None else pulses.count
    said = list(remarks)
    if system.charge_pc is None:
        said.append(
            "No calibration factor is given, so that charges are in the recorder's own unit"
            f"{f' ({system.unit})' if system.unit else ''}: charge=... is the pC of one unit."
        )
    if duration_s is None:
        said.append("The pulses have no times: there are no rates, no current and no power.")
    count = float(weight.sum())
    per_s = 1.0 / duration_s if duration_s else math.nan
    repeated = None
    if pulses.time is not None and duration_s is not None:
        repeated = peak_reading(pulses.time, charge, duration_s) if len(charge) else 0.0
        if duration_s < AVERAGING_S:
            said.append(
                f"The recording has {duration_s:.3g} s; the largest repeatedly occurring charge is "
                f"the reading over the whole of it, and needs {AVERAGING_S:g} s to be comparable."
            )
    start, end = _limits(pulses, system.voltage, duration_s, said)
    return Quantities(
        unit=UNCALIBRATED if system.charge_pc is None else "pC",
        pulses=round(count),
        duration_s=duration_s,
        charge_repeated=repeated,
        charge_10_per_s=_reached_often(charge, weight, duration_s),
        charge_largest=float(charge.max()) if len(charge) else 0.0,
        rate_per_s=_known(count * per_s),
        rate_per_cycle=_known(count * per_s / frequency),
        current_per_s=_known(float(weight @ charge) * per_s),
        quadratic_rate_per_s=_known(float(weight @ charge**2) * per_s),
        power_kv_per_s=_power(pulses, charge, system.voltage, per_s, said),
        inception_kv=start,
        extinction_kv=end,
        floor=None if floor is None else floor * factor,
        remarks=tuple(said),
    )


def peak_reading(time_s: Array, charge: Array, duration_s: float) -> float:
    """Return the largest repeatedly occurring charge.

    A peak detector holds the largest charge and forgets it with a time constant of 0.44 s; the
    reading is the largest mean of its output over a second, relative to that of 100 equal pulses a
    second. Equal pulses 1, 2, 5, 10 and 50 times a second are read as 40, 60, 81, 90 and 99 %.

    Args:
        time_s: ``(N,)`` of the pulses from the beginning, in any order; N > 0.
        charge: ``(N,)`` magnitudes.
        duration_s: of the recording.

    Example:
        >>> time = np.arange(0, 20, 0.2)  # 5 pulses a second
        >>> round(peak_reading(time, np.full(len(time), 100.0), 20.0))
        81
    """
    order = np.argsort(time_s, kind="stable")
    time, charge = time_s[order], np.maximum(charge[order], 1e-300)
    # Decay is a straight line of the logarithm: what is held is a running maximum.
    held = np.exp(
        np.maximum.accumulate(np.log(charge) + time / TIME_CONSTANT_S) - time / TIME_CONSTANT_S
    )
    end = max(duration_s, float(time[-1]))
    lasts = np.diff(time, append=end)
    areas = TIME_CONSTANT_S * held * -np.expm1(-lasts / TIME_CONSTANT_S)
    before = np.concatenate([[0.0], np.cumsum(areas)])  # area until each pulse, and the end

    def area(until: Array) -> Array:
        last = np.clip(np.searchsorted(time, until, side="right") - 1, 0, len(time) - 1)
        rest = TIME_CONSTANT_S * held[last] * -np.expm1((time[last] - until) / TIME_CONSTANT_S)
        return np.where(until < time[0], 0.0, before[last] + np.maximum(rest, 0.0))

    window = min(AVERAGING_S, end)
    starts = np.unique(np.clip(np.append(time, 0.0), 0.0, end - window))
    mean = float(((area(starts + window) - area(starts)) / window).max())
    pause = 0.01  # s, at 100 pulses a second
    return mean / (TIME_CONSTANT_S / pause * -math.expm1(-pause / TIME_CONSTANT_S))


def _reached_often(charge: Array, weight: Array, duration_s: float | None) -> float | None:
    """Return the charge that 10 pulses a second reach; None of fewer, 0 of none."""
    if duration_s is None:
        return None
    order = np.argsort(-charge, kind="stable")
    enough = np.cumsum(weight[order]) >= max(1.0, OFTEN_PER_S * duration_s)
    return float(charge[order][enough.argmax()]) if enough.any() else None


def _power(
    pulses: Pulses, charge: Array, voltage: AppliedVoltage | None, per_s: float, said: list[str]
) -> float | None:
    """Return the discharge power: sum of charge times instantaneous voltage a second.

    The phase is taken as that of the voltage.
    """
    if voltage is None or math.isnan(per_s):
        return None
    time = np.zeros(len(charge)) if pulses.time is None else pulses.time
    volts = math.sqrt(2) * voltage.at(time) * np.sin(np.radians(pulses.phase))
    weight = 1.0 if pulses.count is None else pulses.count
    if (pulses.amplitude < 0).any():
        said.append("The discharge power takes the sign of the pulses and the phase as recorded.")
        return float((weight * np.sign(pulses.amplitude) * charge * volts).sum()) * per_s
    said.append(
        "The recorder does not tell the sign of the pulses; for the discharge power it is taken as "
        "that of the voltage."
    )
    return float((weight * charge * np.abs(volts)).sum()) * per_s


def _limits(
    pulses: Pulses, voltage: AppliedVoltage | None, duration_s: float | None, said: list[str]
) -> tuple[float | None, float | None]:
    """Return inception and extinction voltage; None if not observed."""
    if voltage is None or pulses.time is None or len(voltage.rms_kv) < 2:
        return None, None
    largest = float(voltage.rms_kv.max())
    if float(np.ptp(voltage.rms_kv)) < _RAMP * largest:
        said.append("The voltage is no ramp: it shows no inception and no extinction.")
        return None, None
    time = np.sort(pulses.time)
    run = np.flatnonzero(time[_RUN - 1 :] - time[: max(len(time) - _RUN + 1, 0)] <= _RUN_S)
    if not run.size:
        said.append(f"Discharges were not repetitive up to {largest:.4g} kV.")
        return None, None
    first, last = float(time[run[0]]), float(time[run[-1] + _RUN - 1])
    top = float(voltage.time_s[voltage.rms_kv.argmax()])
    start, end = (float(u) for u in voltage.at(np.array([first, last])))
    # At once, or to the end, under a voltage: the limit lies outside of the recording.
    before = first > top or (first < _RUN_S and start > _RAMP * largest)
    after = last <= top or (
        duration_s is not None and duration_s - last < _RUN_S and end > _RAMP * largest
    )
    if before:
        said.append(f"Inception was not seen: discharges began at {start:.4g} kV or before.")
    if after:
        said.append(f"Extinction was not seen: the last discharges were at {end:.4g} kV.")
    return None if before else start, None if after else end


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
