"""How severe the pulses of a recording are: documented levels of charge, rate and growth.

The class of the fault does not enter: which charge is dangerous depends on the insulation, and its
limits are those of the object's standard or of its owner. The default levels are ours, of no
standard, to be set by the user: ``severity.yaml`` beside the recordings, or ``--severity FILE``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chiasm.discharge import LEVELS, Level, Quantities, Severity, digits
from chiasm.errors import DataError
from chiasm.samples import Diagnosis

LEVELS_FILE = "severity.yaml"
# From which value on a quantity is medium and high.
_CALIBRATED = {"charge_repeated_pc": (100.0, 1000.0), "growth": (1.5, 3.0)}
# Units of a recorder are no charge: there is the rate alone.
_UNCALIBRATED = {"rate_per_cycle": (1.0, 10.0), "growth": (1.5, 3.0)}
_WORDS = {
    "charge_repeated_pc": "the largest repeatedly occurring charge is {} pC",
    "charge_repeated_uncalibrated": (
        "the largest repeatedly occurring charge is {} units of the recorder"
    ),
    "charge_10_per_s_pc": "10 pulses a second reach {} pC",
    "charge_largest_pc": "the largest charge is {} pC",
    "rate_per_s": "there are {} pulses a second",
    "rate_per_cycle": "there are {} pulses a mains cycle",
    "current_pa": "the average discharge current is {} pA",
    "power_nw": "the discharge power is {} nW",
    "growth": "the charge is {} times that of the earlier recording",
}


@dataclass(frozen=True, slots=True)
class SeverityLevels:
    """From which value on a quantity makes a recording medium or high.

    Attributes:
        bounds: name of a quantity to the least medium and the least high value.
        name: of the rule.
    """

    bounds: Mapping[str, tuple[float, float]]
    name: str


DEFAULT = SeverityLevels(_CALIBRATED, "default")
DEFAULT_UNCALIBRATED = SeverityLevels(_UNCALIBRATED, "default for uncalibrated recordings")


def rate_severity(
    quantities: Quantities,
    levels: SeverityLevels | None = None,
    *,
    earlier: Quantities | None = None,
) -> Severity | None:
    """Rate a recording by the highest level that one of its quantities reaches.

    Args:
        quantities: of the recording.
        levels: None takes the defaults: of charge where it is calibrated, else of rate.
        earlier: of an earlier recording of the same object, for the growth of the charge.

    Returns:
        The level, with a sentence for each quantity that reached it; None where none of the
        quantities is known.
    """
    levels = levels or (DEFAULT if quantities.calibrated else DEFAULT_UNCALIBRATED)
    if not quantities.pulses:
        return Severity("low", ("no pulse is above the noise floor",), levels.name)
    values = _values(quantities, earlier)
    reached: dict[Level, list[str]] = {level: [] for level in LEVELS}
    for name, (medium, high) in levels.bounds.items():
        value = values.get(name)
        if value is None:
            continue
        level: Level = "high" if value >= high else "medium" if value >= medium else "low"
        bound = {"high": f"{high:g} or more is high", "medium": f"{medium:g} or more is medium"}
        limit = bound.get(level, f"less than {medium:g} is low")
        reached[level].append(f"{_WORDS[name].format(digits(value))} ({limit})")
    for level in reversed(LEVELS):
        if reached[level]:
            return Severity(level, tuple(reached[level]), levels.name)
    return None


def rated(diagnosis: Diagnosis, levels: SeverityLevels | None) -> Diagnosis:
    """Return a diagnosis with the severity by some levels; None keeps it."""
    if levels is None or diagnosis.quantities is None:
        return diagnosis
    return replace(diagnosis, severity=rate_severity(diagnosis.quantities, levels))


def levels_for(inputs: Path | str, given: Path | str | None = None) -> SeverityLevels | None:
    """Return the levels of a file that is given, or of ``severity.yaml`` beside the inputs.

    None without either. Raises ``DataError`` as ``read_levels`` does.
    """
    if given is not None:
        return read_levels(given)
    inputs = Path(inputs)
    file = (inputs if inputs.is_dir() else inputs.parent) / LEVELS_FILE
    return read_levels(file) if file.is_file() else None


def read_levels(path: Path | str) -> SeverityLevels:
    """Read levels from YAML: ``QUANTITY: {medium: VALUE, high: VALUE}``, and ``name``.

    A quantity that the file does not name does not count.

    Raises:
        DataError: the file, a name or a value is none.
    """
    path = Path(path)
    try:
        import yaml  # a station that takes the defaults may do without
    except ImportError as cause:
        raise DataError(f"{path} needs PyYAML: pip install pyyaml.") from cause
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as cause:
        raise DataError(f"{path} cannot be read as YAML: {cause}") from cause
    if not isinstance(content, Mapping):
        raise DataError(
            f"{path} holds no levels; write e.g. 'charge_repeated_pc: {{medium: 100, high: 1000}}'."
        )
    bounds = {}
    for name, given in content.items():
        if name == "name":
            continue
        if name not in _WORDS:
            raise DataError(
                f"{path}: there is no quantity '{name}'; there are {', '.join(_WORDS)}."
            )
        bounds[str(name)] = _bounds(given, f"{path}: {name}")
    if not bounds:
        raise DataError(f"{path} names no quantity; there are {', '.join(_WORDS)}.")
    return SeverityLevels(bounds, str(content.get("name", path.name)))


def _bounds(given: Any, where: str) -> tuple[float, float]:
    try:
        medium, high = float(given["medium"]), float(given["high"])
    except (TypeError, KeyError, ValueError) as cause:
        raise DataError(f"{where} is {given!r}; {{medium: 100, high: 1000}} was expected.") from (
            cause
        )
    if not 0 < medium <= high < math.inf:
        raise DataError(f"{where}: medium is {medium:g} and high {high:g}; they must ascend.")
    return medium, high


def _values(quantities: Quantities, earlier: Quantities | None) -> dict[str, float | None]:
    """Return the quantities by the names of levels; charges in pC only where they are."""
    of_charge = {
        "charge_repeated_pc": quantities.charge_repeated,
        "charge_10_per_s_pc": quantities.charge_10_per_s,
        "charge_largest_pc": quantities.charge_largest,
        "current_pa": quantities.current_per_s,
        "power_nw": quantities.power_kv_per_s,
    }
    if not quantities.calibrated:
        of_charge = {"charge_repeated_uncalibrated": quantities.charge_repeated}
    growth = None
    if earlier is not None and earlier.unit == quantities.unit:
        before, now = earlier.charge_repeated, quantities.charge_repeated
        growth = now / before if now is not None and before else None
    return of_charge | {
        "rate_per_s": quantities.rate_per_s,
        "rate_per_cycle": quantities.rate_per_cycle,
        "growth": growth,
    }
