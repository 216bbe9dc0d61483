"""Records of partial discharge: pulses, the instrument behind them, quantities, severity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNCALIBRATED = "uncalibrated"
Level = Literal["low", "medium", "high"]
LEVELS: tuple[Level, ...] = ("low", "medium", "high")


def digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent below a million.

    Example:
        >>> digits(1234.5), digits(0.01234)
        ('1230', '0.0123')
    """
    return f"{float(f'{value:.3g}'):g}"


@dataclass(frozen=True, slots=True, eq=False)
class Pulses:
    """Pulses of one recording, in any order.

    Attributes:
        phase: ``(N,)`` degrees in [0, 360).
        amplitude: ``(N,)``, signed if the recorder tells the direction, in its own unit.
        time: ``(N,)`` seconds from the beginning, or None of a pattern that is summed up.
        count: ``(N,)`` how often each was seen; None is once.
    """

    phase: Array
    amplitude: Array
    time: Array | None = None
    count: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AppliedVoltage:
    """The voltage at the test object, effective value.

    Attributes:
        time_s: ``(M,)`` seconds from the beginning, ascending.
        rms_kv: ``(M,)`` kilovolts; a single one is that of the whole recording.
    """

    time_s: Array
    rms_kv: Array

    def at(self, time_s: Array) -> Array:
        """Return the effective value at times ``(N,)``, interpolated."""
        return np.interp(time_s, self.time_s, self.rms_kv)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuringSystem:
    """What is known of the instrument behind a recording.

    Attributes:
        charge_pc: apparent charge of one unit of amplitude, pC; None is not calibrated.
        unit: of the amplitude, as its file names it; "" where no file does.
        dead_time_s: time after the beginning of a pulse in which no other begins; None is the
            default of the extraction.
        voltage: at the test object, or None.
    """

    charge_pc: float | None = None
    unit: str = ""
    dead_time_s: float | None = None
    voltage: AppliedVoltage | None = None


@dataclass(frozen=True, slots=True)
class Quantities:
    """Quantities of partial discharge by the names of IEC 60270, of one recording.

    Charges are in ``unit``: pC where a calibration factor is given, else ``"uncalibrated"``, which
    is the recorder's own. A quantity that the recording does not tell is None, and ``remarks`` say
    why.

    Attributes:
        unit: ``"pC"`` or ``"uncalibrated"``.
        pulses: number of pulses.
        duration_s: of the recording, seconds.
        charge_repeated: largest repeatedly occurring charge: reading of a peak meter that falls
            with the pulse rate as measuring instruments do, unit.
        charge_10_per_s: charge that 10 pulses a second reach or exceed, unit.
        charge_largest: of a single pulse, unit.
        rate_per_s: pulse repetition rate n.
        rate_per_cycle: pulses in a mains cycle.
        current_per_s: average discharge current I, sum of the magnitudes a second,
            unit/s; of pC that is pA.
        quadratic_rate_per_s: quadratic rate D, unit²/s.
        power_kv_per_s: discharge power P, unit·kV/s; of pC that is nW.
        inception_kv: inception voltage, effective value.
        extinction_kv: extinction voltage, effective value.
        floor: robust standard deviation of the noise floor, unit.
        remarks: sentences on what was assumed, and on what is absent.
    """

    unit: str
    pulses: int
    duration_s: float | None = None
    charge_repeated: float | None = None
    charge_10_per_s: float | None = None
    charge_largest: float | None = None
    rate_per_s: float | None = None
    rate_per_cycle: float | None = None
    current_per_s: float | None = None
    quadratic_rate_per_s: float | None = None
    power_kv_per_s: float | None = None
    inception_kv: float | None = None
    extinction_kv: float | None = None
    floor: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether charges are in pC."""
        return self.unit != UNCALIBRATED

    def named(self) -> dict[str, Any]:
        """Return all by names that have the units, as JSON can hold it.

        ``charge_repeated_pc``, ``current_pa``, ``power_nw`` where charges are in pC, else
        ``charge_repeated_uncalibrated`` and so on.
        """
        names = _NAMES[self.calibrated]
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {names.get(name, name): value for name, value in values.items()} | {
            "remarks": list(self.remarks)
        }


_OF_CHARGE = ("charge_repeated", "charge_10_per_s", "charge_largest", "floor")
_NAMES = {
    True: {name: f"{name}_pc" for name in _OF_CHARGE}
    | {
        "current_per_s": "current_pa",
        "quadratic_rate_per_s": "quadratic_rate_pc2_per_s",
        "power_kv_per_s": "power_nw",
    },
    False: {name: f"{name}_uncalibrated" for name in _OF_CHARGE}
    | {
        "current_per_s": "current_uncalibrated_per_s",
        "quadratic_rate_per_s": "quadratic_rate_uncalibrated2_per_s",
        "power_kv_per_s": "power_uncalibrated_kv_per_s",
    },
}


@dataclass(frozen=True, slots=True)
class Severity:
    """How severe the pulses of a recording are, whatever their class.

    Attributes:
        level: ``"low"``, ``"medium"`` or ``"high"``.
        reasons: a sentence for each quantity that decided.
        levels: name of the rule: of a file, or ``"default"``: ours, of no standard, to be set by
            the user.
    """

    level: Level
    reasons: tuple[str, ...]
    levels: str = "default"


@dataclass(frozen=True, slots=True)
class DischargeSource:
    """One of several sources that are active in a recording.

    Attributes:
        kind: class of its pulses alone.
        probability: of that class.
        share_of_pulses, share_of_charge: of those of all sources, in [0, 1].
        phases_deg: ``(from, to)`` of each range of phases that holds its pulses.
        probabilities: of all classes.
        quantities: of its pulses alone.
    """

    kind: str
    probability: float
    share_of_pulses: float
    share_of_charge: float
    phases_deg: tuple[tuple[float, float], ...]
    probabilities: Mapping[str, float]
    quantities: Quantities | None = None
