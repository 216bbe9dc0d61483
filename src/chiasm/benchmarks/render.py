"""Write a filled table as Markdown, CSV, JSON and a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chiasm.benchmarks.table import NOT_RUN, POOLED, Filled, Table, marks, steps_in_words

_MAX_PANELS = 6  # of bars side by side
_MAX_BAR_COLUMNS = 12  # more columns are drawn as a heat map
NOT_COMPARABLE = (
    "Our runs used these published weights: {weights}. The papers used others for some methods, "
    "and other crops: the printed values are for orientation, not for comparison."
)


def write(
    table: Table,
    filled: Sequence[Filled],
    folder: Path,
    facts: dict[str, Any],
    pairs: Sequence[dict[str, Any]] = (),
    drawn: tuple[Any, dict[str, Any]] | None = None,
) -> Path:
    """Write ``NAME.md``, ``.csv``, ``.json`` and ``.png`` to a folder; return the first path.

    Args:
        table: the table.
        filled: its entries.
        folder: made if it does not exist.
        facts: command, commit, machine.
        pairs: paired comparisons, for the JSON.
        drawn: picture that the table draws itself, and facts of it for the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / table.name
    rows = [_row(item) for item in filled]
    content = {"table": table.name, "title": table.title, "source": table.source} | facts
    verdict = {"verdict": table.verdict, "pairs": list(pairs)} if table.verdict else {}
    picture, shown = drawn if drawn is not None else (None, {})
    content |= {"entries": rows} | verdict | shown
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    with stem.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
    stem.with_suffix(".md").write_text(markdown(table, filled, facts))
    if picture is None and table.draw is None and any(item.value is not None for item in filled):
        picture = _picture(table, filled)
    if picture is not None:
        FigureCanvasAgg(picture).print_png(stem.with_suffix(".png"))
    return stem.with_suffix(".md")


def markdown(table: Table, filled: Sequence[Filled], facts: dict[str, Any]) -> str:
    """Return the table in Markdown: best bold, second underlined, printed values in brackets."""
    marked = marks(list(filled)) if table.ranked else {}
    by_place = {(item.entry.row, item.entry.column): item for item in filled}
    lines = [f"# {table.title}", ""]
    if table.source:
        lines += [f"{table.source}. In brackets: the printed values.", ""]
    lines.append("| | " + " | ".join(table.columns) + " |")
    lines.append("| --- |" + " --- |" * len(table.columns))
    for row in table.rows:
        texts = [
            _text(by_place.get((row, column)), marked.get((row, column), ""))
            for column in table.columns
        ]
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    lines.append("")
    if table.verdict:
        lines += ["**Verdict**", "", *(f"- {words}" for words in table.verdict), ""]
    remarks = dict.fromkeys(
        f"{item.entry.row}, {item.entry.column}: {item.remark}"
        if not item.remark.startswith("not run")
        else f"{item.entry.row}: {item.remark}"
        for item in filled
        if item.remark and not item.entry.why_empty
    )
    reasons = dict.fromkeys(i.entry.why_empty for i in filled if i.entry.why_empty)
    lines += [f"- Empty: {reason}." for reason in reasons]
    lines += [f"- {remark}" for remark in remarks]
    weights = sorted({w for item in filled for w in item.weights})
    if weights:
        lines.append("- " + NOT_COMPARABLE.format(weights="; ".join(weights)))
    lines += [f"- {note}" for note in table.notes]
    if table.equal_steps and (steps := steps_in_words(filled)):
        lines.append(f"- {steps}")
    several = any(i.count > 1 and not i.entry.figure.startswith(POOLED) for i in filled)
    units = "groups of recordings" if any(item.entry.by for item in filled) else "parts"
    lines.append(
        ("- Best in **bold**, second best underlined. " if table.ranked else "- ")
        + ("Ranges are minimum and maximum of several runs. " if several else "")
        + f"Intervals are 95 % bootstrap intervals over {units}."
    )
    lines += ["", ", ".join(f"{name}: {value}" for name, value in facts.items()), ""]
    return "\n".join(lines)


def _text(item: Filled | None, mark: str) -> str:
    if item is None:
        return ""
    if item.entry.printed is not None and not item.entry.trials:
        return f"[{number(item.entry.printed)}]"
    if item.entry.why_empty == NOT_RUN:
        return "not run"
    text = "–" if item.value is None else number(item.value)
    if mark == "best":
        text = f"**{text}**"
    elif mark == "second":
        text = f"<u>{text}</u>"
    if item.low is not None and item.high is not None and item.value is not None:
        text += f" ({number(item.low)} to {number(item.high)})"
    if item.entry.printed is not None:
        text += f" [{number(item.entry.printed)}]"
    return text


def number(value: float) -> str:
    """Format a figure with three decimals below 10, fewer above, and more just below 1.

    Example:
        >>> number(0.9516), number(0.9998), number(1.0), number(18.64)
        ('0.952', '0.9998', '1.000', '18.6')
    """
    size = abs(value)
    if 0.9995 <= size < 1:  # "1.000" would hide that something is missing
        return next((t for n in (4, 5, 6) if abs(float(t := f"{value:.{n}f}")) < 1), f"{value:.3f}")
    return f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.0f}"


def _row(item: Filled) -> dict[str, Any]:
    return {
        "row": item.entry.row,
        "column": item.entry.column,
        "figure": item.entry.figure,
        "value": item.value,
        "low": item.low,
        "high": item.high,
        "runs": item.count,
        "printed": item.entry.printed,
        "remark": item.remark,
        "trials": " ".join(trial.key for trial in item.entry.trials),
    }


def _picture(table: Table, filled: Sequence[Filled]) -> Figure:
    """Draw lines over a numeric axis, a heat map of shares or many columns, else panels of bars."""
    known = [item for item in filled if item.value is not None]
    columns = [c for c in table.columns if any(item.entry.column == c for item in known)]
    if not table.ranked or len(columns) > _MAX_BAR_COLUMNS:
        picture = _heat_map(table, known)
    elif table.series:
        picture = Figure(figsize=(6, 4), layout="constrained")
        axes = picture.add_subplot()
        for row in table.rows:
            points = [item for item in known if item.entry.row == row]
            if points:
                values = [float(item.value or 0) for item in points]
                axes.plot([item.entry.column for item in points], values, "o-", label=row)
        axes.set_xlabel(table.series)
        axes.set_ylabel(known[0].entry.figure)
        axes.legend()
    else:
        # All splits of one figure are drawn before those of the next figure.
        figures = [column.partition(",")[0] for column in columns]
        drawn = sorted(columns, key=lambda c: figures.index(c.partition(",")[0]))[:_MAX_PANELS]
        height = 0.7 + 0.28 * len(table.rows)
        picture = Figure(figsize=(2.4 * len(drawn) + 1.6, height), layout="constrained")
        panels = picture.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        for axes, column in zip(panels, drawn):
            by_row = {item.entry.row: item for item in known if item.entry.column == column}
            of_paper = {
                item.entry.row: item.entry.printed
                for item in filled
                if item.entry.column == column and not item.entry.trials and item.entry.printed
            }
            rows = list(reversed(table.rows))
            values = [by_row[r].value or 0.0 if r in by_row else of_paper.get(r, 0.0) for r in rows]
            axes.barh(rows, values, color=["#bbbbbb" if r in of_paper else "#4878a8" for r in rows])
            for position, row in enumerate(rows):
                low, high = (by_row[row].low, by_row[row].high) if row in by_row else (None, None)
                if low is not None and high is not None:
                    axes.hlines(position, low, high, color="black", lw=1)
            axes.set_title(column, fontsize=9)
            axes.tick_params(labelsize=8)
    return picture


def _heat_map(table: Table, known: Sequence[Filled]) -> Figure:
    """Draw rows and columns as a matrix of shades from 0 to 1 with the numbers."""
    values_at = {(i.entry.row, i.entry.column): float(i.value or 0) for i in known}
    many = len(table.columns) > _MAX_BAR_COLUMNS
    wide, high = (0.45, 2.2) if many else (0.9, 0.9)
    size = (1.6 + wide * len(table.columns), high + 0.3 * len(table.rows))
    picture = Figure(figsize=size, layout="constrained")
    axes = picture.add_subplot()
    grid = [[values_at.get((r, c), float("nan")) for c in table.columns] for r in table.rows]
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for down, values in enumerate(grid):
        for across, value in enumerate(values):
            if not math.isnan(value):
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
