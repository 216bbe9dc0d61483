"""Severity follows documented levels, says which one decided, and knows no class."""

from __future__ import annotations

from pathlib import Path

import pytest

from chiasm.diagnosis.quantities.severity import (
    DEFAULT,
    SeverityLevels,
    levels_for,
    rate_severity,
    rated,
    read_levels,
)
from chiasm.discharge import Quantities
from chiasm.errors import DataError
from chiasm.samples import Diagnosis


def of(charge: float | None, unit: str = "pC", rate: float = 0.5) -> Quantities:
    return Quantities(unit, 100, 20.0, charge_repeated=charge, rate_per_cycle=rate)


@pytest.mark.parametrize(("charge", "level"), [(10, "low"), (100, "medium"), (1000, "high")])
def test_the_level_is_that_of_the_charge_and_says_so(charge: float, level: str):
    severity = rate_severity(of(charge))
    assert severity.level == level and severity.levels == DEFAULT.name
    assert f"{charge:g} pC" in severity.reasons[0]


def test_units_of_a_recorder_are_not_taken_for_picocoulombs():
    severity = rate_severity(of(5000, "uncalibrated"))
    assert severity.level == "low" and "a mains cycle" in severity.reasons[0]
    assert rate_severity(of(5, "uncalibrated", rate=12)).level == "high"
    given = SeverityLevels({"charge_repeated_pc": (1, 2)}, "ours")
    assert rate_severity(of(5000, "uncalibrated"), given) is None


def test_growth_is_measured_against_an_earlier_recording_of_the_same_unit():
    assert rate_severity(of(40), earlier=of(10)).level == "high"
    assert rate_severity(of(40), earlier=of(10, "uncalibrated")).level == "low"


def test_no_pulse_is_low_and_nothing_known_is_nothing_said():
    assert rate_severity(Quantities("pC", 0)).level == "low"
    assert rate_severity(Quantities("pC", 9)) is None


def test_levels_are_read_from_a_file_beside_the_recordings(tmp_path: Path):
    assert levels_for(tmp_path) is None
    file = tmp_path / "severity.yaml"
    file.write_text("name: cables\ncharge_repeated_pc: {medium: 5, high: 20}\n")
    levels = levels_for(tmp_path)
    assert levels == levels_for(tmp_path / "a.csv", file)
    diagnosis = Diagnosis("a.csv", "void", {"void": 1.0}, quantities=of(25))
    assert rated(diagnosis, levels).severity.level == "high"
    assert rated(diagnosis, levels).severity.levels == "cables"
    assert rated(diagnosis, None) is diagnosis


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("charge_pc: {medium: 5, high: 20}", "there is no quantity 'charge_pc'"),
        ("charge_repeated_pc: 5", "was expected"),
        ("charge_repeated_pc: {medium: 50, high: 20}", "must ascend"),
        ("name: empty", "names no quantity"),
        ("- 1", "holds no levels"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_that_means_nothing_is_refused(tmp_path: Path, text: str, said: str):
    file = tmp_path / "levels.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        read_levels(file)
