"""Evaluate a model of several products: a report of each, a row of each, and their mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.detection.evaluate import evaluate, headline
from chiasm.detection.products.data import product_folders, product_of
from chiasm.detection.products.models import ProductModels
from chiasm.detection.products.page import write_page
from chiasm.detection.readers.opening import open_source
from chiasm.detection.readers.source import Lamp
from chiasm.errors import DataError
from chiasm.runs.console import say

SCHEMA = "chiasm.products.metrics"


def evaluate_products(
    run: Path,
    *,
    data: Path,
    model: ProductModels,
    out: Path | str | None = None,
    lamp: Lamp | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Evaluate each product on its own test parts, by its own threshold.

    Writes ``NAME/metrics.json`` and ``NAME/report.html`` of each to ``out``, and of all a
    ``metrics.json`` with one entry a product and the mean, and a ``report.html`` with one row each.

    Args:
        run: folder of the run, or of the exported model.
        data: folder of the products' folders; a table with a column of products; or the folder of
            one product, of its name.
        model: that the folder holds.
        out, lamp, strict: as for one product.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: there is no test part of a product of the model.
    """
    exported = next(iter(model.models.values())).parameters is None
    beside = run.with_name(f"{run.name}_report") if exported else run / "report"
    target = beside if out is None else Path(out)
    tests, others = _tests(data, model, lamp)
    for name in others:
        say(f"Warning: {data} has test parts of {name}, which the model does not know.")
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name, (place, named) in tests.items():
        say(f"Product {name}:")
        try:
            found[name] = evaluate(
                run / model.records[name].folder,
                data=place,
                rows=named,
                out=target / name,
                lamp=lamp,
                strict=strict,
                model=model.models[name],
            )
        except DataError as error:
            if strict:
                raise
            failed[name] = str(error)
            say(f"Warning: {name} is not evaluated: {error}")
    if not found:
        raise DataError(f"No product could be evaluated on {data}. {' '.join(failed.values())}")
    rows = {name: _figures(metrics) for name, metrics in found.items()}
    mean = {key: _mean([row[key] for row in rows.values()]) for key in next(iter(rows.values()))}
    content = {
        "schema": SCHEMA,
        "version": 1,
        "products": found,
        "mean": mean,
        "not_evaluated": failed,
    }
    (target / "metrics.json").write_text(json.dumps(content, indent=2) + "\n")
    page = write_page(
        target,
        found,
        promises={name: model.models[name].alarm_rule.promise for name in rows},
        failed=failed,
        missing=[name for name in model.products if name not in tests],
        title=f"{run.name}: {len(rows)} products",
        repeat=f"chiasm evaluate {run} --data {data}",
    )
    for name, metrics in found.items():
        say(f"{name}: {headline(metrics)}")
    say(f"Mean of {len(rows)} products: " + _in_words(mean))
    say(f"The report is {page}.")
    return content


def _tests(
    data: Path, model: ProductModels, lamp: Lamp | None
) -> tuple[dict[str, tuple[Path, str | None]], list[str]]:
    """Return by product where its test parts are, and the products that the model lacks."""
    folders = product_folders(data)
    tests: dict[str, tuple[Path, str | None]]
    if folders:
        tests = {name: (folder, None) for name, folder in folders.items()}
    else:
        source = open_source(data, lamp=lamp)
        refs = [ref for ref in source.refs if ref.split in ("test", "")]
        named = sorted({product_of(ref) for ref in refs} - {""})
        tests = {name: (data, name) for name in named}
        if not named:
            parts = data.resolve().parts
            name = next((part for part in reversed(parts) if part in model.models), None)
            if name is None:
                raise DataError(
                    f"{data} does not say of which product its parts are, and the model has "
                    f"{', '.join(model.products)}. Name it: --product NAME."
                )
            tests = {name: (data, None)}
    known = {name: place for name, place in tests.items() if name in model.models}
    if not known:
        raise DataError(
            f"{data} has parts of {', '.join(tests)}, and the model knows "
            f"{', '.join(model.products)} alone; where a product has another name here, give it: "
            "--product NAME."
        )
    return known, [name for name in tests if name not in known]


def _figures(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the key figures of a product by name."""
    region = metrics["region"]["aupro"]
    groups = {
        "image AUROC": metrics["image"].get("auroc"),
        "pixel AP": metrics["pixel"].get("ap"),
        "AUPRO(0.3)": region.get("0.3"),
        "AUPRO(0.05)": region.get("0.05"),
    }
    return {
        name: None if figure is None else figure.get("value") for name, figure in groups.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the products that have a figure; None where none has."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 6) if known else None


def _in_words(figures: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'n/a' if value is None else f'{value:.3f}'}" for name, value in figures.items()
    )
