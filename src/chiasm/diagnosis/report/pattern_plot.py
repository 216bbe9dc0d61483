"""The pattern of a recording: pulses by phase and charge, the voltage, and what speaks."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from chiasm.diagnosis.quantities.assessment import recording_pulses
from chiasm.diagnosis.quantities.pattern import PhasePattern, phase_pattern
from chiasm.discharge import Array, digits
from chiasm.errors import DataError
from chiasm.reporting.style import BAD, INK, QUIET
from chiasm.samples import Diagnosis, FloatArray, RecordingSample

Theme = Literal["light", "dark"]


@dataclass(frozen=True, slots=True)
class _Look:
    paper: str
    ink: str
    quiet: str
    mark: str
    colours: str
    band: tuple[float, float]  # of the colour map: its ends cannot be told from the paper


_LOOKS: dict[Theme, _Look] = {
    "light": _Look("#ffffff", INK, QUIET, BAD, "magma_r", (0.18, 1.0)),
    "dark": _Look("#14181b", "#e6eaed", "#8b979f", "#f0a56b", "magma", (0.3, 1.0)),
}
_LONG = 1e5  # charges from here on are written in thousands
_HALF = 0.5  # of the strongest window, from which on one is marked


def pattern_png(
    pattern: PhasePattern | None,
    diagnosis: Diagnosis,
    *,
    picture: FloatArray | None = None,
    speaks: Array | None = None,
    name: str = "",
    theme: Theme = "light",
) -> bytes:
    """Draw a recording's pattern as PNG, with its diagnosis in words.

    Args:
        pattern: of its pulses; None draws the picture.
        diagnosis: of the recording.
        picture: ``(H, W, 3)`` of an instrument, where there are no pulses.
        speaks: of ``speaking_phases``; None marks nothing.
        name: of the recording; "" is its source.
        theme: of the page.
    """
    look = _LOOKS[theme]
    figure = Figure(figsize=(6.4, 4.1), facecolor=look.paper)
    axes: Axes = figure.add_axes((0.115, 0.2, 0.74, 0.6), facecolor=look.paper)
    if pattern is not None:
        _counts(figure, axes, pattern, look)
        _sources(axes, diagnosis, pattern, look)
    elif picture is not None:
        axes.imshow(
            np.clip(picture, 0, 1),
            aspect="auto",
            extent=(0, 360, 0, 1),
            interpolation="antialiased",
        )
        axes.set_yticks([])
        axes.set_ylabel("as the instrument drew it", fontsize=9, color=look.ink)
    _style(axes, look, None if pattern is None else pattern.seconds)
    if speaks is not None:
        _marks(figure, axes, speaks, diagnosis, look)
    _words(figure, diagnosis, name or diagnosis.source, look)
    stream = BytesIO()
    figure.savefig(stream, dpi=150, format="png", facecolor=look.paper)
    return stream.getvalue()


def draw_pattern(axes: Axes, sample: RecordingSample) -> tuple[float, float]:
    """Draw the pulses of a recording with the voltage, without words; returns the charges' range.

    Raises ``DataError`` where there is no series and no pulse.
    """
    read = recording_pulses(sample)
    if read is None:
        raise DataError(f"{sample.source or 'The recording'} has no pulses to draw.")
    pattern = phase_pattern(read.pulses, sample.system.charge_pc)
    _cells(axes, pattern, _LOOKS["light"])
    return pattern.low, pattern.high


def _cells(axes: Axes, pattern: PhasePattern, look: _Look) -> Any:
    """Draw the counts on a logarithmic scale, and the voltage; return what has the colours."""
    shades = ListedColormap(colormaps[look.colours](np.linspace(*look.band, 256)))
    most = max(float(pattern.counts.max()), 10.0)
    drawn = axes.imshow(
        np.ma.masked_equal(pattern.counts, 0),
        cmap=shades,
        norm=LogNorm(1, most),
        origin="lower",
        aspect="auto",
        extent=(0, 360, pattern.low, pattern.high),
        interpolation="nearest",
        zorder=3,
    )
    if pattern.seconds is None:
        angle = np.linspace(0, 360, 181)
        centre = 0.0 if pattern.signed else pattern.high / 2
        wave = centre + 0.9 * (pattern.high - centre) * np.sin(np.radians(angle))
        axes.plot(angle, wave, color=look.quiet, lw=1.1, alpha=0.8, zorder=2)
    if pattern.signed:
        axes.axhline(0, color=look.quiet, lw=0.8, zorder=2)
    return drawn


def _counts(figure: Figure, axes: Axes, pattern: PhasePattern, look: _Look) -> None:
    drawn = _cells(axes, pattern, look)
    thousands = 0 if pattern.high < _LONG else 1 if pattern.high < 1e3 * _LONG else 2
    unit = ("pC", "nC", "µC")[thousands]
    words = "charge, " + unit
    if pattern.unit != "pC":
        words = ("amplitude, recorder's units", "amplitude / 1,000", "amplitude / 1,000,000")[
            thousands
        ]
    axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1e3**thousands:,.6g}")
    axes.set_ylabel(words, fontsize=9, color=look.ink)
    axes.set_ylim(pattern.low, pattern.high)
    words = "polarity by sign" if pattern.signed else "polarity not recorded"
    figure.text(0.855, 0.03, words, fontsize=8, color=look.quiet, ha="right")
    place = figure.add_axes((0.875, 0.2, 0.02, 0.6))
    bar = figure.colorbar(drawn, cax=place)
    bar.set_label("pulses in a cell", fontsize=8.5, color=look.ink)
    bar.ax.tick_params(labelsize=8, color=look.quiet, labelcolor=look.ink, length=2, which="both")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.yaxis.set_minor_formatter("")
    bar.outline.set_visible(False)


def _style(axes: Axes, look: _Look, seconds: float | None) -> None:
    """Label the axes: by phase, or by time over so many seconds."""
    axes.set_xlim(0, 360)
    words = [f"{angle}°" for angle in range(0, 361, 90)]
    if seconds is not None:
        words = [f"{digits(seconds * quarter / 4)} s" for quarter in range(5)]
    axes.set_xticks(range(0, 361, 90), words)
    axes.tick_params(labelsize=8.5, color=look.quiet, labelcolor=look.ink, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(look.quiet)
    if seconds is None:
        axes.axvline(180, color=look.quiet, lw=0.6, ls=(0, (2, 3)), zorder=1)


def _sources(axes: Axes, diagnosis: Diagnosis, pattern: PhasePattern, look: _Look) -> None:
    """Name each of several sources at its phases."""
    for source in diagnosis.sources:
        charge = None if source.quantities is None else source.quantities.charge_10_per_s
        height = min(charge or pattern.high / 2, 0.9 * pattern.high)
        start, end = source.phases_deg[0]
        middle = (start + ((end - start) % 360) / 2) % 360
        axes.annotate(
            f"{source.kind} {source.share_of_charge:.0%}",
            (middle, height),
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=look.ink,
            zorder=6,
            bbox={"boxstyle": "round,pad=0.25", "fc": look.paper, "ec": look.quiet, "alpha": 0.85},
        )


def _marks(figure: Figure, axes: Axes, speaks: Array, diagnosis: Diagnosis, look: _Look) -> None:
    """Shade the phases that speak for the class, and draw a strip of all below the axis."""
    strip = figure.add_axes((0.115, 0.085, 0.74, 0.03), facecolor=look.paper)
    top = float(speaks.max())
    strong = speaks / top if top > 0 else speaks
    width = 360 / len(speaks)
    for number, share in enumerate(strong):
        strip.axvspan(
            number * width, (number + 1) * width, color=look.mark, alpha=float(share), lw=0
        )
        if share >= _HALF:
            axes.axvspan(
                number * width, (number + 1) * width, color=look.mark, alpha=0.13, lw=0, zorder=0
            )
    strip.set_xlim(0, 360)
    strip.set_xticks([])
    strip.set_yticks([])
    for spine in strip.spines.values():
        spine.set_color(look.quiet)
        spine.set_linewidth(0.6)
    kind = max(diagnosis.probabilities, key=lambda name: diagnosis.probabilities[name])
    words = f"phases that speak for {kind}" if top > 0 else f"no phase alone speaks for {kind}"
    figure.text(0.115, 0.03, words, fontsize=8, color=look.ink)


def _words(figure: Figure, diagnosis: Diagnosis, name: str, look: _Look) -> None:
    verdict = diagnosis.kind or "no diagnosis"
    if diagnosis.kind is not None and diagnosis.kind in diagnosis.probabilities:
        verdict += f"  {diagnosis.probabilities[diagnosis.kind]:.0%}"
    facts: list[str] = []
    if diagnosis.sources:
        facts.append(f"all pulses together: {verdict}")
        verdict = " + ".join(source.kind for source in diagnosis.sources)
    if diagnosis.severity is not None:
        facts.append(f"severity {diagnosis.severity.level}")
    facts += _quantities(diagnosis.quantities)
    figure.text(0.115, 0.93, verdict, fontsize=13, color=look.ink, weight="bold")
    figure.text(0.115, 0.875, "  ·  ".join(facts), fontsize=8.5, color=look.ink)
    short = name if len(name) <= 96 else "…" + name[-95:]
    figure.text(0.115, 0.83, short, fontsize=7.5, color=look.quiet)


def _quantities(quantities: Any) -> list[str]:
    if quantities is None:
        return []
    unit = "pC" if quantities.calibrated else "units, uncalibrated"
    facts = []
    if quantities.charge_repeated is not None:
        facts.append(f"{digits(quantities.charge_repeated)} {unit}, repeatedly")
    elif quantities.charge_largest is not None:
        facts.append(f"{digits(quantities.charge_largest)} {unit}, largest")
    if quantities.rate_per_s is not None:
        facts.append(f"{digits(quantities.rate_per_s)} pulses a second")
    return facts
