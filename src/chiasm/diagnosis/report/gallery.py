"""Pictures of what was misdiagnosed: the pattern, and the series by phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.reporting.style import GOOD, INK, QUIET
from chiasm.samples import FloatArray, RecordingSample

COLUMNS = ("picture", "series, by phase", "series, over time")
WRONG, UNSURE = "wrong", "right, least sure"
Loader = Callable[[int], RecordingSample]
_DOTS = 4000
_RATIOS = (1, 1, 1.9)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A recording to show: its place in the list, why, and its panels as PNG bytes."""

    place: int
    reason: str
    png: bytes


def choose(scored: ScoredRecordings, *, most: int = 8) -> list[tuple[str, int]]:
    """Each sort of mistake once, the surest first, then the rest of them; else the least sure.

    A sort of mistake is a pair of true and said class. Right ones fill up to two places only
    where fewer than two were wrong.
    """
    if not len(scored):
        return []
    confidence = scored.probabilities.max(axis=1)
    wrong = np.flatnonzero(scored.guesses != scored.labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    sorts: dict[tuple[int, int], int] = {}
    for place in wrong.tolist():
        sorts.setdefault((int(scored.labels[place]), int(scored.guesses[place])), place)
    first = list(sorts.values())
    mistakes = [*first, *(place for place in wrong.tolist() if place not in first)]
    right = np.flatnonzero(scored.guesses == scored.labels)
    right = right[np.argsort(confidence[right], kind="stable")]
    chosen = [(WRONG, place) for place in mistakes[:most]]
    spare = max(0, min(most, 2) - len(chosen))
    return [*chosen, *((UNSURE, place) for place in right[:spare].tolist())]


def make_cases(scored: ScoredRecordings, load: Loader, *, most: int = 8) -> list[Case]:
    """Draw the chosen recordings; one that can no longer be read is left out."""
    cases = []
    for reason, place in choose(scored, most=most):
        try:
            sample = load(place)
        except DataError:
            continue
        cases.append(Case(place, reason, recording_strip(sample)))
    return cases


def write_cases(cases: Sequence[Case], folder: Path) -> None:
    """Write the strips as ``case_NN.png``."""
    for number, case in enumerate(cases, start=1):
        (folder / f"case_{number:02d}.png").write_bytes(case.png)


def recording_strip(sample: RecordingSample) -> bytes:
    """PNG of one recording: picture, pulses by phase and amplitude, pulses by time and phase.

    Of the series, the first channel's values that stand off the quiet level are drawn as dots;
    4000 at most, the largest first.
    """
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.01, wspace=0.03)
    figure = Figure(figsize=(7.4, 1.98), layout=tight)
    picture, phases, times = figure.subplots(1, 3, width_ratios=_RATIOS)
    _picture(picture, sample.image)
    if sample.series is None:
        for axes in (phases, times):
            _absent(axes, "no series")
    else:
        _pulses(phases, times, sample)
    stream = BytesIO()
    figure.savefig(stream, dpi=150, format="png")
    return stream.getvalue()


def standing_out(series: FloatArray) -> NDArray[np.int64]:
    """Places of one channel's ``(T,)`` values above the quiet level, in order, 4000 at most.

    Quiet is the median plus four of its robust standard deviations; where fewer than 50 stand
    out, the 50 largest are given, so that the floor's own shape can be seen.
    """
    middle = float(np.median(series))
    spread = 1.4826 * float(np.median(np.abs(series - middle)))
    found = np.flatnonzero(series > middle + 4 * max(spread, 1e-9))
    least = min(50, len(series))
    if len(found) < least:
        found = np.argpartition(series, len(series) - least)[-least:]
    if len(found) > _DOTS:
        found = found[np.argpartition(series[found], len(found) - _DOTS)[-_DOTS:]]
    return np.sort(found).astype(np.int64)


def _picture(axes: Axes, image: FloatArray | None) -> None:
    if image is None:
        _absent(axes, "no picture")
        return
    axes.imshow(np.clip(image, 0, 1), aspect="auto", interpolation="antialiased")
    width = image.shape[1]
    _quiet(axes)
    axes.set_xticks([0, width / 2, width - 1], ["0°", "180°", "360°"])
    axes.set_yticks([])


def _pulses(phases: Axes, times: Axes, sample: RecordingSample) -> None:
    assert sample.series is not None
    values = sample.series[0]
    place = standing_out(values)
    cycle, within = np.divmod(place, sample.samples_per_cycle)
    # Dots at the middle of their bin.
    degrees = (within + 0.5) * 360 / sample.samples_per_cycle
    seconds = (cycle + degrees / 360) / sample.frequency
    height = values[place]
    top = 1.05 * max(float(height.max()), 1e-9)
    turn = np.linspace(0, 360, 121)
    phases.plot(turn, top * (0.5 + 0.42 * np.sin(np.radians(turn))), color=QUIET, lw=0.8, alpha=0.6)
    phases.scatter(degrees, height, s=2.2, color=INK, alpha=0.3, linewidths=0)
    phases.set_ylim(0, top)
    order = np.argsort(height, kind="stable")  # the largest on top
    share = height[order] / top
    times.scatter(
        seconds[order], degrees[order], s=0.6 + 6 * share**2, c=GOOD, alpha=0.55, linewidths=0
    )
    total = values.size / sample.samples_per_cycle / sample.frequency
    for axes in (phases, times):
        _quiet(axes)
    phases.set_xlim(0, 360)
    phases.set_xticks([0, 180, 360], ["0°", "180°", "360°"])
    phases.yaxis.set_major_locator(MaxNLocator(4))
    times.set_xlim(0, total)
    times.xaxis.set_major_formatter("{x:g} s")
    times.xaxis.set_major_locator(MaxNLocator(4))
    times.set_ylim(0, 360)
    times.set_yticks([0, 180, 360], ["0°", "180°", "360°"])


def _quiet(axes: Axes) -> None:
    """Small ticks, no box."""
    axes.tick_params(labelsize=7.5, color=QUIET, labelcolor=INK, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def _absent(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=9, color=QUIET)
    axes.set_axis_off()
