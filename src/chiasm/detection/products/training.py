"""Train one model of several products: one network, and by product a memory and a calibration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chiasm.detection.building import frozen_detector
from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import load_model, read_contract
from chiasm.detection.cross_calibration import check_refits
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.detector import Detector
from chiasm.detection.fusion_search.evolution import MeasureCosts
from chiasm.detection.fusion_search.final_training import compared, finish, fusion_of, trained
from chiasm.detection.fusion_search.fixed_fusion import write_genotype
from chiasm.detection.models.adnas import AdnasDetector
from chiasm.detection.opening import CHANGEABLE, open_run, source_of, split_of
from chiasm.detection.prediction.known_defects import is_own
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.products.data import ProductData, find_products
from chiasm.detection.products.models import (
    Product,
    measured,
    read_products,
    told_apart,
    write_products,
)
from chiasm.detection.products.shared_data import SharedDataModule
from chiasm.detection.score_rule import choose_score_rule
from chiasm.detection.train_baseline import configured_baseline
from chiasm.detection.training.known_defects import let_defects_choose
from chiasm.errors import ChiasmError, ConfigurationError
from chiasm.fusion.genotype import Genotype
from chiasm.registry import find_model
from chiasm.runs.console import say
from chiasm.runs.crew import Crew
from chiasm.runs.data_parallel import is_several
from chiasm.runs.run_folder import open_run_folder
from chiasm.samples import RGBDSample
from chiasm.training.device import device_errors, find_device
from chiasm.training.trainer import LOWER

FOLDER = "products"  # of the products' runs, in the run's folder
MOST_COMPARED = 12  # calibration parts of a product that every model is shown
MOST_PRODUCTS = 50

Train = Callable[..., Any]  # of ``detection.train``, which calls this
Result = tuple[Genotype | None, float, float]  # genotype, minutes, validation AP


def products_of(config: DetectionConfig) -> tuple[ProductData, ...]:
    """Return the products that a run is to keep apart; () where there is one."""
    if config.product is not None or config.products == "together":
        if config.more_data:
            raise ConfigurationError(
                "Several paths of data are several products; give one path with products=together "
                "or product=NAME."
            )
        return ()
    found = find_products([config.data, *config.more_data], lamp=config.lamp)
    return found if len(found) > 1 else ()


def check_products(config: DetectionConfig, products: Sequence[ProductData], crew: Crew) -> None:
    """Refuse what cannot be for several products, before anything is computed.

    Raises ``ConfigurationError``.
    """
    names = ", ".join(product.name for product in products)
    if not _keeps_apart(config):
        raise ConfigurationError(
            f"{config.data} holds {len(products)} products ({names}), and {config.model} learns "
            "its features from the parts themselves, so that it cannot keep the normal parts of "
            "several products apart. Train adnas_light or a baseline of memories such as btf, name "
            "one product (product=NAME, or its folder), or take all rows of a table for one "
            "(products=together)."
        )
    if len(products) > MOST_PRODUCTS:
        raise ConfigurationError(
            f"{config.data} names {len(products)} products, more than {MOST_PRODUCTS}: is the "
            "column that of the products? products=together takes all for one."
        )
    if is_several(crew):
        raise ConfigurationError(
            "Several products are trained in one process; leave out --workers and --ray."
        )
    if config.defects is not None and not is_own(config.defects):
        raise ConfigurationError(
            f"{config.defects} does not say of which product a defect is. Train without, and then "
            "choose each threshold: chiasm threshold RUN --product NAME --defects FOLDER."
        )


def train_products(
    config: DetectionConfig,
    products: Sequence[ProductData],
    *,
    train: Train,
    measure: MeasureCosts | None = None,
) -> Result:
    """Train a model of several products; ``products/NAME`` is the run of each.

    A network that fuses frozen features is searched and trained once, on the parts of all products,
    each relative to its own memory. Memory, score rule and calibration are of one product each.

    Returns the genotype, the minutes and the validation AP.

    Args:
        config: of the run.
        products: of its data.
        train: trains one product.
        measure: as for ``train``.

    Raises:
        ConfigurationError: the products' parts have different sensors.
    """
    started = time.monotonic()
    say(f"{len(products)} products: {', '.join(product.name for product in products)}.")
    open_run_folder(config, config.out, free=CHANGEABLE)
    configs = {p.name: config_of_product(config, p, among=len(products)) for p in products}
    result: Result = (None, math.nan, math.nan)
    if find_model(config.model).pools is None:
        for name, one in configs.items():
            say(f"Product {name}:")
            train(one)
    else:
        with device_errors(find_device(config.device), remedy=LOWER):
            result = _train_shared(config, configs, measure=measure, started=started)
    compare_products(config.out, {name: Product(name, f"{FOLDER}/{name}") for name in configs})
    return result[0], (time.monotonic() - started) / 60, result[2]


def add_products(config: DetectionConfig, *, train: Train) -> tuple[str, ...]:
    """Add products to a model: their memories, score rules and calibrations alone.

    The network and all that belongs to the model's other products stay as they are.

    Returns the names of the products that were added.

    Args:
        config: of the model's run, with the data of the new products.
        train: trains one product of a baseline.

    Raises:
        ConfigurationError: a product of that name is there already, or the folder has no products.
    """
    known = {product.name: product for product in read_products(config.out)}
    if not known:
        raise ConfigurationError(
            f"{config.out} holds no model of several products, to which one can be added. Train "
            "one on all of them: chiasm train --data FOLDER --data FOLDER --out RUN."
        )
    added = find_products([config.data, *config.more_data], lamp=config.lamp)
    if twice := [product.name for product in added if product.name in known]:
        raise ConfigurationError(
            f"{config.out} has the product {twice[0]} already; rename the folder of the new one, "
            f"or delete {config.out / known[twice[0]].folder} and its entry to train it again."
        )
    started = time.monotonic()
    # How few normals the run was to learn from says nothing of how many a new product has.
    config = config.model_copy(update={"shots": None})
    for product in added:
        say(f"Product {product.name}:")
        one = config_of_product(config, product, among=len(added))
        if find_model(config.model).pools is None:
            train(one)
        else:
            with device_errors(find_device(config.device), remedy=LOWER):
                _add_to_shared(one, config.out / next(iter(known.values())).folder)
        known[product.name] = Product(product.name, f"{FOLDER}/{product.name}")
    compare_products(config.out, known, new=[product.name for product in added])
    say(f"Added {', '.join(p.name for p in added)} ({(time.monotonic() - started) / 60:.1f} min).")
    return tuple(product.name for product in added)


def config_of_product(
    config: DetectionConfig, product: ProductData, *, among: int
) -> DetectionConfig:
    """Return the settings of one product's run, in a folder of its own within the run's."""
    return config.model_copy(
        update={
            "data": product.data,
            "more_data": (),
            "product": product.rows,
            # What was found to be one product stays one, whatever a column says.
            "products": "together",
            "out": config.out / FOLDER / product.name,
            "minutes": None if config.minutes is None else config.minutes / among,
        }
    )


def compare_products(
    folder: Path, products: Mapping[str, Product], *, new: Sequence[str] = ()
) -> None:
    """Show calibration parts of each product to every model, and write ``products.json``.

    Args:
        folder: of the run.
        products: by name.
        new: of them, those that are compared with all; () compares all with all.
    """
    predictors = {n: DetectionPredictor.load(folder / p.folder) for n, p in products.items()}
    records = tuple(products.values())
    for name, predictor in predictors.items():
        shown = predictors if not new or name in new else {n: predictors[n] for n in new}
        crossed = predictor.contract.calibration_folds > 0
        try:
            parts = list(calibration_samples(folder / products[name].folder, predictor))
        except ChiasmError as error:
            say(f"Warning: the parts of {name} are not compared with other products: {error}")
            continue
        if crossed:  # these parts are in the memory: their level says nothing of others
            shown = {n: model for n, model in shown.items() if n != name}
        say(f"Comparing {len(parts)} good parts of {name} with {len(shown)} products ...")
        records = measured(shown, {name: parts}, records)
    write_products(folder, records)
    for product in records:
        rule = read_contract(folder / product.folder / "model").alarm_rule
        say(f"{product.name}: {rule.promise}")
    say(told_apart(records))


def calibration_samples(
    run: Path, predictor: DetectionPredictor, *, data: Path | None = None
) -> Iterator[RGBDSample]:
    """Load some of the calibration parts of a product's run, as they lie on the disk.

    Args:
        run: the product's own.
        predictor: its model.
        data: where its data lie now; None takes those of the run.
    """
    config = DetectionConfig.make(file=run / "config.yaml")
    seen = predictor.contract.acquisition
    found = {"lamp": seen.lamp if seen else config.lamp, "data": data or config.data}
    source = source_of(config.model_copy(update=found))
    refs = split_of(config, source).calibration
    step = max(1, len(refs) // MOST_COMPARED)
    for ref in refs[::step][:MOST_COMPARED]:
        try:
            yield source.load(ref)
        except ChiasmError:
            continue  # that it is damaged was said when it was opened


def _keeps_apart(config: DetectionConfig) -> bool:
    detector: Detector | None
    if find_model(config.model).pools is None:
        detector = configured_baseline(config)[0]
    else:
        detector = frozen_detector(config)
    return detector is not None and detector.keeps_products_apart


def _train_shared(
    config: DetectionConfig,
    configs: Mapping[str, DetectionConfig],
    *,
    measure: MeasureCosts | None,
    started: float,
) -> Result:
    """Search and train one fusion for all products, then finish each with its own memory."""
    opened: list[DetectionDataModule] = []
    for name, one in configs.items():
        say(f"Product {name}:")
        check_refits(one)
        opened.append(open_run(one, estimate=False))
    data = SharedDataModule.of(config, opened, started=started)
    say(f"One network for {len(opened)} products:")
    fusion = fusion_of(data.config, data, measure)
    fusion, module, validation_ap = trained(compared(fusion, data), data)
    for product in opened:
        say(f"Product {product.config.out.name}:")
        _finish_product(fusion, module.detector, module.steps, product)
    data.remove_stored()
    genotype = fusion if isinstance(fusion, Genotype) else None
    return genotype, (time.monotonic() - started) / 60, validation_ap


def _finish_product(
    fusion: Genotype | str, network: AdnasDetector, steps: int, data: DetectionDataModule
) -> None:
    """Give a product's memory the network of all, choose its score rule and calibrate it."""
    detector = data.detector(fusion)
    detector.fusion.load_state_dict(network.fusion.state_dict())
    detector.head.load_state_dict(network.head.state_dict())
    detector.eval()
    if isinstance(fusion, Genotype):
        write_genotype(fusion, data)
    validation_ap = choose_score_rule(detector, data)
    finish(fusion, detector, validation_ap, data, steps=steps)
    if data.config.defects is not None:
        let_defects_choose(data.config, data)


def _add_to_shared(config: DetectionConfig, sibling: Path) -> None:
    """Fit a new product's memory to the network of another product of the model."""
    network, contract, genotype = load_model(sibling / "model")
    assert isinstance(network, AdnasDetector)
    data = open_run(config, estimate=False)
    fusion: Genotype | str = contract.fusion if genotype is None else genotype
    if data.config.modalities != contract.modalities:
        raise ConfigurationError(
            f"{config.data} has {', '.join(data.config.modalities)}, and the model looks at "
            f"{', '.join(contract.modalities)}; its products need the same sensors."
        )
    _finish_product(fusion, network, 0, data)
    data.remove_stored()
