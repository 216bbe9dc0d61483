"""Rows of the cost table of a report, with units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Name in the cost record to (label, factor, format).
COST = {
    "fit_minutes": ("training and search", 1.0, "{:.1f} minutes"),
    "steps": ("steps of the final training", 1.0, "{:,.0f}"),
    "seconds_per_part_p50": ("seconds per part (median)", 1.0, "{:.3g} s"),
    "peak_memory_mb": ("memory, at most", 1.0, "{:,.0f} MB"),
    "fit_peak_memory_mb": ("memory in training, at most", 1.0, "{:,.0f} MB"),
    "parameters": ("parameters", 1.0, "{:,.0f}"),
    "macs": ("multiply-accumulates per part", 1e-9, "{:,.2f} G"),
    "macs_before_pruning": ("the same before pruning", 1e-9, "{:,.2f} G"),
    "validation_ap": ("pixel AP on validation parts", 1.0, "{:.3f}"),
}


def cost_rows(cost: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return labels and figures with units; entries without a known unit come last."""
    rows = []
    for key, (label, factor, form) in COST.items():
        if key in cost:
            value = cost[key]
            measured = isinstance(value, int | float)
            rows.append((label, form.format(value * factor) if measured else "not measured"))
    for key, value in cost.items():
        if key not in COST:
            rows.append((key.replace("_", " "), "not measured" if value is None else str(value)))
    return rows
