"""How macro-F1 falls as recordings get worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chiasm.data.discharge.corruptions import LEVELS, MISPAIRED
from chiasm.reporting.style import BAD, DPI, GOOD, QUIET, plain, shown, titled

# family: (title, axis, logarithmic, strength of the recording as it is, axis turned round)
_FAMILIES = {
    "phase shift": ("Phase shifted", "degrees", False, 0.0, False),
    "gain": ("Louder, quieter", "gain of the series", True, 1.0, False),
    "noise": ("Noise added", "signal-to-noise, dB", False, None, True),
    "length": ("Shortened", "seconds of the series", True, 20.0, True),
}
Level = tuple[float, Mapping[str, Any]]


def corruption_curves(
    corruptions: Mapping[str, Mapping[str, Any]], clean: Mapping[str, Any], path: Path
) -> Path | None:
    """Draw a panel for each family that is there, and one of dots for the rest.

    None where nothing was corrupted. The dotted line is macro-F1 of the recordings as they are.
    """
    curves: dict[str, list[Level]] = {}
    rest: dict[str, Mapping[str, Any]] = {}
    for name, found in corruptions.items():
        family, strength = LEVELS.get(name, ("", 0.0))
        if found["value"] is None:
            continue
        if family in _FAMILIES:
            curves.setdefault(family, []).append((strength, found))
        else:
            rest[name] = found
    count = len(curves) + bool(rest)
    if not count:
        return None
    widths = [1.0] * len(curves) + [0.8] * bool(rest)
    figure = Figure(figsize=(9.2 if count > 2 else 4.6, 2.75), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, width_ratios=widths)[0]
    for axes, family in zip(panels, (f for f in _FAMILIES if f in curves)):
        _curve(axes, family, curves[family], clean)
    if rest:
        _dots(panels[-1], rest, clean)
    for number, axes in enumerate(panels):
        axes.set_ylim(0, 1.02)
        if number:
            axes.set_yticklabels([])
            axes.set_ylabel("")
    figure.savefig(path, dpi=DPI)
    return path


def _curve(axes: Axes, family: str, levels: list[Level], clean: Mapping[str, Any]) -> None:
    title, unit, logarithmic, untouched, turned = _FAMILIES[family]
    points = sorted([*levels, *([(untouched, clean)] if untouched is not None else [])])
    points = [(x, f) for x, f in points if f["value"] is not None]
    across, values = [x for x, _ in points], [f["value"] for _, f in points]
    _reference(axes, clean)
    if all(f["low"] is not None for _, f in points):
        band = ([f["low"] for _, f in points], [f["high"] for _, f in points])
        axes.fill_between(across, *band, color=GOOD, alpha=0.18, linewidth=0)
    axes.plot(across, values, color=GOOD, linewidth=1.8, marker="o", markersize=4)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(_ticks(across), [f"{x:g}" for x in _ticks(across)])
    axes.minorticks_off()
    if turned:
        axes.invert_xaxis()
    plain(axes, unit, "macro-F1")
    titled(axes, title)


def _dots(axes: Axes, rest: Mapping[str, Mapping[str, Any]], clean: Mapping[str, Any]) -> None:
    """One dot for each corruption that has no strength, worded below."""
    _reference(axes, clean)
    for place, found in enumerate(rest.values()):
        if found["low"] is not None:
            axes.plot([place] * 2, [found["low"], found["high"]], color=BAD, alpha=0.4, linewidth=4)
        axes.plot(place, found["value"], "o", color=BAD, markersize=5)
    words = [
        "another's" if name == MISPAIRED else shown(name.removeprefix("picture: ")) for name in rest
    ]
    axes.set_xlim(-0.6, len(rest) - 0.4)
    plain(axes, "", "macro-F1")
    axes.set_xticks(
        range(len(rest)), words, rotation=40, ha="right", rotation_mode="anchor", fontsize=8
    )
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    titled(axes, "Picture changed")


def _reference(axes: Axes, clean: Mapping[str, Any]) -> None:
    if clean["value"] is not None:
        axes.axhline(clean["value"], color=QUIET, linewidth=1, linestyle=":")


def _ticks(across: list[float]) -> list[float]:
    """All places, or every other where they are many; first and last among them."""
    if len(across) <= 5:
        return across
    kept = np.unique(np.round(np.linspace(0, len(across) - 1, 5)).astype(int))
    return [across[place] for place in kept]
