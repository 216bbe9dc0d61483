"""How often assets raise an alarm that do not change, and how soon those do that change.

Two kinds of assets: made numbers, many and quickly; and simulated recordings that a trained model
judges. Nothing was chosen on these assets: the seeds are used here alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.api import load
from chiasm.diagnosis.monitoring.alarms import AlarmRule, trend_of
from chiasm.diagnosis.monitoring.asset import AssetTrend, Observation
from chiasm.diagnosis.monitoring.measuring import observation_of
from chiasm.diagnosis.simulator.sessions import CLASSES, draw_latents
from chiasm.diagnosis.simulator.simulator import simulate_recording
from chiasm.samples import RecordingSample

WEEK = 7 * 86400.0
CHANGE = 10  # recordings before the change
SECONDS = 5


def made_numbers(
    rng: np.random.Generator, count: int, *, memory: float, factor: float, drift: float
) -> list[Observation]:
    """Return log-normal charges and rates, CV about 0.4, with an autocorrelation of ``memory``."""
    shocks = rng.normal(size=(2, count))
    state = shocks.copy()
    for t in range(1, count):
        state[:, t] = memory * state[:, t - 1] + np.sqrt(1 - memory**2) * shocks[:, t]
    since = np.maximum(0, np.arange(count) - CHANGE + 1)
    level = np.log(factor) * (since > 0) + np.log1p(drift) * since
    charge, rate = np.exp(0.4 * state + level)
    return [
        Observation(
            source=str(t),
            time=t * WEEK,
            kind="void",
            confidence=0.9,
            quantities={"charge_repeated": float(charge[t]), "rate_per_s": float(rate[t])},
        )
        for t in range(count)
    ]


def simulated(
    model: Any, rng: np.random.Generator, count: int, change: str
) -> Iterator[Observation]:
    """Yield what a model says of the recordings of one simulated asset."""
    kinds = [k for k in CLASSES if k not in ("normal", "noise")] if change in GROWTH else CLASSES
    kind = str(rng.choice(kinds))
    latents = draw_latents(kind, rng, tier="hard", equipment=int(rng.integers(0, 9)))
    other = str(rng.choice([k for k in CLASSES if k != kind]))
    for number in range(count):
        since = max(0, number - CHANGE + 1)
        now, state = kind, latents
        if since and change == "charge grows by 8 % a recording":
            state = replace(latents, gain=latents.gain * 1.08**since)
        elif since and change == "charge doubles":
            state = replace(latents, gain=latents.gain * 2)
        elif since and change == "another class":
            now = other
        counts, _ = simulate_recording(now, latents=state, rng=rng)
        series = counts[: 60 * SECONDS].reshape(1, -1).astype(np.float32)
        sample = RecordingSample(None, series, source=f"{number}")
        diagnosis = next(model.predict_all([(sample.source, sample)]))
        yield observation_of(sample, diagnosis, time=number * WEEK, source=sample.source)


GROWTH = ("charge grows by 8 % a recording", "charge doubles")
RIGHT = {"another class": {"class", "unknown"}} | {
    change: {"charge", "pulse rate"} for change in GROWTH
}


def outcome(asset: AssetTrend, right: set[str]) -> dict[str, Any]:
    """Return what an asset's alarms say: of what, too early, and how late the first right one."""
    found = [a.position - CHANGE for a in asset.alarms if a.subject in right]
    late = [delay for delay in found if delay >= 0]
    return {
        "subjects": sorted({a.subject for a in asset.alarms}),
        "doubtful": bool(asset.alarms)
        and all("neighbours resemble" in a.sentence.lower() for a in asset.alarms),
        "early": any(a.position < CHANGE for a in asset.alarms),
        "delay": min(late) + 1 if late else None,
    }


def summary(outcomes: list[dict[str, Any]], *, changes: bool) -> dict[str, Any]:
    """Return the shares and the delays of some assets."""
    delays = [one["delay"] for one in outcomes if one["delay"] is not None]
    subjects: dict[str, int] = defaultdict(int)
    for one in outcomes:
        for subject in one["subjects"]:
            subjects[subject] += 1
    row: dict[str, Any] = {"assets": len(outcomes), "alarms_by_subject": dict(subjects)}
    if not changes:
        return row | {
            "alarming": sum(bool(one["subjects"]) for one in outcomes),
            "alarming_with_doubt": sum(one["doubtful"] for one in outcomes),
        }
    return row | {
        "found": len(delays),
        "median_delay": float(np.median(delays)) if delays else None,
        "delay_90": float(np.quantile(delays, 0.9)) if delays else None,
        "early": sum(one["early"] for one in outcomes),
    }


def main() -> None:
    """Measure, and write the figures after every asset, so that they can be looked at."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, help="none: made numbers alone")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--assets", type=int, default=200)
    parser.add_argument("--changed", type=int, default=40)
    parser.add_argument("--recordings", type=int, default=24)
    parser.add_argument("--numbers", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2024)
    options = parser.parse_args()
    rule = AlarmRule()
    figures: dict[str, Any] = {
        "command": "python docs/results/scripts/trend.py " + " ".join(sys.argv[1:]),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": f"{platform.machine()}, {platform.python_version()}",
        "false_alarm_rate": rule.false_alarm_rate,
        "numbers": [],
        "simulated": [],
    }

    def write() -> None:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")

    for length in (24, 60):
        for memory, factor, drift in (
            *((0.0, 1.0, 0.0), (0.3, 1.0, 0.0), (0.6, 1.0, 0.0)),
            *((0.0, 1.5, 0.0), (0.0, 2.0, 0.0), (0.0, 4.0, 0.0), (0.0, 1.0, 0.05)),
        ):
            changes = factor > 1 or drift > 0
            assets = options.numbers if not changes else options.numbers // 10
            outcomes = []
            for number in range(assets):
                rng = np.random.default_rng([options.seed, length, number])
                many = made_numbers(rng, length, memory=memory, factor=factor, drift=drift)
                outcomes.append(outcome(trend_of("made", many, rule), {"charge", "pulse rate"}))
            figures["numbers"].append(
                {"recordings": length, "memory": memory, "factor": factor, "drift": drift}
                | summary(outcomes, changes=changes)
            )
            write()
    if options.model is None:
        return
    model = load(options.model)
    outcomes_of: dict[str, list[dict[str, Any]]] = {c: [] for c in ("none", *RIGHT)}
    for number in range(options.assets):
        for place, (change, outcomes) in enumerate(outcomes_of.items()):
            if change != "none" and number >= options.changed:
                continue
            rng = np.random.default_rng([options.seed, place, number])
            many = list(simulated(model, rng, options.recordings, change))
            outcomes.append(outcome(trend_of("made", many, rule), RIGHT.get(change, set())))
        figures["simulated"] = [
            {"change": change, "recordings": options.recordings, "seconds": SECONDS}
            | summary(outcomes, changes=change != "none")
            for change, outcomes in outcomes_of.items()
        ]
        write()


if __name__ == "__main__":
    main()
