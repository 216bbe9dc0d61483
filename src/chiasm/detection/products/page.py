"""The page of an evaluation of several products: what was found, of each and on average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from chiasm.detection.report.report import embedded
from chiasm.detection.report.wording import MEANING, MIN_PARTS

FIGURES = tuple(MEANING)  # of the cards and columns
Metrics = Mapping[str, Any]


def write_page(
    folder: Path,
    products: Mapping[str, Metrics],
    *,
    promises: Mapping[str, str],
    failed: Mapping[str, str],
    missing: Sequence[str],
    title: str,
    repeat: str,
) -> Path:
    """Write ``report.html``; return its path.

    Args:
        folder: of the evaluation, with the page of each product in a folder of its name.
        products: ``metrics.json`` of each.
        promises: of false alarms, by product.
        failed: products that could not be evaluated, and why.
        missing: products of the model without test parts.
        title: the page's heading.
        repeat: the command that writes this page.
    """
    rows = [row_of(name, metrics) for name, metrics in products.items()]
    for row in rows:
        histogram = folder / row["name"] / "figures" / "scores.png"
        row["promise"] = promises[row["name"]]
        row["histogram"] = (
            embedded(histogram.read_bytes(), "image/png") if histogram.is_file() else None
        )
    # Names come from folders and tables, so all text is escaped.
    environment = Environment(
        loader=PackageLoader("chiasm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("products.html.j2").render(
        title=title,
        headline=in_words(rows),
        cards=_cards(rows),
        rows=sorted(rows, key=_ease),
        names=FIGURES,
        warnings=_warnings(rows, failed, missing),
        repeat=repeat,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def row_of(name: str, metrics: Metrics) -> dict[str, Any]:
    """Return what the page says of a product.

    ``found`` and ``alarms`` are None where nothing was decided or there are no such parts.
    """
    counts, image = metrics["counts"], metrics["image"]
    missed, alarmed = image["missed_rate"]["value"], image["false_alarm_rate"]["value"]
    trivial = {
        key: figure["value"]
        for key, figure in metrics["trivial"]["image"].items()
        if figure["value"] is not None
    }
    best = max(trivial, key=lambda key: trivial[key], default="")
    region = metrics["region"]["aupro"]
    return {
        "name": name,
        "counts": counts,
        "found": None if missed is None else round((1 - missed) * counts["defective"]),
        "alarms": None if alarmed is None else round(alarmed * counts["good"]),
        "figures": dict(
            zip(
                FIGURES,
                (image["auroc"], metrics["pixel"]["ap"], region.get("0.3"), region.get("0.05")),
                strict=True,
            )
        ),
        "trivial": {"name": best, "value": trivial[best]} if best else None,
    }


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the result of all products in one sentence."""
    of = f"of {len(rows)} products" if len(rows) > 1 else f"of {rows[0]['name']}"
    found = [row for row in rows if row["found"] is not None]
    quiet = [row for row in rows if row["alarms"] is not None]
    good = sum(row["counts"]["good"] for row in quiet)
    alarms = sum(row["alarms"] for row in quiet)
    said = f"{alarms} false alarm{'' if alarms == 1 else 's'} among {good} good parts"
    if not found:
        return (
            f"Raised {said} {of}; no defective part was decided on."
            if quiet
            else (f"No part {of} was decided on.")
        )
    defective = sum(row["counts"]["defective"] for row in found)
    caught = f"Found {sum(row['found'] for row in found)} of {defective} defective parts {of}"
    return f"{caught}, with {said}." if quiet else f"{caught}."


def _cards(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean of each key figure, and the products that it is of, the lowest first."""
    cards = []
    for name in FIGURES:
        named = ((row["name"], _value(row, name)) for row in rows)
        known = {product: value for product, value in named if value is not None}
        if known:
            values = sorted(known.values())
            low = min(known, key=lambda product: known[product])
            cards.append(
                {
                    "name": name,
                    "mean": sum(values) / len(values),
                    "values": values,
                    "lowest": f"{low} {known[low]:.3f}",
                    "meaning": MEANING[name],
                }
            )
    return cards


def _warnings(
    rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str], missing: Sequence[str]
) -> list[str]:
    said = [f"{name} is not evaluated: {sentence}" for name, sentence in failed.items()]
    if missing:
        said.append(f"The data have no test parts of {', '.join(missing)}.")
    few = [row["name"] for row in rows if min(_tested(row)) < MIN_PARTS]
    if few:
        said.append(
            f"Fewer than {MIN_PARTS} good or {MIN_PARTS} defective parts were tested of "
            f"{', '.join(few)}: these figures are uncertain, see the intervals."
        )
    easy = [
        f"{row['name']} ({row['trivial']['name']})"
        for row in rows
        if row["trivial"] and row["trivial"]["value"] >= (_value(row, FIGURES[0]) or math.inf)
    ]
    if easy:
        said.append(
            "Without any model, one number tells good from bad as well as the model does: "
            f"{', '.join(easy)}. Trust the pixel figures more there."
        )
    return said


def _tested(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["counts"]["good"], row["counts"]["defective"]


def _value(row: Mapping[str, Any], name: str) -> float | None:
    figure = row["figures"][name]
    return None if figure is None else figure["value"]


def _ease(row: Mapping[str, Any]) -> tuple[float, float]:
    return _value(row, FIGURES[0]) or 0.0, _value(row, FIGURES[1]) or 0.0
