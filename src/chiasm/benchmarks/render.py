"""A filled table as Markdown, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chiasm.benchmarks.table import POOLED, Filled, Table, marks

# Of a picture: panels of bars side by side, and columns from which on shades say more.
_PANELS, _MOST_BARS = 6, 12
NOT_COMPARABLE = (
    "Runs here used these published weights: {weights}. The papers used others for some methods, "
    "and other crops: the printed values stand beside ours for orientation, not for comparison."
)


def write(
    table: Table,
    filled: Sequence[Filled],
    folder: Path,
    facts: dict[str, Any],
    pairs: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write ``NAME.md``, ``.csv``, ``.json`` and ``.png`` to a folder; returns the first.

    Args:
        table: what was asked for.
        filled: its entries.
        folder: made where it is not.
        facts: command, commit, machine.
        pairs: methods compared in pairs, for the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / table.name
    rows = [_row(one) for one in filled]
    content = {"table": table.name, "title": table.title, "source": table.source} | facts
    said = {"verdict": table.verdict, "pairs": list(pairs)} if table.verdict else {}
    stem.with_suffix(".json").write_text(
        json.dumps(content | {"entries": rows} | said, indent=1, allow_nan=False) + "\n"
    )
    with stem.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
    stem.with_suffix(".md").write_text(markdown(table, filled, facts))
    if any(one.value is not None for one in filled):
        _draw(table, filled, stem.with_suffix(".png"))
    return stem.with_suffix(".md")


def markdown(table: Table, filled: Sequence[Filled], facts: dict[str, Any]) -> str:
    """The table in Markdown: best in bold, second best underlined, printed values in brackets."""
    marked = marks(list(filled)) if table.ranked else {}
    found = {(one.entry.row, one.entry.column): one for one in filled}
    lines = [f"# {table.title}", ""]
    if table.source:
        lines += [f"{table.source}. In brackets: what is printed there.", ""]
    lines.append("| | " + " | ".join(table.columns) + " |")
    lines.append("| --- |" + " --- |" * len(table.columns))
    for row in table.rows:
        shown = [
            _shown(found.get((row, column)), marked.get((row, column), ""))
            for column in table.columns
        ]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    lines.append("")
    if table.verdict:
        lines += ["**Verdict**", "", *(f"- {words}" for words in table.verdict), ""]
    remarks = dict.fromkeys(
        f"{one.entry.row}, {one.entry.column}: {one.remark}"
        if not one.remark.startswith("not run")
        else f"{one.entry.row}: {one.remark}"
        for one in filled
        if one.remark and not one.entry.why_empty
    )
    empty = dict.fromkeys(one.entry.why_empty for one in filled if one.entry.why_empty)
    lines += [f"- Empty: {why}." for why in empty]
    lines += [f"- {remark}" for remark in remarks]
    weights = sorted({w for one in filled for w in one.weights})
    if weights:
        lines.append("- " + NOT_COMPARABLE.format(weights="; ".join(weights)))
    lines += [f"- {note}" for note in table.notes]
    several = any(one.count > 1 and not one.entry.figure.startswith(POOLED) for one in filled)
    drawn = "groups of recordings" if any(one.entry.by for one in filled) else "parts"
    lines.append(
        ("- Best in **bold**, second best underlined. " if table.ranked else "- ")
        + ("Ranges are the least and largest of several runs. " if several else "")
        + f"Intervals are of a bootstrap over {drawn}, 95 %."
    )
    lines += ["", ", ".join(f"{name}: {value}" for name, value in facts.items()), ""]
    return "\n".join(lines)


def _shown(one: Filled | None, mark: str) -> str:
    if one is None:
        return ""
    text = "–" if one.value is None else number(one.value)
    if mark == "best":
        text = f"**{text}**"
    elif mark == "second":
        text = f"<u>{text}</u>"
    if one.low is not None and one.high is not None and one.value is not None:
        text += f" ({number(one.low)} to {number(one.high)})"
    if one.entry.printed is not None:
        text += f" [{number(one.entry.printed)}]"
    return text


def number(value: float) -> str:
    """Three figures behind the point below 1, fewer above."""
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.0f}"


def _row(one: Filled) -> dict[str, Any]:
    return {
        "row": one.entry.row,
        "column": one.entry.column,
        "figure": one.entry.figure,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "runs": one.count,
        "printed": one.entry.printed,
        "remark": one.remark,
        "cells": " ".join(cell.key for cell in one.entry.cells),
    }


def _draw(table: Table, filled: Sequence[Filled], path: Path) -> None:
    """Lines over a numeric axis, shares and many columns as shades, else panels of bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = [one for one in filled if one.value is not None]
    columns = [c for c in table.columns if any(one.entry.column == c for one in known)]
    if not table.ranked or len(columns) > _MOST_BARS:
        picture = _shares(table, known)
    elif table.series:
        picture = Figure(figsize=(6, 4), layout="constrained")
        axes = picture.add_subplot()
        for row in table.rows:
            own = [one for one in known if one.entry.row == row]
            if own:
                values = [float(one.value or 0) for one in own]
                axes.plot([one.entry.column for one in own], values, "o-", label=row)
        axes.set_xlabel(table.series)
        axes.set_ylabel(known[0].entry.figure)
        axes.legend()
    else:
        # The same figure of all splits side by side, before the next figure.
        figures = [column.partition(",")[0] for column in columns]
        shown = sorted(columns, key=lambda c: figures.index(c.partition(",")[0]))[:_PANELS]
        height = 0.7 + 0.28 * len(table.rows)
        picture = Figure(figsize=(2.4 * len(shown) + 1.6, height), layout="constrained")
        panels = picture.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, shown):
            here = {one.entry.row: one for one in known if one.entry.column == column}
            rows = list(reversed(table.rows))
            values = [here[r].value or 0.0 if r in here else 0.0 for r in rows]
            axes.barh(rows, values, color="#4878a8")
            for place, row in enumerate(rows):
                low, high = (here[row].low, here[row].high) if row in here else (None, None)
                if low is not None and high is not None:
                    axes.hlines(place, low, high, color="black", lw=1)
            axes.set_title(column, fontsize=9)
            axes.tick_params(labelsize=8)
    FigureCanvasAgg(picture).print_png(path)


def _shares(table: Table, known: Sequence[Filled]) -> Any:
    """Rows and columns as a matrix of shades from 0 to 1, each number written in its place."""
    from matplotlib.figure import Figure

    places = {(one.entry.row, one.entry.column): float(one.value or 0) for one in known}
    many = len(table.columns) > _MOST_BARS
    wide, high = (0.45, 2.2) if many else (0.9, 0.9)
    size = (1.6 + wide * len(table.columns), high + 0.3 * len(table.rows))
    picture = Figure(figsize=size, layout="constrained")
    axes = picture.add_subplot()
    grid = [[places.get((r, c), float("nan")) for c in table.columns] for r in table.rows]
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for down, values in enumerate(grid):
        for across, value in enumerate(values):
            if not math.isnan(value):  # what is not known stays empty
                colour = "white" if value > 0.6 else "black"
                axes.text(
                    across, down, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7
                )
    axes.set_xticks(
        range(len(table.columns)),
        table.columns,
        fontsize=8,
        rotation=45 if many else 0,
        ha="right" if many else "center",
    )
    axes.set_yticks(range(len(table.rows)), table.rows, fontsize=8)
    return picture
