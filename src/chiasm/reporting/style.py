"""Style of all plots of the reports: few colours, no boxes, light axes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

GOOD, BAD = "#3b7ea1", "#d1632f"  # distinct for all kinds of colour vision

INK, QUIET = "#1d2429", "#8c979f"

DPI = 170

# After Okabe and Ito: distinct for all kinds of colour vision, and in print by lightness.
_COLOURS = ("#9aa4ab", "#5ab0e0", "#e3a11a", "#1f5f99", "#c4501b", "#2a9d78", "#b8719f", "#5b4b8a")

MODALITY_MARKS = {"image": "o", "series": "^"}

MODALITY_WORDS = {"image": "picture", "series": "series"}


def colours(kinds: Sequence[str]) -> list[str]:
    """Return a colour for each class, in the order of the classes."""
    return [_COLOURS[number % len(_COLOURS)] for number in range(len(kinds))]


def shortened(name: str) -> str:
    """Return a name of at most 18 characters, which leaves room for the plot."""
    return name if len(name) <= 18 else name[:17] + "\N{HORIZONTAL ELLIPSIS}"


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label the axes; remove the box and lighten the ticks."""
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, color=QUIET, labelcolor=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def add_title(axes: Axes, title: str, subtitle: str = "") -> None:
    """Write the title of a panel and a subtitle."""
    axes.set_title(
        f"{title}\n{subtitle}" if subtitle else title, fontsize=9.5, loc="left", color=INK
    )
