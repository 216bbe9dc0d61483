"""What is written beside a recorder's files, or given with a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from chiasm.diagnosis.recorders.column_names import CHARGE_UNITS
from chiasm.diagnosis.recorders.recorded import RecorderSettings
from chiasm.errors import DataError

SETTINGS_FILE = "recorder.yaml"


def recorder_settings(root: Path, given: Sequence[str] = ()) -> RecorderSettings:
    """Return what is known of the files in a folder: of its ``recorder.yaml``, and what is given.

    Args:
        root: folder, or a file in it.
        given: ``NAME=VALUE`` each, which override the file; lists are divided by commas.

    Raises:
        DataError: a name or a value is none.
    """
    file = (root if root.is_dir() else root.parent) / SETTINGS_FILE
    values: dict[str, Any] = {}
    if file.is_file():
        try:
            import yaml  # a station that predicts may do without
        except ImportError as cause:
            raise DataError(f"{file} needs PyYAML: pip install pyyaml.") from cause
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as cause:
            raise DataError(f"{file} cannot be read as YAML: {cause}") from cause
        if not isinstance(content, Mapping):
            raise DataError(f"{file} holds no settings; write e.g. 'frequency: 50'.")
        values |= content
    for text in given:
        name, mark, value = text.partition("=")
        if not mark:
            raise DataError(f"'{text}' is no setting of a recorder; NAME=VALUE was expected.")
        values[name.strip()] = value.strip()
    return settings_of(values, str(file) if not given else "--recorder")


def settings_of(values: Mapping[str, Any], where: str) -> RecorderSettings:
    """Return settings of texts or numbers by name; ``DataError`` names where they stand."""
    known = {f.name: f for f in fields(RecorderSettings)}
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise DataError(f"{where}: there is no setting '{name}'; there are {', '.join(known)}.")
        try:
            parsed[name] = _PARSED[name](value) if name in _PARSED else str(value)
        except (TypeError, ValueError) as cause:
            raise DataError(f"{where}: {name} is '{value}', which it cannot be.") from cause
    return RecorderSettings(**parsed)


def _columns(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(str(part).strip() for part in parts)


def _above_0(value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(value)
    return number


def _picocoulombs(value: Any) -> float:
    """Return a charge in pC: a number, or one with its unit."""
    if not isinstance(value, str):
        return _above_0(value)
    unit = next((u for u in CHARGE_UNITS if value.lower().endswith(u)), "")
    return _above_0(value[: len(value) - len(unit)]) * CHARGE_UNITS.get(unit, 1.0)


_PHASE_NAMES = {"deg": "degrees", "degree": "degrees", "rad": "radians", "%": "percent"}
_PARSED = {
    "frequency": _above_0,
    "sample_rate": _above_0,
    "samples_per_cycle": lambda value: round(_above_0(value)),
    "header_bytes": lambda value: max(0, int(value)),
    "raw_channels": lambda value: max(1, int(value)),
    "columns": _columns,
    "charge": _picocoulombs,
    "voltage_kv": _above_0,
    "dead_time": _above_0,
    "time_unit": lambda value: str(value).strip().lower().replace("μ", "u").replace("µ", "u"),
    "phase_unit": lambda value: _PHASE_NAMES.get(str(value).strip().lower(), str(value)),
}
