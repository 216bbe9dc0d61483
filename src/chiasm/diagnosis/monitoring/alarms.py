"""From the recordings of an asset to its trend and alarms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chiasm.diagnosis.monitoring.asset import (
    AssetTrend,
    Observation,
    QuantityTrend,
    Subject,
    TrendAlarm,
    alarm_id,
    iso,
)
from chiasm.diagnosis.monitoring.growth import (
    Growth,
    growths,
    joint_days,
    least_recordings,
    present_evidence,
    slope_of,
)
from chiasm.diagnosis.monitoring.persistence import LEAST, REFERENCE, persists
from chiasm.errors import ConfigurationError

UNKNOWN = "unknown"
SEVERITIES = ("low", "medium", "high")
# Quantities that are watched for growth, with the subject of their alarm.
WATCHED: Mapping[str, Subject] = {"charge_repeated": "charge", "rate_per_s": "pulse rate"}

_GAP = 5.0  # medians of the steps of time that make a gap
_BURST = 0.05  # share of the median step between bursts
_LISTED = 3
_TOLD = 0.3  # correlation of neighbours that is told without an alarm


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """What decides on alarms.

    Attributes:
        false_alarm_rate: share of assets without change that raise an alarm, ever. Half of it is
            for the growth of quantities, where it is proven; the rest for class and severity.
        persistence: recordings in a row, at least, of another class or severity.
    """

    false_alarm_rate: float = 0.05
    persistence: int = LEAST

    def __post_init__(self) -> None:
        if not 1e-6 <= self.false_alarm_rate <= 0.5:
            raise ConfigurationError(
                f"The false-alarm rate is {self.false_alarm_rate:g}; 0.000001 to 0.5 was expected."
            )
        if self.persistence < 1:
            raise ConfigurationError(
                f"The persistence is {self.persistence}; 1 or more recordings were expected."
            )

    @property
    def growth_rate(self) -> float:
        """Share of the rate that each watched quantity has."""
        return self.false_alarm_rate / 2 / len(WATCHED)

    @property
    def state_rate(self) -> float:
        """Share of the rate that class and severity have each."""
        return self.false_alarm_rate / 4

    @property
    def promise(self) -> str:
        """What is promised of false alarms, in words."""
        return (
            f"Of assets that do not change, at most {100 * self.false_alarm_rate:.3g} % raise an "
            "alarm, ever, however often they are looked at, if their recordings are independent "
            "of each other. For the growth of charge and pulse rate this is proven for each "
            "recorder; "
            "for class and severity it holds as measured (docs/results/trend.md)."
        )


def trend_of(asset: str, observations: Sequence[Observation], rule: AlarmRule) -> AssetTrend:
    """Return the trend of an asset with all its alarms.

    Args:
        asset: its name.
        observations: in any order if all have a time, else in their order.
        rule: of the alarms.
    """
    failed = tuple(one for one in observations if one.kind is None)
    notes: list[str] = []
    if failed:
        notes.append(
            f"{_recordings(len(failed))} could not be judged and count for nothing; the first: "
            f"{failed[0].error or failed[0].source}"
        )
    ordered = _ordered([one for one in observations if one.kind is not None], notes)
    notes += _time_notes(ordered)
    trends, alarms = [], []
    recorders = Counter(one.recorder for one in ordered)
    for recorder in recorders:
        for name, subject in WATCHED.items():
            positions = _measured(ordered, recorder, name)
            if positions:
                found, trend = _grown(ordered, positions, name, subject, rule)
                alarms += found
                trends.append(trend)
    notes += _comparison_notes(ordered, recorders, trends, rule)
    alarms += _class_alarms(ordered, rule)
    alarms += _severity_alarms(ordered, rule)
    alarms.sort(key=lambda alarm: alarm.position)
    return AssetTrend(
        asset=asset,
        observations=tuple(ordered),
        alarms=tuple(_dated(asset, alarm, ordered) for alarm in alarms),
        quantities=tuple(trends),
        notes=tuple(notes),
        failed=failed,
    )


def _ordered(observations: list[Observation], notes: list[str]) -> list[Observation]:
    """Return the observations by time, each recording once."""
    kept: list[Observation] = []
    first: dict[str, Observation] = {}
    copies: list[tuple[str, str]] = []
    for one in observations:
        if one.digest and one.digest in first:
            copies.append((one.source, first[one.digest].source))
            continue
        if one.digest:
            first[one.digest] = one
        kept.append(one)
    if copies:
        pairs = ", ".join(f"{copy} = {source}" for copy, source in copies[:_LISTED])
        notes.append(
            f"{_recordings(len(copies))} left out as copies of others, whose values are the same: "
            f"{pairs}{' and more' if len(copies) > _LISTED else ''}."
        )
    times = [one.time for one in kept]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return kept
    ordered = sorted(kept, key=lambda one: one.time or 0.0)
    if ordered != kept:
        notes.append("The recordings were not in the order of time; they were sorted.")
    same = len(known) - len(set(known))
    if same:
        notes.append(
            f"{_recordings(same + 1)} share a time with another; these follow each other as listed."
        )
    return ordered


def _time_notes(ordered: Sequence[Observation]) -> Iterator[str]:
    times = np.array([one.time for one in ordered if one.time is not None])
    if len(times) < len(ordered) or len(times) < 4:
        return
    steps = np.diff(times)
    middle = float(np.median(steps))
    gaps = np.flatnonzero(steps > _GAP * middle) if middle > 0 else np.zeros(0, int)
    longest = float(steps.max())
    if longest > 0 and middle < _BURST * float(np.mean(steps[steps >= middle])):
        yield (
            f"The recordings come in bursts: half of the steps are below {_span(middle)}, and the "
            f"longest is {_span(longest)}. Recordings of a burst resemble each other, so that "
            "alarms are more frequent than promised; --per-day takes one value a day."
        )
    elif len(gaps):
        widest = int(gaps[np.argmax(steps[gaps])])
        yield (
            f"{len(gaps)} gap{'s' * (len(gaps) > 1)} of more than {_span(_GAP * middle)}; the "
            f"longest, {_span(longest)}, begins {iso(times[widest])}. When a change began within "
            "it is not known."
        )


def _comparison_notes(
    ordered: Sequence[Observation],
    recorders: Mapping[str, int],
    trends: Sequence[QuantityTrend],
    rule: AlarmRule,
) -> Iterator[str]:
    if len(recorders) > 1:
        listed = "; ".join(f"{name} ({count})" for name, count in recorders.items())
        yield (
            f"The recordings are of {len(recorders)} recorders or settings, whose charges and "
            f"rates are compared within each alone: {listed}."
        )
    if not trends and ordered:
        yield "No recording tells its pulses, so that there is no charge or rate to compare."
    least = least_recordings(rule.growth_rate)
    for trend in trends:
        told = max(_TOLD, 2 / math.sqrt(len(trend.positions)))
        if trend.block > 1 and trend.correlation > told:
            yield (
                f"Neighbouring recordings have a like {WATCHED[trend.name]} (correlation "
                f"{trend.correlation:.2f} around its level), as under load or weather that last. "
                f"The promise on false alarms is for independent recordings. From "
                f"{trend.block * least} recordings on growth counts where the medians of "
                f"{trend.block} show it, too."
            )
    most = max((len(trend.positions) for trend in trends), default=least)
    if most < least:
        yield (
            f"Growth cannot be told yet: {least} recordings of one recorder are the fewest at this "
            f"false-alarm rate, and there are {most}."
        )
    needed = REFERENCE + rule.persistence
    if len(ordered) < needed:
        yield (
            f"A change of class or severity cannot be told yet: it takes {needed} recordings at "
            f"least, and there are {len(ordered)}."
        )


def _measured(ordered: Sequence[Observation], recorder: str, name: str) -> tuple[int, ...]:
    return tuple(
        position
        for position, one in enumerate(ordered)
        if one.recorder == recorder and math.isfinite(one.quantities.get(name, math.nan))
    )


def _grown(
    ordered: Sequence[Observation],
    positions: Sequence[int],
    name: str,
    subject: Subject,
    rule: AlarmRule,
) -> tuple[list[TrendAlarm], QuantityTrend]:
    """Return the alarms of a quantity, and its trend."""
    values = np.array([ordered[position].quantities[name] for position in positions])
    alarms, normal, betting = [], 0, 1
    for growth in growths(values, rate=rule.growth_rate):
        before = float(np.median(values[normal : growth.since]))
        after = float(np.median(values[growth.since : growth.position + 1]))
        unit = ordered[positions[0]].unit if subject == "charge" else "pulses a second"
        since = _when(ordered, positions[growth.since])
        sentence = (
            f"The {subject} grew to {after:.3g} {unit} (median) {since}, from {before:.3g} before. "
            f"{_chance(growth)}"
        )
        alarms.append(
            TrendAlarm(
                subject,
                positions[growth.position],
                positions[growth.since],
                before,
                after,
                sentence,
            )
        )
        normal, betting = growth.since, growth.position + 1
    wealth, block, alike = present_evidence(values[normal:], first=betting - normal)
    times = [ordered[position].time for position in positions]
    known = [time for time in times if time is not None]
    days = joint_days(known) if len(known) == len(times) else np.arange(len(times), dtype=float)
    return alarms, QuantityTrend(
        name=name,
        recorder=ordered[positions[0]].recorder,
        positions=tuple(positions),
        slope=slope_of(values, days),
        evidence=wealth,
        needed=1 / rule.growth_rate,
        block=block,
        correlation=alike,
    )


def _chance(growth: Growth) -> str:
    """Return a sentence on how often chance does as much."""
    rarely = f"at most one of {growth.evidence:,.0f} assets without change ever looks so."
    if growth.block > 1:
        return f"By chance, judged by medians of {growth.block} alike recordings, {rarely}"
    if growth.alike:
        return (
            f"If recordings were independent, {rarely} Neighbours resemble each other here, so "
            "that chance does it more often: record more before acting on this alone."
        )
    return f"By chance, {rarely}"


def _class_alarms(ordered: Sequence[Observation], rule: AlarmRule) -> Iterator[TrendAlarm]:
    kinds = [one.kind or UNKNOWN for one in ordered]
    names = {kind for one in ordered for kind in one.probabilities} | set(kinds) | {UNKNOWN}
    rate = rule.state_rate / max(1, len(names) - 1)
    start = 0
    for position, kind in enumerate(kinds):
        begin = _begin(kinds, start, position, lambda other, kind=kind: other == kind)
        before = kinds[start:begin]
        if not before or _usual(before) == kind:
            continue
        row = position + 1 - begin
        if not persists([b == kind for b in before], row, rate=rate, least=rule.persistence):
            continue
        usual = _usual(before)
        sure = [ordered[p].confidence for p in range(begin, position + 1)]
        said = f"{row} recordings in a row, {_when(ordered, begin)}"
        if kind == UNKNOWN:
            sentence = (
                f"The discharge is of no known class any more, {usual} before: {said}. Look at the "
                "patterns: it may be a fault that the model was not trained on."
            )
        else:
            sentence = (
                f"The class changed from {usual} to {kind}: {said}, with confidence "
                f"{_range(min(sure), max(sure))}."
            )
        subject: Subject = "unknown" if kind == UNKNOWN else "class"
        yield TrendAlarm(subject, position, begin, usual, kind, sentence)
        start = begin


def _severity_alarms(ordered: Sequence[Observation], rule: AlarmRule) -> Iterator[TrendAlarm]:
    where = [p for p, one in enumerate(ordered) if one.severity in SEVERITIES]
    levels = [SEVERITIES.index(ordered[p].severity) for p in where]
    rate = rule.state_rate / (len(SEVERITIES) - 1)
    start = 0
    for position in range(len(levels)):
        for level in range(levels[position], 0, -1):
            begin = _begin(levels, start, position, lambda other, level=level: other >= level)
            before = levels[start:begin]
            if not before or _usual(before) >= level:
                continue
            row = position + 1 - begin
            if not persists([b >= level for b in before], row, rate=rate, least=rule.persistence):
                continue
            was, now = SEVERITIES[_usual(before)], SEVERITIES[level]
            sentence = (
                f"The severity rose from {was} to {now}: {row} recordings in a row, "
                f"{_when(ordered, where[begin])}."
            )
            yield TrendAlarm("severity", where[position], where[begin], was, now, sentence)
            start = begin
            break


def _begin(values: Sequence[Any], start: int, position: int, alike: Any) -> int:
    """Return the first position of the row of values that are alike and end at a position."""
    begin = position
    while begin > start and alike(values[begin - 1]):
        begin -= 1
    return begin


def _usual(values: Sequence[Any]) -> Any:
    """Return the commonest value; of equally common ones the later."""
    counts = Counter(values)
    most = max(counts.values())
    return next(value for value in reversed(values) if counts[value] == most)


def _dated(asset: str, alarm: TrendAlarm, ordered: Sequence[Observation]) -> TrendAlarm:
    found = ordered[alarm.position]
    # Of growth the medians take part in no id: they are computed from what may be deleted later.
    after = alarm.after if isinstance(alarm.after, str) else ""
    return replace(
        alarm,
        id=alarm_id(asset, alarm.subject, after, found),
        raised=found.time,
        began=ordered[alarm.since].time,
    )


def _when(ordered: Sequence[Observation], position: int) -> str:
    time = iso(ordered[position].time)
    if time is None:
        return f"since recording {position + 1}"
    return f"since {time[:16].replace('T', ' ').removesuffix(' 00:00')}"


def _range(low: float, high: float) -> str:
    first, last = f"{low:.0%}", f"{high:.0%}"
    return first if first == last else f"{first} to {last}"


def _recordings(count: int) -> str:
    return "1 recording" if count == 1 else f"{count} recordings"


def _span(seconds: float) -> str:
    """Return a length of time in words."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
