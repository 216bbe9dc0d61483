"""The page of the trend of assets: one file without scripts, legible in light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from chiasm.diagnosis.monitoring.alarms import UNKNOWN
from chiasm.diagnosis.monitoring.asset import QUANTITIES, AssetTrend, QuantityTrend, iso
from chiasm.diagnosis.report.trend_plot import trend_plot
from chiasm.files.appearing import appearing
from chiasm.training.progress import working

_MONTH = 30.0  # days


@dataclass(frozen=True, slots=True)
class AssetCard:
    """What the page shows of one asset.

    Attributes:
        trend: of the asset.
        alarming: whether an alarm counts.
        state: the last recording in words.
        slopes: sentences on the robust slopes.
        plot: of class and quantities over time; None without a recording.
        recorders: with their marks, where there are several.
    """

    trend: AssetTrend
    alarming: bool
    state: str
    slopes: tuple[str, ...]
    plot: Markup | None
    recorders: tuple[str, ...]

    @property
    def word(self) -> str:
        """The state in a word or two."""
        if self.alarming:
            return "Alarm"
        return "Earlier alarm" if self.trend.alarms else "No alarm"


@working("Writing the page")
def write_trend_page(
    assets: list[tuple[AssetTrend, bool]],
    path: Path,
    *,
    title: str,
    promise: str,
    notes: tuple[str, ...],
    kinds: tuple[str, ...],
) -> Path:
    """Write the page.

    Args:
        assets: with whether each alarms, in the order in which they are shown.
        path: of the HTML file.
        title: name of the data.
        promise: of false alarms, in words.
        notes: on all recordings.
        kinds: the model's classes.
    """
    seen = {one.kind or UNKNOWN for asset, _ in assets for one in asset.observations}
    names = [*kinds, *sorted(seen - {*kinds, UNKNOWN}), UNKNOWN]
    environment = Environment(
        loader=PackageLoader("chiasm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = lambda seconds: (iso(seconds) or "")[:10]
    count = sum(alarming for _, alarming in assets)
    content = environment.get_template("trend.html.j2").render(
        title=title,
        lead=_lead(count, len(assets)),
        promise=promise,
        notes=notes,
        cards=[_card(asset, alarming, names) for asset, alarming in assets],
    )
    with appearing(path) as half:
        half.write_text(content, encoding="utf-8")
    return path


def _lead(count: int, total: int) -> str:
    if not count:
        return "No asset alarms." if total > 1 else "The asset does not alarm."
    if total == 1:
        return "The asset alarms."
    return f"{count} of {total} assets {'alarms' if count == 1 else 'alarm'}."


def _card(asset: AssetTrend, alarming: bool, kinds: list[str]) -> AssetCard:
    recorders = tuple(dict.fromkeys(one.recorder for one in asset.observations))
    return AssetCard(
        trend=asset,
        alarming=alarming,
        state=_state(asset),
        slopes=tuple(
            _slope_sentence(trend, several=len(recorders) > 1) for trend in asset.quantities
        ),
        plot=trend_plot(asset, kinds=kinds) if asset.observations else None,
        recorders=recorders if len(recorders) > 1 else (),
    )


def _state(asset: AssetTrend) -> str:
    if not asset.observations:
        return "No recording could be judged."
    last = asset.observations[-1]
    words = [f"{last.kind}"]
    if last.kind != UNKNOWN and math.isfinite(last.confidence):
        words[0] += f" ({last.confidence:.0%})"
    if last.severity:
        words.append(f"severity {last.severity}")
    when = iso(last.time)
    said = f"Last: {', '.join(words)}"
    return f"{said}, {when[:10]}." if when else f"{said}."


def _slope_sentence(trend: QuantityTrend, *, several: bool) -> str:
    name = QUANTITIES[trend.name]
    place = f" ({trend.recorder})" if several else ""
    if trend.slope is None:
        return f"{name}{place}: too few recordings for a slope"
    slope = trend.slope
    low, middle, high = (_MONTH * value for value in (slope.low, slope.per_day, slope.high))
    return (
        f"{name}{place}: {middle:+.3g} in 30 days, {slope.confidence:.0%} interval {low:+.3g} to "
        f"{high:+.3g}"
    )
