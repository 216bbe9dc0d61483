"""Pictures of misdiagnosed recordings: the pattern, and the series by phase and time."""

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

from chiasm.diagnosis.report.pattern_plot import draw_pattern
from chiasm.diagnosis.report.scored import ScoredRecordings
from chiasm.errors import DataError
from chiasm.reporting.style import GOOD, INK, QUIET
from chiasm.samples import FloatArray, RecordingSample

COLUMNS = ("picture", "series, by phase", "series, over time")
WRONG, UNCERTAIN = "wrong", "correct, least confident"
Loader = Callable[[int], RecordingSample]
_MAXIMUM_DOTS = 4000
_RATIOS = (1, 1, 1.9)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A recording to show: its index in the list, the reason, and its panels as PNG bytes."""

    index: int
    reason: str
    png: bytes


def choose(scored: ScoredRecordings, *, limit: int = 8) -> list[tuple[str, int]]:
    """Choose recordings to show: each sort of mistake once, then the other mistakes.

    A sort of mistake is a pair of true and predicted class. The most confident come first. If
    fewer than two are wrong, the least confident correct ones fill up to two.
    """
    if not len(scored):
        return []
    confidence = scored.probabilities.max(axis=1)
    wrong = np.flatnonzero(scored.guesses != scored.labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    sorts: dict[tuple[int, int], int] = {}
    for index in wrong.tolist():
        sorts.setdefault((int(scored.labels[index]), int(scored.guesses[index])), index)
    first = list(sorts.values())
    mistakes = [*first, *(index for index in wrong.tolist() if index not in first)]
    correct = np.flatnonzero(scored.guesses == scored.labels)
    correct = correct[np.argsort(confidence[correct], kind="stable")]
    chosen = [(WRONG, index) for index in mistakes[:limit]]
    missing = max(0, min(limit, 2) - len(chosen))
    return [*chosen, *((UNCERTAIN, index) for index in correct[:missing].tolist())]


def make_cases(scored: ScoredRecordings, load: Loader, *, limit: int = 8) -> list[Case]:
    """Draw the chosen recordings; those that can no longer be read are skipped."""
    cases = []
    for reason, index in choose(scored, limit=limit):
        try:
            sample = load(index)
        except DataError:
            continue
        cases.append(Case(index, reason, recording_strip(sample)))
    return cases


def write_cases(cases: Sequence[Case], folder: Path) -> None:
    """Write the strips as ``case_NN.png``."""
    for number, case in enumerate(cases, start=1):
        (folder / f"case_{number:02d}.png").write_bytes(case.png)


def recording_strip(sample: RecordingSample) -> bytes:
    """Draw a recording: picture, pulses by phase and amplitude, pulses by time and phase.

    Of the first channel: the pulses counted in cells, darker for more on a logarithmic scale; and
    dots of its values above the background, the largest 4000 at most. Returns PNG bytes.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.01, wspace=0.03)
    figure = Figure(figsize=(7.4, 1.98), layout=layout)
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


def pulse_indices(series: FloatArray) -> NDArray[np.int64]:
    """Return the sorted indices of one channel's ``(T,)`` pulses, 4000 at most.

    Pulses exceed the median by four robust standard deviations. If there are fewer than 50, the
    50 largest values are returned, so that the background is visible.
    """
    median = float(np.median(series))
    deviation = 1.4826 * float(np.median(np.abs(series - median)))
    indices = np.flatnonzero(series > median + 4 * max(deviation, 1e-9))
    minimum = min(50, len(series))
    if len(indices) < minimum:
        indices = np.argpartition(series, len(series) - minimum)[-minimum:]
    if len(indices) > _MAXIMUM_DOTS:
        largest = np.argpartition(series[indices], len(indices) - _MAXIMUM_DOTS)[-_MAXIMUM_DOTS:]
        indices = indices[largest]
    return np.sort(indices).astype(np.int64)


def _picture(axes: Axes, image: FloatArray | None) -> None:
    if image is None:
        _absent(axes, "no picture")
        return
    axes.imshow(np.clip(image, 0, 1), aspect="auto", interpolation="antialiased")
    width = image.shape[1]
    _style(axes)
    axes.set_xticks([0, width / 2, width - 1], ["0°", "180°", "360°"])
    axes.set_yticks([])


def _pulses(phases: Axes, times: Axes, sample: RecordingSample) -> None:
    assert sample.series is not None
    values = sample.series[0]
    indices = pulse_indices(values)
    cycle, within = np.divmod(indices, sample.samples_per_cycle)
    # Dots at the middle of their bin.
    degrees = (within + 0.5) * 360 / sample.samples_per_cycle
    seconds = (cycle + degrees / 360) / sample.frequency
    height = values[indices]
    top = 1.05 * max(float(height.max()), 1e-9)
    low, high = draw_pattern(phases, sample)
    phases.set_ylim(low, high)
    order = np.argsort(height, kind="stable")  # the largest on top
    share = height[order] / top
    times.scatter(
        seconds[order], degrees[order], s=0.6 + 6 * share**2, c=GOOD, alpha=0.55, linewidths=0
    )
    total = values.size / sample.samples_per_cycle / sample.frequency
    for axes in (phases, times):
        _style(axes)
    phases.set_xlim(0, 360)
    phases.set_xticks([0, 180, 360], ["0°", "180°", "360°"])
    phases.yaxis.set_major_locator(MaxNLocator(4))
    times.set_xlim(0, total)
    times.xaxis.set_major_formatter("{x:g} s")
    times.xaxis.set_major_locator(MaxNLocator(4))
    times.set_ylim(0, 360)
    times.set_yticks([0, 180, 360], ["0°", "180°", "360°"])


def _style(axes: Axes) -> None:
    """Small ticks, no box."""
    axes.tick_params(labelsize=7.5, color=QUIET, labelcolor=INK, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def _absent(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=9, color=QUIET)
    axes.set_axis_off()
