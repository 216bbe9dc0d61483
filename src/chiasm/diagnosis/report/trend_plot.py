"""The plot of an asset over time: class, severity, charge and pulse rate on one axis of time.

It takes its colours from the page, so that it is legible in light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from markupsafe import Markup, escape

from chiasm.diagnosis.monitoring.alarms import UNKNOWN, WATCHED
from chiasm.diagnosis.monitoring.asset import AssetTrend, QuantityTrend

_WIDTH = 760
_LEFT, _RIGHT = 118, 14
_LANE = 20  # height of a class
_PANEL = 108  # height of a quantity
_GAP = 34
_AXIS = 26
_DAY = 86400.0
_SHAPES = 3  # recorders that can be told apart
_LEVELS = ("low", "medium", "high")

Scale = Callable[[float], float]


def trend_plot(asset: AssetTrend, *, kinds: Sequence[str]) -> Markup:
    """Draw an asset; ``kinds`` are all classes, whose position is their colour."""
    shown = asset.observations
    times = [one.time for one in shown]
    places = [float(p) if t is None else t for p, t in enumerate(times)]
    dated = bool(times) and all(time is not None for time in times)
    x = _scale(min(places), max(places), _LEFT + 8, _WIDTH - _RIGHT - 8)
    present = [kind for kind in kinds if any(one.kind == kind for one in shown)]
    recorders = list(dict.fromkeys(one.recorder for one in shown))
    height = _LANE * len(present)
    parts = [*_lanes(asset, present, kinds, places, x)]
    if any(one.severity for one in shown):
        height += 8
        parts += _severity(asset, places, x, height)
        height += _LANE
    for name, subject in WATCHED.items():
        trends = [trend for trend in asset.quantities if trend.name == name]
        if trends:
            height += _GAP
            parts += _quantity(asset, trends, subject, places, x, height, recorders, dated)
            height += _PANEL
    marks = _alarm_marks(asset, places, x, height)
    axis = _time_axis(places, x, height, dated)
    label = f"{asset.asset}: {len(shown)} recordings, {len(asset.alarms)} alarms"
    return Markup(
        f'<svg class="trend" viewBox="0 0 {_WIDTH} {height + _AXIS}" role="img" '
        f'aria-label="{escape(label)}">{"".join([*axis, *marks, *parts])}</svg>'
    )


def _lanes(
    asset: AssetTrend, present: Sequence[str], kinds: Sequence[str], places: list[float], x: Scale
) -> Iterator[str]:
    for row, kind in enumerate(present):
        y = _LANE * row + _LANE / 2
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="name" x="{_LEFT - 10}" y="{y + 4}">{escape(_short(kind))}</text>'
    for one, place in zip(asset.observations, places, strict=True):
        y = _LANE * present.index(one.kind or UNKNOWN) + _LANE / 2
        sure = one.confidence if math.isfinite(one.confidence) else 0.0
        colour = "unknown" if one.kind == UNKNOWN else f"k{kinds.index(one.kind or UNKNOWN) % 8}"
        said = f"{_moment(one.time)}{one.kind}, confidence {sure:.0%}"
        yield (
            f'<circle class="{colour}" cx="{x(place):.1f}" cy="{y}" r="{2.5 + 3.5 * sure:.1f}">'
            f"<title>{escape(said)}</title></circle>"
        )


def _severity(asset: AssetTrend, places: list[float], x: Scale, top: float) -> Iterator[str]:
    base = top + _LANE - 3
    yield f'<text class="name" x="{_LEFT - 10}" y="{top + 14}">severity</text>'
    yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
    for one, place in zip(asset.observations, places, strict=True):
        if one.severity not in _LEVELS:
            continue
        level = _LEVELS.index(one.severity)
        high = 4 + 5 * level
        yield (
            f'<rect class="s{level}" x="{x(place) - 2.5:.1f}" y="{base - high}" width="5" '
            f'height="{high}" rx="1"><title>{escape(_moment(one.time) + one.severity)}</title>'
            "</rect>"
        )


def _quantity(
    asset: AssetTrend,
    trends: Sequence[QuantityTrend],
    subject: str,
    places: list[float],
    x: Scale,
    top: float,
    recorders: Sequence[str],
    dated: bool,
) -> Iterator[str]:
    values = [
        asset.observations[p].quantities[trend.name] for trend in trends for p in trend.positions
    ]
    ticks = _ticks(max(values))
    y = _scale(0.0, ticks[-1], top + _PANEL, top)
    units = {asset.observations[p].unit for trend in trends for p in trend.positions}
    unit = (units.pop() if len(units) == 1 else "several units") if subject == "charge" else "1/s"
    yield f'<text class="name strong" x="{_LEFT - 10}" y="{top - 13}">{subject}</text>'
    yield f'<text class="unit" x="{_LEFT}" y="{top - 13}">{escape(unit)}</text>'
    for tick in ticks:
        yield (
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/>'
            f'<text class="tick" x="{_LEFT - 10}" y="{y(tick) + 4:.1f}">{tick:g}</text>'
        )
    for trend in trends:
        yield from _slope(asset, trend, places, x, y, dated)
        shape = recorders.index(trend.recorder) % _SHAPES
        points = " ".join(
            f"{x(places[p]):.1f},{y(asset.observations[p].quantities[trend.name]):.1f}"
            for p in trend.positions
        )
        yield f'<polyline class="path r{shape}" points="{points}"/>'
        for p in trend.positions:
            one = asset.observations[p]
            value = one.quantities[trend.name]
            said = f"{_moment(one.time)}{value:.4g} {one.unit if subject == 'charge' else '1/s'}"
            yield _point(x(places[p]), y(value), shape, said)


def _slope(
    asset: AssetTrend, trend: QuantityTrend, places: list[float], x: Scale, y: Scale, dated: bool
) -> Iterator[str]:
    """Draw the robust line through the medians, and the interval of its slope about them."""
    slope = trend.slope
    if slope is None:
        return
    at = np.array([places[p] for p in trend.positions]) / (_DAY if dated else 1.0)
    if not dated:
        at = np.arange(len(at), dtype=np.float64)
    values = np.array([asset.observations[p].quantities[trend.name] for p in trend.positions])
    middle = float(np.median(values - slope.per_day * at))
    centre = float(np.median(at))
    level = middle + slope.per_day * centre
    ends = (0, len(at) - 1)

    def line(per_day: float) -> list[tuple[float, float]]:
        heights = [max(0.0, level + per_day * (at[end] - centre)) for end in ends]
        return [(x(places[trend.positions[e]]), y(h)) for e, h in zip(ends, heights, strict=True)]

    low, high, best = line(slope.low), line(slope.high), line(slope.per_day)
    (cx, cy) = (
        x(float(np.median([places[p] for p in trend.positions]))),
        y(max(0.0, level)),
    )
    band = [low[0], (cx, cy), low[1], high[1], (cx, cy), high[0]]
    yield f'<polygon class="band" points="{_path(band)}"/>'
    yield f'<polyline class="slope" points="{_path([best[0], best[1]])}"/>'


def _alarm_marks(asset: AssetTrend, places: list[float], x: Scale, height: float) -> Iterator[str]:
    for alarm in asset.alarms:
        since, raised = x(places[alarm.since]), x(places[alarm.position])
        yield (
            f'<rect class="change" x="{since:.1f}" y="0" width="{max(raised - since, 1):.1f}" '
            f'height="{height}"/>'
            f'<line class="alarm" x1="{raised:.1f}" x2="{raised:.1f}" y1="0" y2="{height}">'
            f"<title>{escape(alarm.sentence)}</title></line>"
        )


def _time_axis(places: list[float], x: Scale, height: float, dated: bool) -> Iterator[str]:
    yield f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>'
    low, high = min(places), max(places)
    ticks = _dates(low, high) if dated else [(p, f"{p + 1:.0f}") for p in _whole(low, high)]
    if not ticks:
        ticks = [(low, _moment(low).rstrip(": ") if dated else f"{low + 1:.0f}")]
    for place, text in ticks:
        yield (
            f'<line class="axis" x1="{x(place):.1f}" x2="{x(place):.1f}" y1="{height}" '
            f'y2="{height + 4}"/>'
            f'<text class="date" x="{x(place):.1f}" y="{height + 18}">{text}</text>'
        )


def _point(x: float, y: float, shape: int, said: str) -> str:
    title = f"<title>{escape(said)}</title>"
    if shape == 0:
        return f'<circle class="dot r0" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>'
    size = 3.6
    corners = (
        [(x, y - size), (x + size, y), (x, y + size), (x - size, y)]
        if shape == 1
        else [(x, y - size), (x + size, y + size * 0.8), (x - size, y + size * 0.8)]
    )
    return f'<polygon class="dot r{shape}" points="{_path(corners)}">{title}</polygon>'


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(most: float) -> list[float]:
    """Return round numbers from 0 to at least the largest value."""
    if not most > 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(most / 3))
    step = next(size * n for n in (1, 2, 5, 10) if size * n * 4 >= most)
    return [step * n for n in range(math.ceil(most / step - 1e-9) + 1)]


def _whole(low: float, high: float) -> list[float]:
    step = max(1, math.ceil((high - low) / 8))
    return [float(n) for n in range(int(low), int(high) + 1, step)]


def _dates(low: float, high: float) -> list[tuple[float, str]]:
    """Return round dates or times of the day within a span, with their texts."""
    days = (high - low) / _DAY
    first = datetime.fromtimestamp(low, UTC)
    if days > 75:
        months = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 600) if days / 30.5 / n <= 7)
        start = first.year * 12 + first.month - 1
        marks = range(-(-start // months) * months, start + int(days / 28) + months + 1, months)
        moments = [datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in marks]
        form = "%b %Y" if months < 12 else "%Y"
    else:
        hours = next(n for n in (1, 2, 4, 12, 24, 48, 96, 168, 336) if days * 24 / n <= 7)
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        moments = [
            midnight + timedelta(hours=hours * n) for n in range(int(days * 24 / hours) + 26)
        ]
        form = "%d %b" if hours >= 24 else "%d %b %H:%M"
    found = [(m.timestamp(), m.strftime(form)) for m in moments]
    return [(place, text) for place, text in found if low <= place <= high]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _moment(time: float | None) -> str:
    if time is None:
        return ""
    return datetime.fromtimestamp(time, UTC).strftime("%d %b %Y %H:%M") + ": "


def _short(name: str) -> str:
    return name if len(name) <= 15 else name[:14] + "\N{HORIZONTAL ELLIPSIS}"
