"""Models of several products as one: each part is judged by the model of its own product.

Nothing here needs PyTorch: trained and exported models are alike.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.detection.decision import AlarmRule, predict_each
from chiasm.detection.preparation.acquisition import Acquisition
from chiasm.detection.readers.checked_sample import sample_from_arrays
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError, DataError
from chiasm.samples import RGBDSample, Verdict

PRODUCTS = "products.json"
SCHEMA, VERSION = "chiasm.products", 1
# Least ratio of the level of other products' parts to the largest of its own, for a product that
# is told without being named.
CLEAR = 1.5
NAMING = (
    "Name it (--product NAME, or product= in Python), or put the part into a folder of that name."
)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a model, as ``products.json`` lists it.

    Attributes:
        name: of the product.
        folder: of its model, relative to the list's.
        own_level: largest ``level`` of its calibration parts under its own model; None where it
            was not measured.
        other_levels: by other product the least level of that one's calibration parts.
    """

    name: str
    folder: str
    own_level: float | None = None
    other_levels: Mapping[str, float] = field(default_factory=dict)

    def limit(self, names: Iterable[str]) -> float:
        """Return the level up to which a part may be of this product; infinite where unknown.

        Args:
            names: of all products.
        """
        if self.own_level is None:
            return math.inf
        nearest = self.nearest(names)
        if nearest is None or nearest < CLEAR * self.own_level:
            return self.own_level * math.sqrt(CLEAR)
        return math.sqrt(self.own_level * nearest)

    def nearest(self, names: Iterable[str]) -> float | None:
        """Return the least level of all other products' parts; None where one is unknown."""
        others = [self.other_levels.get(name, math.nan) for name in names if name != self.name]
        return None if not others or any(map(math.isnan, others)) else min(others)

    def clear(self, names: Iterable[str]) -> bool:
        """Whether no part of another product looks like one of this."""
        nearest = self.nearest(names)
        return (
            self.own_level is not None
            and nearest is not None
            and nearest >= CLEAR * max(self.own_level, 1e-9)
        )


def read_products(folder: Path) -> tuple[Product, ...]:
    """Read the list of a folder's products; () where it has none.

    Raises ``ArtifactError`` for a list that cannot be read.
    """
    path = folder / PRODUCTS
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA or content["version"] != VERSION:
            raise ArtifactError(f"{path} is not of version {VERSION} of {SCHEMA}; train again.")
        products = tuple(Product(**product) for product in content["products"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy the folder again.") from error
    for product in products:
        if not (folder / product.folder).is_dir():
            raise ArtifactError(
                f"{path} lists the product {product.name}, and {folder / product.folder} is "
                "missing; copy the whole folder again."
            )
    return products


def write_products(folder: Path, products: Sequence[Product]) -> None:
    """Write the list of a folder's products, in one step for other readers."""
    content = {"schema": SCHEMA, "version": VERSION, "products": [asdict(p) for p in products]}
    temporary = folder / f".{PRODUCTS}"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(folder / PRODUCTS)


def folder_of_product(folder: Path, product: str | None) -> Path:
    """Return the folder of a product's own model; ``folder`` itself where None is asked for.

    Raises ``ConfigurationError`` where the folder has no such product.
    """
    if product is None:
        return folder
    products = {each.name: each for each in read_products(folder)}
    if not products:
        raise ConfigurationError(
            f"{folder} holds a model of one product; leave out --product {product}."
        )
    if product not in products:
        raise ConfigurationError(
            f"{folder} has no product {product!r}; it has {', '.join(products)}."
        )
    return folder / products[product].folder


def level(verdict: Verdict) -> float:
    """Return how strange a whole part is to a model: the median score of the object's pixels.

    A defect raises few pixels and leaves the median, another product raises all.
    """
    assert verdict.anomaly_map is not None
    scores = verdict.anomaly_map.scores[verdict.anomaly_map.foreground]
    return float(np.median(scores)) if scores.size else math.inf


class ProductModels:
    """Models of several products as one function.

    A part is judged by the model of the product that it names (``RGBDSample.product``), else of
    the folder that it lies in, else of the one product whose normal parts it looks like; where that
    is not clear, it is refused. What was assumed is a note of the verdict.

    Args:
        models: trained or exported, by product.
        products: what tells them apart.
        naming: sentence on how to name a part's product, for refusals.
    """

    wing = "detector"

    def __init__(
        self, models: Mapping[str, Any], products: Sequence[Product], *, naming: str = NAMING
    ) -> None:
        self.naming = naming
        self.models = dict(models)
        self.records = {product.name: product for product in products}
        self._first = next(iter(self.models.values()))

    @classmethod
    def load(cls, folder: Path, load: Callable[[Path], Any]) -> ProductModels:
        """Load all products of a folder; raises ``ArtifactError`` where one is broken."""
        products = read_products(folder)
        return cls({p.name: load(folder / p.folder) for p in products}, products)

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products."""
        return tuple(self.models)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the models look at."""
        modalities: tuple[str, ...] = self._first.modalities
        return modalities

    @property
    def acquisition(self) -> Acquisition | None:
        """How the normal parts were seen, under one lamp.

        Raises ``ConfigurationError`` where products were seen under different lamps.
        """
        seen = [model.acquisition for model in self.models.values()]
        if len({None if one is None else one.lamp for one in seen}) > 1:
            raise ConfigurationError(
                "The products were trained under different lamps, so that their parts cannot be "
                "read together; judge each by itself with --product."
            )
        acquisition: Acquisition | None = seen[0]
        return acquisition

    @property
    def model_hash(self) -> str:
        """SHA-256 over the hashes of all products' models."""
        hashes = [(name, model.model_hash) for name, model in self.models.items()]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    @property
    def promise(self) -> str:
        """What is promised of false alarms of each product, as sentences."""
        return "\n".join(
            f"{name}: {model.alarm_rule.promise}" for name, model in self.models.items()
        )

    def rule_for(self, verdict: Verdict) -> AlarmRule:
        """Return the rule that decided on a part; the first product's of one not judged."""
        model = self.models.get(verdict.product, self._first)
        rule: AlarmRule = model.alarm_rule
        return rule

    def __call__(
        self,
        rgb: Any = None,
        xyz: Any = None,
        *,
        product: str = "",
        depth: Any = None,
        intrinsics: Any = None,
        depth_unit: float | None = None,
        source: str = "",
    ) -> Verdict:
        """Predict the verdict on one part; arguments as of one product's model.

        Args:
            rgb, xyz, depth, intrinsics, depth_unit, source: of the part.
            product: of which it is; "" leaves it to be told.

        Raises:
            DataError: the part does not fit its model, or its product is not clear.
        """
        sample = sample_from_arrays(
            rgb, xyz, depth=depth, intrinsics=intrinsics, depth_unit=depth_unit, source=source
        )
        return self.predict(replace(sample, product=product))

    def predict(self, sample: RGBDSample) -> Verdict:
        """Predict the verdict on one sample; raises ``DataError`` as a call does."""
        product, note = self._named(sample.product, sample.source)
        if product:
            return self._noted(self.models[product].predict(sample), product, note)
        calls = {name: partial(model.predict, sample) for name, model in self.models.items()}
        return self._told(sample.source, calls, {})

    def prepared(
        self,
        rgb: Any = None,
        xyz: Any = None,
        *,
        product: str = "",
        source: str = "",
        **options: Any,
    ) -> Callable[[], Verdict]:
        """Prepare one part, and return a function that predicts its verdict.

        As of a product's exported model; arguments and errors are those of a call.
        """
        named, note = self._named(product, source)
        if named:
            call = self.models[named].prepared(rgb, xyz, source=source, **options)
            return lambda: self._noted(call(), named, note)
        calls: dict[str, Callable[[], Verdict]] = {}
        refused: dict[str, str] = {}
        for name, model in self.models.items():
            try:
                calls[name] = model.prepared(rgb, xyz, source=source, **options)
            except DataError as error:
                refused[name] = str(error)
        return lambda: self._told(source, calls, refused)

    def _named(self, product: str, source: str) -> tuple[str, str]:
        """Return the product that a name or a folder says, and a note on it; "" where none does.

        Raises ``DataError`` for a name that the model does not know.
        """
        if product:
            if product not in self.models:
                raise DataError(
                    f"{source or 'This part'} is of the product {product!r}, which the model does "
                    f"not know; it knows {', '.join(self.models)}."
                )
            return product, ""
        folders = reversed(Path(source).parts[:-1])
        folder = next((part for part in folders if part in self.models), "")
        return folder, f"Product {folder}, as its folder is called." if folder else ""

    def predict_all(
        self, samples: Iterable[RGBDSample | tuple[str, RGBDSample | ChiasmError]]
    ) -> Iterator[Verdict]:
        """Predict the verdicts on many samples, one after the other; see a product's model."""
        return predict_each(self.predict, samples)

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile and run the graphs of exported models once."""
        for model in self.models.values():
            if hasattr(model, "warm_up"):
                model.warm_up(streaming=streaming)

    def close(self) -> None:
        """Free memory and threads of exported models."""
        for model in self.models.values():
            if hasattr(model, "close"):
                model.close()

    def _told(
        self, source: str, calls: Mapping[str, Callable[[], Verdict]], refused: Mapping[str, str]
    ) -> Verdict:
        """Judge a part whose product nothing names by the only model that it is usual to.

        Args:
            source: of the part.
            calls: by product, what returns the verdict of its model.
            refused: by product, why its model does not take the part.
        """
        alike: dict[str, Verdict] = {}
        refused = dict(refused)
        for name, call in calls.items():
            try:
                verdict = call()
            except DataError as error:
                refused[name] = str(error)  # another distance, for example
                continue
            if verdict.anomaly_map is None or level(verdict) <= self.records[name].limit(
                self.models
            ):
                alike[name] = verdict
        what = source or "this part"
        if refused.keys() == self.models.keys():  # no name would help
            reasons = dict.fromkeys(refused.values())
            if len(reasons) == 1:
                raise DataError(next(iter(reasons)))
            said = " ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise DataError(f"No product's model takes {what}. {said}")
        if len(alike) == 1:
            name, verdict = next(iter(alike.items()))
            if self.records[name].clear(self.models):
                return self._noted(
                    verdict, name, f"Product {name}, told by its likeness to normal parts."
                )
        words = "none" if not alike else " and ".join(alike)
        raise DataError(
            f"The product of {what} is not clear: by its looks it may be {words} of "
            f"{', '.join(self.models)}. {self.naming}"
        )

    def _noted(self, verdict: Verdict, product: str, note: str) -> Verdict:
        notes = (note, *verdict.notes) if note else verdict.notes
        parts = tuple(replace(part, product=product) for part in verdict.parts)
        return replace(verdict, product=product, notes=notes, parts=parts)


def measured(
    models: Mapping[str, Any],
    normals: Mapping[str, Iterable[RGBDSample]],
    products: Sequence[Product],
) -> tuple[Product, ...]:
    """Measure how strange the normal parts of each product are to every model.

    Args:
        models: by product.
        normals: calibration parts of some of the products; levels of others are kept.
        products: with what was measured before.
    """
    found = {product.name: product for product in products}
    for origin, samples in normals.items():
        levels: dict[str, list[float]] = {name: [] for name in models}
        for sample in samples:
            for name, model in models.items():
                try:
                    levels[name].append(level(model.predict(sample)))
                except DataError:
                    # A part that a model refuses is none of its own: nothing is nearer.
                    levels[name].append(math.nan if name == origin else math.inf)
        for name, values in levels.items():
            known = [value for value in values if not math.isnan(value)]
            if not known:
                continue
            if name == origin:
                found[name] = replace(found[name], own_level=max(known))
            else:
                # JSON has no infinity.
                least = min(min(known), 1e9)
                others = {**found[name].other_levels, origin: least}
                found[name] = replace(found[name], other_levels=others)
    return tuple(found.values())


def told_apart(products: Sequence[Product]) -> str:
    """Say which products are told without being named."""
    names = [product.name for product in products]
    clear = [product.name for product in products if product.clear(names)]
    if len(clear) == len(names):
        return (
            f"Parts whose product is not named are told by their looks ({', '.join(names)} differ "
            "clearly), at the cost of every model once."
        )
    unclear = [name for name in names if name not in clear]
    return (
        f"Parts of {', '.join(unclear)} must be named (--product, a folder of that name, or a "
        "column product): others look like them. A part that nothing names is refused where it is "
        "not clear."
    )
