"""The look of all pictures of a classifier's report: few colours, no boxes, quiet axes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

GOOD, BAD = "#3b7ea1", "#d1632f"  # told apart with any colour vision

INK, QUIET = "#1d2429", "#8c979f"

DPI = 170

# After Okabe and Ito: told apart with any colour vision, and in print by lightness.
_COLOURS = ("#9aa4ab", "#5ab0e0", "#e3a11a", "#1f5f99", "#c4501b", "#2a9d78", "#b8719f", "#5b4b8a")

MODALITY_MARKS = {"image": "o", "series": "^"}

MODALITY_WORDS = {"image": "picture", "series": "series"}

__all__ = ["BAD", "DPI", "GOOD", "INK", "MODALITY_MARKS", "MODALITY_WORDS", "QUIET"]

__all__ += ["colours", "plain", "shown", "titled"]


def colours(kinds: Sequence[str]) -> list[str]:
    """One colour a class, in the order of the classes."""
    return [_COLOURS[number % len(_COLOURS)] for number in range(len(kinds))]


def shown(name: str) -> str:
    """A name that leaves room for the picture: 18 characters at most."""
    return name if len(name) <= 18 else name[:17] + "\N{HORIZONTAL ELLIPSIS}"


def plain(axes: Axes, across: str, up: str) -> None:
    """Name the axes; no box, quiet ticks."""
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, color=QUIET, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def titled(axes: Axes, name: str, below: str = "") -> None:
    """The panel's name, and under it what it comes to."""
    axes.set_title(f"{name}\n{below}" if below else name, fontsize=9.5, loc="left", color=INK)
