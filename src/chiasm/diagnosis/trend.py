"""The trend of assets over their recordings: judged in the order of time, with alarms."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chiasm.diagnosis.monitoring.alarms import AlarmRule, trend_of
from chiasm.diagnosis.monitoring.asset import QUANTITIES, AssetTrend, Observation, finite, iso
from chiasm.diagnosis.monitoring.grouping import per_day as by_day
from chiasm.diagnosis.monitoring.listing import Listed, list_assets, recorder_of
from chiasm.diagnosis.monitoring.measuring import observation_of
from chiasm.diagnosis.predict import RecordingModel
from chiasm.diagnosis.quantities.severity import SeverityLevels, levels_for, rated
from chiasm.diagnosis.readers.opening import open_source
from chiasm.diagnosis.readers.source import RecordingSource, problem_message
from chiasm.diagnosis.report.trend_page import write_trend_page
from chiasm.errors import ChiasmError, DataError
from chiasm.runs.console import MAX_LISTED, say
from chiasm.training.progress import Progress, counted

_COLUMNS = (
    *("asset", "time", "source", "kind", "confidence", "severity", "unit"),
    *QUANTITIES,
    *("alarms", "recorder", "error"),
)


@dataclass(frozen=True, slots=True)
class TrendReport:
    """The trends of all assets.

    Attributes:
        assets: in the order of their names, those with alarms first.
        rule: of the alarms.
        notes: on all recordings, a sentence each.
        since: earlier alarms are listed but do not count; None counts all.
    """

    assets: tuple[AssetTrend, ...]
    rule: AlarmRule
    notes: tuple[str, ...]
    since: float | None = None

    def counts(self, asset: AssetTrend) -> bool:
        """Return whether an asset has an alarm that counts."""
        return any(
            self.since is None or alarm.raised is None or alarm.raised >= self.since
            for alarm in asset.alarms
        )

    @property
    def alarming(self) -> tuple[AssetTrend, ...]:
        """Assets with an alarm that counts."""
        return tuple(asset for asset in self.assets if self.counts(asset))


def trend(
    model: RecordingModel,
    inputs: Path | str,
    *,
    out: Path | str = "trend",
    asset: str | None = None,
    time: str | None = None,
    rule: AlarmRule | None = None,
    per_day: bool = False,
    since: float | None = None,
    recorder: Sequence[str] = (),
    severity: Path | str | None = None,
) -> TrendReport:
    """Judge the recordings of assets in the order of time.

    Writes ``trend.json``, ``trend.csv`` and ``trend.html`` to ``out``.

    Args:
        model: trained or exported.
        inputs: folder or table.
        out: folder of the results.
        asset, time: where these are found, see ``list_assets``.
        rule: of the alarms; None is the default.
        per_day: take one value a day of each asset and recorder.
        since: seconds since 1970; earlier alarms do not count.
        recorder: ``NAME=VALUE`` each, what the recorder's files do not say.
        severity: YAML file of levels; None takes ``severity.yaml`` beside the inputs, or the
            default levels.

    Raises:
        DataError: no recording could be judged, or none has a time.
    """
    rule = AlarmRule() if rule is None else rule
    source = open_source(inputs, recorder=recorder)
    listing = list_assets(source.refs, Path(inputs), asset=asset, time=time)
    levels = levels_for(inputs, severity)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    observations: dict[str, list[Observation]] = {}
    with Progress("Diagnosing", len(listing.recordings), unit="recordings") as progress:
        for listed in progress.over(listing.recordings):
            observations.setdefault(listed.asset, []).append(
                _observed(model, source, listed, levels)
            )
    _refuse_none(observations)
    notes = [*listing.notes, *_problems(source)]
    if per_day:
        observations = {name: by_day(many) for name, many in observations.items()}
        notes.append("One value a day: the median of its recordings, and their commonest class.")
    trends = [
        trend_of(name, many, rule)
        for name, many in counted("Comparing", observations.items(), unit="assets")
    ]
    report = TrendReport((), rule, tuple(notes), since)
    ordered = sorted(trends, key=lambda one: (not report.counts(one), one.asset))
    report = replace(report, assets=tuple(ordered))
    _write(report, target)
    write_trend_page(
        [(one, report.counts(one)) for one in report.assets],
        target / "trend.html",
        title=source.name,
        promise=rule.promise,
        notes=report.notes,
        kinds=tuple(model.kinds),
    )
    _say(report, target)
    return report


def _observed(
    model: RecordingModel, source: RecordingSource, listed: Listed, levels: SeverityLevels | None
) -> Observation:
    ref = listed.ref
    try:
        sample = source.load(ref)
    except ChiasmError as error:
        return Observation(ref.source, listed.time, error=str(error))
    diagnosis = rated(next(model.predict_all([(ref.source, sample)])), levels)
    return observation_of(
        sample,
        diagnosis,
        time=listed.time,
        source=ref.source,
        recorder=recorder_of(listed.facts),
    )


def _refuse_none(observations: dict[str, list[Observation]]) -> None:
    judged = [one for many in observations.values() for one in many if one.kind is not None]
    if judged:
        return
    failed = [one for many in observations.values() for one in many]
    first = failed[0].error if failed else "there was none."
    raise DataError(f"None of the {len(failed)} recordings could be judged: {first}")


def _problems(source: RecordingSource) -> list[str]:
    """Return what the reader left out or assumed, the same sentence of many files once."""
    messages = [problem_message(problem) for problem in source.problems]
    more = len(messages) - MAX_LISTED
    return messages[:MAX_LISTED] + ([f"{more} more remarks of the reader."] if more > 0 else [])


def _write(report: TrendReport, folder: Path) -> None:
    content = {
        "false_alarm_rate": report.rule.false_alarm_rate,
        "promise": report.rule.promise,
        "since": iso(report.since),
        "notes": list(report.notes),
        "assets": [
            {"alarming": report.counts(asset), **asset.to_dict()} for asset in report.assets
        ],
    }
    (folder / "trend.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (folder / "trend.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS)
        writer.writeheader()
        for asset in report.assets:
            for position, one in enumerate(asset.observations):
                alarms = [a.subject for a in asset.alarms if a.position == position]
                writer.writerow(_row(asset.asset, one, alarms))
            writer.writerows(_row(asset.asset, one, ()) for one in asset.failed)


def _row(asset: str, one: Observation, alarms: Sequence[str]) -> dict[str, object]:
    return {
        "asset": asset,
        "time": iso(one.time),
        "source": one.source,
        "kind": one.kind,
        "confidence": finite(one.confidence),
        "severity": one.severity,
        "unit": one.unit,
        **{name: finite(one.quantities[name]) for name in _COLUMNS if name in one.quantities},
        "alarms": " ".join(alarms),
        "recorder": one.recorder,
        "error": one.error,
    }


def _say(report: TrendReport, folder: Path) -> None:
    for note in report.notes:
        say(note)
    for asset in report.assets:
        last = asset.observations[-1] if asset.observations else None
        state = "no recording could be judged" if last is None else f"now {last.kind}"
        say(f"{asset.asset}: {len(asset.observations)} recordings, {state}.")
        for alarm in asset.alarms:
            earlier = report.since is not None and (alarm.raised or 0.0) < report.since
            say(f"  {'earlier alarm' if earlier else 'ALARM'}: {alarm.sentence}")
        for note in asset.notes:
            say(f"  {note}")
    count = len(report.alarming)
    say(
        f"{count} of {len(report.assets)} asset{'s' * (len(report.assets) > 1)} "
        f"{'alarms' if count == 1 else 'alarm'}. See {folder / 'trend.html'}."
    )
