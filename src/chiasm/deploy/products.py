"""Export of a model of several products: a complete exported model of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from chiasm.deploy.detection import export_detection
from chiasm.deploy.whole_folder import whole_folder
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.products.data import product_folders
from chiasm.detection.products.models import (
    Product,
    ProductModels,
    measured,
    read_products,
    told_apart,
    write_products,
)
from chiasm.detection.products.training import calibration_samples
from chiasm.errors import ArtifactError
from chiasm.runs.console import say
from chiasm.runtime import load
from chiasm.runtime.deployment import Deployment
from chiasm.samples import RGBDSample

COMPARED = 2  # parts of a product that both models are asked about


def export_products(
    run: Path,
    out: Path,
    *,
    to: str,
    precision: str,
    data: Path | None = None,
    memory_entries: int | None = None,
    search_channels: int | None = None,
    force: bool = False,
) -> dict[str, Deployment]:
    """Export each product to ``out/NAME``, and what tells them apart, measured with the exports.

    Arguments and errors are those of ``export_detection``; ``data`` may be the folder of all
    products' folders, or their table.

    Raises:
        ArtifactError: the exported models decide otherwise of which product a part is.
    """
    products = read_products(run)
    folders = {} if data is None else product_folders(data)
    deployments: dict[str, Deployment] = {}
    with whole_folder(out, force=force) as target:
        for product in products:
            say(f"Product {product.name}:")
            deployments[product.name] = export_detection(
                run / product.folder,
                target / product.name,
                to=to,
                precision=precision,
                data=folders.get(product.name, data),
                memory_entries=memory_entries,
                search_channels=search_channels,
            )
        records = tuple(replace(product, folder=product.name) for product in products)
        trained = {p.name: DetectionPredictor.load(run / p.folder, device="cpu") for p in products}
        parts = {
            product.name: list(
                calibration_samples(
                    run / product.folder,
                    trained[product.name],
                    data=folders.get(product.name, data),
                )
            )
            for product in products
        }
        exact = precision == "fp32" and memory_entries is None and search_channels is None
        if not exact:
            # Scores of another precision have levels of their own.
            records = _measured(target, parts, records)
        write_products(target, records)
        models = ProductModels.load(target, load)
        try:
            if exact:
                _check_told(ProductModels(trained, products), models, parts)
        finally:
            models.close()
    say(told_apart(records))
    return deployments


def _measured(
    target: Path,
    parts: Mapping[str, Sequence[RGBDSample]],
    records: tuple[Product, ...],
) -> tuple[Product, ...]:
    runtimes = {record.name: load(target / record.folder) for record in records}
    try:
        return measured(runtimes, parts, records)
    finally:
        for runtime in runtimes.values():
            runtime.close()


def _check_told(
    trained: ProductModels, exported: ProductModels, parts: Mapping[str, Sequence[RGBDSample]]
) -> None:
    """Compare of which product both say that unnamed calibration parts are, and the decision."""
    for samples in parts.values():
        for sample in samples[:COMPARED]:
            bare = replace(sample, source="part", product="")
            said = [
                (verdict.product or "unclear", verdict.defective)
                for model in (trained, exported)
                for verdict in model.predict_all([bare])
            ]
            if said[0] != said[1]:
                raise ArtifactError(
                    f"{sample.source} is of {said[0][0]} to the trained model and of {said[1][0]} "
                    "to the exported one: export with more precision or a larger --memory-entries."
                )
