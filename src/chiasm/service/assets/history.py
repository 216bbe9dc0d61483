"""The trend of an asset from its rows of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chiasm.diagnosis.monitoring.alarms import AlarmRule, trend_of
from chiasm.diagnosis.monitoring.asset import AssetTrend
from chiasm.service.assets.facts import observation_from
from chiasm.service.log.asset_rows import MOST_OF_ASSET

Rows = Sequence[Mapping[str, Any]]


def history_of(asset: str, rows: Rows, rule: AlarmRule) -> AssetTrend:
    """Return the trend of an asset by the model of its newest verdict.

    Args:
        asset: its name.
        rows: of the log, the earliest first.
        rule: of the alarms.
    """
    model = rows[-1]["model"]
    own = [row for row in rows if row["model"] == model]
    notes = []
    if len(own) < len(rows):
        notes.append(f"{len(rows) - len(own)} verdicts of other models than {model} do not count.")
    versions = list(dict.fromkeys(row["model_hash"] for row in own))
    if len(versions) > 1:
        notes.append(
            f"The recordings were judged by {len(versions)} versions of the model: a class that "
            "changes between them may be the model's doing."
        )
    if len(rows) == MOST_OF_ASSET:
        notes.append(f"The newest {MOST_OF_ASSET} verdicts count.")
    trend = trend_of(asset, [observation_from(row) for row in own], rule)
    return replace(trend, notes=(*notes, *trend.notes))
