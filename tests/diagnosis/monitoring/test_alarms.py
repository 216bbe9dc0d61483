"""Alarms of an asset: what raises one, and what is said and not compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chiasm.diagnosis.monitoring.alarms import AlarmRule, trend_of
from chiasm.diagnosis.monitoring.asset import Observation
from chiasm.diagnosis.monitoring.grouping import per_day
from chiasm.diagnosis.monitoring.persistence import persists
from chiasm.errors import ConfigurationError

DAY = 86400.0
RULE = AlarmRule()


def history(kinds: str, *, charge=None, severity: str = "", step: float = 7 * DAY):
    """One observation for each letter: c corona, v void, u unknown."""
    names = {"c": "corona", "v": "void", "u": "unknown"}
    rng = np.random.default_rng(0)
    charges = rng.normal(100, 5, len(kinds)) if charge is None else charge
    levels = {"l": "low", "m": "medium", "h": "high"}
    return [
        Observation(
            source=f"r{n}",
            time=n * step,
            kind=names[letter],
            confidence=0.9,
            probabilities={"corona": 0.5, "void": 0.5},
            quantities={"charge_repeated": float(charges[n])},
            unit="pC",
            severity=levels[severity[n]] if severity else "",
            recorder="60 Hz",
        )
        for n, letter in enumerate(kinds)
    ]


def subjects(trend):
    return [(alarm.subject, alarm.since, alarm.position) for alarm in trend.alarms]


def test_a_class_that_stays_is_an_alarm_and_one_that_does_not_is_none():
    assert subjects(trend_of("T", history("c" * 10 + "v" * 5), RULE)) == [("class", 10, 13)]
    assert not trend_of("T", history("cccccvcccccvccvvcccc"), RULE).alarms
    # Where both come by turns, a row of three is nothing.
    assert not trend_of("T", history("cvcvvcvccvcvvvcv"), RULE).alarms


def test_a_new_unknown_is_an_alarm_of_its_own():
    (alarm,) = trend_of("T", history("c" * 10 + "u" * 4), RULE).alarms
    assert (alarm.subject, alarm.before, alarm.after) == ("unknown", "corona", "unknown")
    assert "not trained on" in alarm.sentence


def test_a_class_that_changes_back_is_a_second_alarm():
    trend = trend_of("T", history("c" * 10 + "v" * 12 + "c" * 6), RULE)
    assert [alarm.after for alarm in trend.alarms] == ["void", "corona"]


def test_severity_alarms_upwards_alone():
    up = history("c" * 16, severity="l" * 10 + "h" * 6)
    (alarm,) = trend_of("T", up, RULE).alarms
    assert (alarm.subject, alarm.before, alarm.after) == ("severity", "low", "high")
    assert not trend_of("T", history("c" * 16, severity="h" * 10 + "l" * 6), RULE).alarms


def test_a_charge_that_doubles_is_an_alarm_with_its_medians():
    rng = np.random.default_rng(0)
    charge = np.r_[rng.normal(100, 5, 12), rng.normal(200, 5, 10)]
    (alarm,) = trend_of("T", history("c" * 22, charge=charge), RULE).alarms
    assert alarm.subject == "charge" and alarm.since == 12
    assert alarm.before == pytest.approx(100, abs=5) and alarm.after == pytest.approx(200, abs=5)
    assert "since 1970-03-26, from" in alarm.sentence and "pC" in alarm.sentence


def test_recorders_are_compared_with_themselves_alone():
    rng = np.random.default_rng(0)
    many = history("c" * 24, charge=np.r_[rng.normal(100, 5, 12), rng.normal(400, 5, 12)])
    many[12:] = [replace(one, recorder="60 Hz, gain 2") for one in many[12:]]
    trend = trend_of("T", many, RULE)
    assert not trend.alarms
    assert any("60 Hz, gain 2 (12)" in note and "compared" in note for note in trend.notes)


def test_the_order_is_that_of_time_and_copies_count_once():
    many = [replace(one, digest=one.source) for one in history("c" * 10 + "v" * 5)]
    copy = replace(many[3], source="copy of r3", time=many[3].time + DAY)
    trend = trend_of("T", [*many[8:], copy, *many[:8]], RULE)
    assert len(trend.observations) == 15
    assert subjects(trend) == [("class", 10, 13)]
    assert any("copies" in note and "r3" in note for note in trend.notes)
    assert any("sorted" in note for note in trend.notes)


def test_the_id_of_an_alarm_stays_when_recordings_are_added():
    many = history("c" * 10 + "v" * 5)
    first, later = trend_of("T", many[:14], RULE), trend_of("T", many, RULE)
    assert first.alarms[0].id == later.alarms[0].id
    assert trend_of("other", many, RULE).alarms[0].id != first.alarms[0].id


def test_what_cannot_be_told_yet_is_said():
    notes = trend_of("T", history("cc"), RULE).notes
    assert any("Growth cannot be told yet" in note for note in notes)
    assert any("class or severity cannot be told yet" in note for note in notes)
    failed = Observation("r9", 1.0, error="r9 is empty.")
    trend = trend_of("T", [*history("cc"), failed], RULE)
    assert trend.failed == (failed,) and any("r9 is empty" in note for note in trend.notes)


def test_neighbours_that_resemble_each_other_are_said_by_the_trend_itself():
    waves = 100 + 20 * np.sin(np.arange(40) / 3)
    trend = trend_of("T", history("c" * 40, charge=waves), RULE)
    assert any("like charge (correlation 1.00" in note for note in trend.notes)
    (quantity,) = trend.quantities
    assert quantity.block > 1 and not trend.alarms
    assert trend.to_dict()["quantities"][0]["block"] == quantity.block
    grown = trend_of("T", history("c" * 60, charge=np.r_[waves, 5 * waves[:20]]), RULE)
    assert "Neighbours resemble each other here" in grown.alarms[0].sentence
    plain = trend_of("T", history("c" * 40), RULE)
    assert not any("like charge" in note for note in plain.notes)


def test_gaps_and_bursts_are_said():
    many = history("c" * 12)
    gap = [replace(one, time=one.time + (200 * DAY if n > 5 else 0)) for n, one in enumerate(many)]
    assert any("1 gap" in note for note in trend_of("T", gap, RULE).notes)
    bursts = [replace(one, time=n // 4 * 30 * DAY + n % 4 * 60) for n, one in enumerate(many)]
    assert any("bursts" in note for note in trend_of("T", bursts, RULE).notes)
    days = per_day(bursts)
    assert len(days) == 3
    middle = np.median([one.quantities["charge_repeated"] for one in bursts[:4]])
    assert days[0].quantities["charge_repeated"] == middle


def test_without_times_the_order_counts():
    many = [replace(one, time=None) for one in history("c" * 10 + "v" * 4)]
    trend = trend_of("T", many, RULE)
    assert "since recording 11" in trend.alarms[0].sentence
    assert trend.to_dict()["alarms"][0]["raised"] is None


@pytest.mark.parametrize("row", [1, 2])
def test_rows_come_by_chance_as_seldom_as_said(row):
    """Of sequences that are alike with a known chance, the share with such a row is counted."""
    rng, share, rate, count = np.random.default_rng(row), 0.1 * row, 0.1, 400
    alarms = 0
    for _ in range(count):
        alike = (rng.random(30) < share).tolist()
        length = 0
        for position, one in enumerate(alike):
            length = length + 1 if one else 0
            if length and persists(alike[: position + 1 - length], length, rate=rate):
                alarms += 1
                break
    assert alarms <= rate * count


@pytest.mark.parametrize("options", [{"false_alarm_rate": 0.0}, {"persistence": 0}])
def test_a_rule_that_cannot_be_kept_is_refused(options):
    with pytest.raises(ConfigurationError, match="expected"):
        AlarmRule(**options)
