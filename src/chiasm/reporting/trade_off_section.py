"""The section of a report on the trade-offs that a search found."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from chiasm.fusion.genotype import Genotype
from chiasm.reporting.trade_off_plot import trade_off_plot
from chiasm.reporting.trade_offs import read_trade_offs, remarks, rows


def trade_off_section(
    path: Path, *, genotype: Genotype | None, figures: Path
) -> dict[str, Any] | None:
    """Return the values of ``trade_offs.html.j2``; None without a file of trade-offs.

    Args:
        path: of the search's ``pareto.json``.
        genotype: of the model, which is marked among the finalists.
        figures: folder for the plot.

    Raises:
        DataError: the file cannot be read.
    """
    trade_offs = read_trade_offs(path)
    if trade_offs is None:
        return None
    used = trade_offs.number_of(genotype)
    plot = trade_off_plot(trade_offs, figures / "trade_offs.png", used=used)
    picture = None
    if plot is not None:
        picture = f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}"
    return {
        "metric": trade_offs.metric_words,
        "remarks": remarks(trade_offs, used=used),
        "rows": rows(trade_offs, used=used),
        "picture": picture,
    }
